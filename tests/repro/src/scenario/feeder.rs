// SPDX-License-Identifier: GPL-2.0

//! Pages with a late wake-up on its way to them, for whoever allocates next.
//!
//! A reader goes through a file and waits for page after page, as a reader does: without a reference. The
//! end of such a read is held up on [`setup::HELD_CPU`], when it has unlocked the page and is about to wake
//! the reader. On the other CPU the dropper drops the page, and lets the victim make its call at
//! once. If that allocates a page of the same kind it is this one, because a CPU's free list is last in,
//! first out; and if it waits for a read into it, the wake-up comes to the wrong one.
//!
//! What the victim reads must not be there by itself when it is woken. Its device's worker is on the held
//! CPU, and behind the delay there is a thread that keeps the worker from it a little longer, so
//! that it makes no difference which of the two CPUs is the faster.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::Mutex;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};

use super::victim::Victim;
use crate::setup::{self, Fs};
use crate::sys::{self, Aio, Mapping, PAGE};
use crate::wakewatch::{Target, Wakewatch, Where};
use crate::Limits;

/// Of the file that is read.
const PAGES: u64 = 32;
const LEN: usize = PAGES as usize * PAGE;
/// The worker is kept from its CPU for no longer: what is not woken by mistake needs it.
const KEEP: Duration = Duration::from_millis(20);

/// What takes the last reference away.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// posix_fadvise(POSIX_FADV_DONTNEED)
    #[default]
    Fadvise,
    /// A truncation
    Truncate,
    /// An O_DIRECT write of the page that is cached
    Direct,
    /// Reclaim of a mapped page, by MADV_PAGEOUT
    Reclaim,
}

/// A file whose pages are read, dropped, and somebody else's next.
pub struct Feeder {
    file: File,
    /// The same, for direct I/O.
    direct: Option<File>,
    /// Empty: dropping its pages drains this CPU's batches.
    drain: Option<File>,
    delayed: Delayed,
    by: By,
    /// Who reads and drops, if not root.
    user: Option<u32>,
}

/// The pages whose wake-ups are held up.
enum Delayed {
    Of(Target),
    /// Of a block device, by its number.
    Device(u64),
}

/// What the victim was given.
pub struct Fed {
    /// Calls that it has made.
    pub calls: u32,
    /// And those that came to a wrong answer.
    pub wrong: u32,
    /// Pages that were freed before their wake-up.
    pub freed: u64,
    /// The task that made the calls.
    pub victim: i32,
}

#[derive(Default)]
struct Shared {
    /// The page that is being read.
    index: AtomicU64,
    /// The victim is at it.
    busy: AtomicBool,
    stop: AtomicBool,
}

/// Ends the other threads with the dropper, in whatever way it ends.
struct Stop<'a>(&'a Shared, Vec<Thread>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, SeqCst);
        self.1.iter().for_each(Thread::unpark);
    }
}

/// What the victim's thread has come to.
#[derive(Default)]
struct Called {
    /// Its number, when it has one.
    id: Option<i32>,
    answer: Option<Result<bool>>,
}

impl Feeder {
    /// Pages of a regular file in `dir`: movable ones.
    pub fn of_file(dir: &Path, by: By, user: Option<u32>) -> Result<Self> {
        let fs = Fs::at(dir)?;
        fs.split_cpus()?;
        let mut file = fs.create("feeder")?;
        file.write_all_at(&vec![1; LEN], 0)?;
        file.sync_all()?;
        let target = Target {
            dev: fs.dev,
            ino: file.metadata()?.ino(),
            index: None,
        };
        if let Some(user) = user {
            // Everybody may read it.
            let path = dir.join("feeder");
            file = sys::as_user(user, || File::open(&path)).context("as another user")?;
        }
        let direct = (by == By::Direct)
            .then(|| {
                OpenOptions::new()
                    .write(true)
                    .custom_flags(libc::O_DIRECT)
                    .open(dir.join("feeder"))
            })
            .transpose()?;
        Ok(Self {
            file,
            direct,
            drain: Some(fs.create("drain")?),
            delayed: Delayed::Of(target),
            by,
            user,
        })
    }

    /// Pages of a block device, as it is read without a file system: ones that can't be moved.
    pub fn of_device(device: &Path) -> Result<Self> {
        let file = File::open(device).with_context(|| device.display().to_string())?;
        let rdev = file.metadata()?.rdev();
        let number = (u64::from(libc::major(rdev)) << 20) | u64::from(libc::minor(rdev));
        Ok(Self {
            file,
            direct: None,
            drain: None,
            delayed: Delayed::Device(number),
            by: By::Fadvise,
            user: None,
        })
    }

    fn read(&self, shared: &Shared) -> Result<()> {
        sys::pin_to_cpu(setup::DRIVER_CPU)?;
        if let Some(user) = self.user {
            sys::become_user(user)?;
        }
        let mut buf = [0; PAGE];
        for index in (0..PAGES).cycle() {
            if shared.stop.load(Relaxed) {
                break;
            }
            shared.index.store(index, Relaxed);
            // It may be shorter now.
            self.file.read_at(&mut buf, index * PAGE as u64)?;
        }
        Ok(())
    }

