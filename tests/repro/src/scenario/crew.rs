// SPDX-License-Identifier: GPL-2.0

//! Threads that work on the same files for a while, each in its own way. Errors that they cause
//! each other are part of it; any other one is the scenario's.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};

use super::Random;

/// One thread's view of the scenario.
pub struct Worker<'a, S> {
    pub shared: &'a S,
    pub random: Random,
    ops: u64,
    end: Instant,
}

/// What a thread does, until [`Worker::goes_on`] says no.
pub type Work<S> = fn(&mut Worker<S>) -> Result<()>;

impl<S> Worker<'_, S> {
    pub fn goes_on(&mut self) -> bool {
        self.ops += 1;
        Instant::now() < self.end
    }

    /// Up to so many milliseconds.
    pub fn rest(&mut self, ms: u64) {
        thread::sleep(Duration::from_millis(self.random.below(ms)));
    }
}

/// Errors that other workers cause.
pub fn forgive(result: io::Result<()>) -> Result<()> {
    match result {
        Err(e)
            if !matches!(
                e.raw_os_error(),
                Some(libc::ENOSPC | libc::EFAULT | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
            ) =>
        {
            Err(e.into())
        }
        _ => Ok(()),
    }
}

/// Runs them all for `time`, and prints how often each has done something.
pub fn run<S: Sync>(shared: &S, time: Duration, work: &[(&str, Work<S>)]) -> Result<()> {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        let threads: Vec<_> = work
            .iter()
            .enumerate()
            .map(|(n, &(name, work))| {
                let mut worker = Worker {
                    shared,
                    random: Random::new(n as u64 + 1),
                    ops: 0,
                    end,
                };
                let thread = scope.spawn(move || work(&mut worker).map(|()| worker.ops));
                (name, thread)
            })
            .collect();
        for (name, thread) in threads {
            // A thread that the kernel killed leaves no result.
            let ops = thread
                .join()
                .map_err(|_| anyhow!("{name}: the thread died"))?;
            println!("{name}: {}", ops.context(name.to_string())?);
        }
        Ok(())
    })
}
