// SPDX-License-Identifier: GPL-2.0

//! Pages with a late wake-up on its way to them, for whoever allocates next.
//!
//! A reader goes through a file and waits for page after page, as a reader does: without a reference. The
//! end of such a read is held up on [`setup::HELD_CPU`], when it has unlocked the page and is about to wake
//! the reader. The driver, on the other CPU, drops the page, and does at once what it wants to
//! see fail. If that allocates a page of the same kind it is this one, because a CPU's free list is
//! last in, first out; and if that waits for a read into it, the wake-up comes to the wrong one.
//!
//! What the driver reads must not be there by itself when it is woken. Its device's worker is on the held
//! CPU, and behind the delay there is a thread that keeps the worker from it a little longer, so
//! that it makes no difference which of the two CPUs is the faster.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use anyhow::{anyhow, Result};

use crate::setup::{self, Fs};
use crate::sys::{self, Mapping, PAGE};
use crate::wakewatch::{Target, Wakewatch, Where};
use crate::Limits;

/// Of the file that is read.
const PAGES: u64 = 32;
/// The worker is kept from its CPU for no longer: what is not woken by mistake needs it.
const KEEP: Duration = Duration::from_millis(20);

/// A file whose pages are read, dropped, and somebody else's next.
pub struct Feeder {
    file: File,
    target: Target,
}

/// What the driver was given.
pub struct Fed {
    /// Times that it has done what it does.
    pub calls: u32,
    /// Pages that were freed before their wake-up.
    pub freed: u64,
}

/// Ends the other threads with the driver, in whatever way it ends.
struct Stop<'a>(&'a AtomicBool, Thread);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.unpark();
    }
}

#[derive(Default)]
struct Shared {
    /// The page that is being read.
    index: AtomicU64,
    /// The driver is at it.
    busy: AtomicBool,
    stop: AtomicBool,
}

impl Feeder {
    /// Pages of a regular file: movable ones.
    pub fn of_file(fs: &Fs) -> Result<Self> {
        let file = fs.create("feeder")?;
        file.write_all_at(&vec![1; PAGES as usize * PAGE], 0)?;
        file.sync_all()?;
        let target = Target {
            dev: fs.dev,
            ino: file.metadata()?.ino(),
            index: None,
        };
        Ok(Self { file, target })
    }

    fn read(&self, shared: &Shared) -> Result<()> {
        sys::pin_to_cpu(setup::DRIVER_CPU)?;
        let mut buf = [0; PAGE];
        for index in (0..PAGES).cycle() {
            if shared.stop.load(Relaxed) {
                break;
            }
            shared.index.store(index, Relaxed);
            self.file.read_exact_at(&mut buf, index * PAGE as u64)?;
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

    /// Holds windows open for `us`, and in each has a page dropped and calls `victim`, until that says
    /// that it has seen enough.
    pub fn run(
        &self,
        ww: &Wakewatch,
        us: u64,
        limits: &Limits,
        default: u32,
        mut victim: impl FnMut(u32) -> Result<bool>,
    ) -> Result<Fed> {
        sys::drop_cached(&self.file)?;
        // One page a read: those behind it would be delayed as well.
        sys::advise_random(&self.file)?;
        let map = Mapping::of_file(&self.file, PAGES as usize * PAGE)?;
        let shared = &Shared::default();
        let before = ww.delays()?;
        let _amplify = ww.amplify(Where::BeforeWakeOfLocked, us, &self.target)?;
        let begin = Instant::now();
        let mut calls = 0;
        thread::scope(|scope| {
            let keeper = scope.spawn(|| self.keep(shared));
            let stop = Stop(&shared.stop, keeper.thread().clone());
            let reader = scope.spawn(|| self.read(shared));
            // Runs before the reader does.
            sys::realtime(1)?;
            let mut enough = false;
            while limits.allow(calls, default, begin) && !enough && !reader.is_finished() {
                // Lets the reader have the CPU.
                thread::sleep(Duration::from_micros(200));
                let index = shared.index.load(Relaxed) as usize;
                if !map.cached(index)? {
                    continue;
                }
                // Read, and its reader has not been woken yet, or has not run since.
                shared.busy.store(true, Relaxed);
                keeper.thread().unpark();
                sys::drop_cached(&self.file)?;
                let done = victim(calls);
                shared.busy.store(false, Relaxed);
                enough = done?;
                calls += 1;
            }
            sys::ordinary()?;
            drop(stop);
            for thread in [keeper, reader] {
                thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            }
            anyhow::Ok(())
        })?;
        Ok(Fed {
            calls,
            freed: ww.delays()?.freed - before.freed,
        })
    }
}