    /// Keeps the device's worker off the CPU that the delay has just let go.
    fn keep(&self, shared: &Shared) -> Result<()> {
        sys::pin_to_cpu(setup::HELD_CPU)?;
        sys::realtime(1)?;
        while !shared.stop.load(Relaxed) {
            thread::park();
            let start = Instant::now();
            while shared.busy.load(Relaxed) && start.elapsed() < KEEP {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// Makes what [`Feeder::drop_page`] has taken away be there again, on the device.
    fn restore(&self) -> Result<()> {
        if self.by == By::Truncate {
            self.file.write_all_at(&[1; LEN], 0)?;
            self.file.sync_all()?;
        }
        // A page that was not dropped in its window makes no other.
        Ok(sys::drop_cached(&self.file)?)
    }

    fn drop_page(&self, index: u64, map: &Mapping, aio: &Option<(Aio, Mapping)>) -> Result<()> {
        let offset = index * PAGE as u64;
        match (self.by, self.user, aio) {
            (By::Fadvise, Some(user), _) => sys::as_user(user, || sys::drop_cached(&self.file))?,
            (By::Fadvise, None, _) => sys::drop_cached(&self.file)?,
            (By::Truncate, ..) => self.file.set_len(offset)?,
            (By::Direct, _, Some((aio, page))) => {
                let file = self.direct.as_ref().context("not open for direct I/O")?;
                aio.write(file, page, offset)?;
            }
            (By::Direct, _, None) => bail!("no context for direct I/O"),
            (By::Reclaim, ..) => {
                map.populate_read(offset as usize, PAGE)?;
                // A page in a batch is not reclaimed.
                self.drain.as_ref().map(sys::drop_cached).transpose()?;
                map.page_out(offset as usize, PAGE)?;
            }
        }
        Ok(())
    }

    /// Holds windows open for `us`, and in each has a page dropped and `victim` make a call, until
    /// `enough` of them were wrong.
    pub fn run(
        &self,
        ww: &Wakewatch,
        us: u64,
        limits: &Limits,
        enough: u32,
        victim: &mut dyn Victim,
    ) -> Result<Fed> {
        sys::pin_to_cpu(setup::DRIVER_CPU)?;
        sys::drop_cached(&self.file)?;
        // One page a read: those behind it would be delayed as well.
        sys::advise_random(&self.file)?;
        let map = Mapping::of_file_to_read(&self.file, LEN)?;
        let aio = match self.by {
            By::Direct => {
                let page = Mapping::anonymous(PAGE)?;
                page.fill(1)?;
                Some((Aio::new()?, page))
            }
            _ => None,
        };
        let (calls_at_most, user) = (victim.calls(), victim.user());
        let victim = &Mutex::new(victim);
        let called = &Mutex::new(Called::default());
        let shared = &Shared::default();
        let before = ww.delays()?;
        let _amplify = match &self.delayed {
            Delayed::Of(target) => ww.amplify(Where::BeforeWakeOfLocked, us, target)?,
            Delayed::Device(number) => ww.amplify_reads_of_device(us, *number)?,
        };
        let begin = Instant::now();
        let (mut calls, mut wrong) = (0, 0);
        let dropper = &thread::current();
        let id = thread::scope(|scope| {
            let keeper = scope.spawn(|| self.keep(shared));
            let caller = scope.spawn(move || -> Result<()> {
                sys::pin_to_cpu(setup::DRIVER_CPU)?;
                // As soon as it is told to.
                sys::realtime(2)?;
                if let Some(user) = user {
                    sys::become_user(user)?;
                }
                called.lock().expect(WHOLE).id = Some(sys::thread_id());
                dropper.unpark();
                let mut n = 0;
                loop {
                    thread::park();
                    if shared.stop.load(SeqCst) {
                        return Ok(());
                    }
                    if !shared.busy.load(SeqCst) {
                        continue;
                    }
                    let answer = victim.lock().expect(WHOLE).call(n);
                    shared.busy.store(false, SeqCst);
                    n += 1;
                    called.lock().expect(WHOLE).answer = Some(answer);
                    dropper.unpark();
                }
            });
            let stop = Stop(
                shared,
                vec![keeper.thread().clone(), caller.thread().clone()],
            );
            while called.lock().expect(WHOLE).id.is_none() && !caller.is_finished() {
                thread::park_timeout(Duration::from_millis(10));
            }
            let reader = scope.spawn(|| self.read(shared));
            // Runs before the reader does.
            sys::realtime(1)?;
            while wrong < enough && limits.allow(calls, calls_at_most, begin) {
                self.restore()?;
                victim.lock().expect(WHOLE).prepare(calls)?;
                let opened = ww.stat("delays")?;
                let index = loop {
                    if reader.is_finished() || caller.is_finished() {
                        break None;
                    }
                    if begin.elapsed() > Duration::from_secs(limits.seconds) {
                        break None;
                    }
                    // Lets the reader have the CPU.
                    thread::sleep(Duration::from_micros(200));
                    let index = shared.index.load(Relaxed);
                    // Read, and its reader has not been woken yet.
                    if map.cached(index as usize)? && ww.stat("delays")? > opened {
                        break Some(index);
                    }
                };
                let Some(index) = index else { break };
                self.drop_page(index, &map, &aio)?;
                shared.busy.store(true, SeqCst);
                caller.thread().unpark();
                keeper.thread().unpark();
                let answer = loop {
                    if let Some(answer) = called.lock().expect(WHOLE).answer.take() {
                        break answer;
                    }
                    if caller.is_finished() {
                        break Err(anyhow!("the victim's thread has ended"));
                    }
                    thread::park_timeout(Duration::from_secs(1));
                }?;
                if let Some((aio, _)) = &aio {
                    aio.wait()?;
                }
                calls += 1;
                wrong += u32::from(answer);
                victim.lock().expect(WHOLE).after(calls - 1, answer)?;
            }
            sys::ordinary()?;
            drop(stop);
            let id = called.lock().expect(WHOLE).id;
            for thread in [keeper, caller, reader] {
                thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            }
            id.context("no victim")
        })?;
        Ok(Fed {
            calls,
            wrong,
            freed: ww.delays()?.freed - before.freed,
            victim: id,
        })
    }
}

/// Of a lock that nobody holds who panics.
const WHOLE: &str = "not poisoned";
