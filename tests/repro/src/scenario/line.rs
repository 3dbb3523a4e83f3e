// SPDX-License-Identifier: GPL-2.0

//! Threads that queue up, one behind the other, for the same page.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};

use crate::sys;
use crate::wakewatch::Wakewatch;

/// Nothing here takes long, where the host has nothing else to do.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A thread that sleeps in the kernel until it is its turn.
pub struct Waiter<'scope> {
    name: &'static str,
    thread: ScopedJoinHandle<'scope, Result<()>>,
}

impl<'scope> Waiter<'scope> {
    /// Starts `work` on `cpu`, and returns when it sleeps there and can't be interrupted.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        name: &'static str,
        cpu: usize,
        pause: impl Fn(),
        work: impl FnOnce() -> Result<()> + Send + 'scope,
    ) -> Result<Self> {
        let id = Arc::new(AtomicI32::new(0));
        let its_id = id.clone();
        let thread = scope.spawn(move || {
            sys::pin_to_cpu(cpu)?;
            its_id.store(sys::thread_id(), Relaxed);
            work()
        });
        let start = Instant::now();
        // More than once: on its way there it may sleep for something else.
        let mut seen = 0;
        while seen < 3 {
            if thread.is_finished() {
                let why = thread.join().map_err(|_| anyhow!("{name} panicked"))?;
                return Err(why.err().unwrap_or(anyhow!("it did not have to wait"))).context(name);
            }
            if start.elapsed() > LIMIT {
                bail!("{name} does not come to wait");
            }
            seen = if asleep(id.load(Relaxed)) {
                seen + 1
            } else {
                0
            };
            pause();
        }
        Ok(Self { name, thread })
    }

    /// Has it done its work?
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Returns when it has done its work.
    pub fn join(self) -> Result<()> {
        self.thread
            .join()
            .map_err(|_| anyhow!("{} panicked", self.name))?
            .context(self.name)
    }
}

/// Is this thread in uninterruptible sleep?
pub fn asleep(id: i32) -> bool {
    fs::read_to_string(format!("/proc/self/task/{id}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(')')?.1.trim_start().starts_with('D')))
        .unwrap_or(false)
}

/// Of a CPU that a real-time thread keeps, ordinary ones get 50 ms of each second nevertheless (`fair_server`,
/// kernel/sched/deadline.c, 6.12). None while this lives, however long a busy host makes that.
pub struct Starved {
    runtime: PathBuf,
    ns: String,
}

impl Starved {
    /// `None` on a kernel that has nothing of the kind.
    pub fn on_cpu(cpu: usize) -> Result<Option<Self>> {
        let runtime = format!("/sys/kernel/debug/sched/fair_server/cpu{cpu}/runtime");
        let runtime = PathBuf::from(runtime);
        if !runtime.exists() {
            return Ok(None);
        }
        let at = || runtime.display().to_string();
        let ns = fs::read_to_string(&runtime).with_context(at)?;
        fs::write(&runtime, "0").with_context(at)?;
        Ok(Some(Self { runtime, ns }))
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        if let Err(err) = fs::write(&self.runtime, self.ns.trim_end()) {
            println!("{}: {err}", self.runtime.display());
        }
    }
}

/// Keeps ordinary threads, the loop device's worker among them, off a CPU while the value lives.
pub struct Hold {
    over: Arc<AtomicBool>,
    _starved: Option<Starved>,
}

impl Hold {
    /// Returns when `cpu` is held.
    pub fn cpu<'scope>(scope: &'scope Scope<'scope, '_>, cpu: usize) -> Result<Self> {
        let starved = Starved::on_cpu(cpu)?;
        let over = Arc::new(AtomicBool::new(false));
        let on = Arc::new(AtomicBool::new(false));
        let (its_over, its_on) = (over.clone(), on.clone());
        let thread = scope.spawn(move || -> Result<()> {
            sys::pin_to_cpu(cpu)?;
            sys::realtime(1)?;
            its_on.store(true, Relaxed);
            while !its_over.load(Relaxed) {
                std::hint::spin_loop();
            }
            Ok(())
        });
        while !on.load(Relaxed) {
            if thread.is_finished() {
                thread
                    .join()
                    .map_err(|_| anyhow!("the holder panicked"))??;
                bail!("CPU {cpu} is not held");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Self {
            over,
            _starved: starved,
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

/// Returns when another window has been opened than the `before` so far.
pub fn until_window(ww: &Wakewatch, before: u64, pause: impl Fn()) -> Result<()> {
    let start = Instant::now();
    while ww.delays()?.delays == before {
        if start.elapsed() > LIMIT {
            bail!("no window was opened");
        }
        pause();
    }
    Ok(())
}
