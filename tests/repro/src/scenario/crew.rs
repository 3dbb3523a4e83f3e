// SPDX-License-Identifier: GPL-2.0

//! Threads that work on the same files for a while, each in its own way. Errors that they cause
//! each other are part of it; any other one is the scenario's.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};

use super::Random;

/// When it is over.
pub struct Clock {
    begin: Instant,
    end: End,
}

enum End {
    After(Duration),
    /// As soon as this file is there.
    File(PathBuf),
}

impl Clock {
    /// It starts now.
    pub fn after(time: Duration) -> Self {
        Self {
            begin: Instant::now(),
            end: End::After(time),
        }
    }

    /// Somebody else says when.
    pub fn until(file: PathBuf) -> Self {
        Self {
            begin: Instant::now(),
            end: End::File(file),
        }
    }

    pub fn is_over(&self) -> bool {
        match &self.end {
            End::After(time) => self.elapsed() >= *time,
            End::File(file) => file.exists(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }
}

/// One thread's view of the scenario.
pub struct Worker<'a, S> {
    pub shared: &'a S,
    pub random: Random,
    ops: u64,
    clock: &'a Clock,
}

/// What a thread does, until [`Worker::goes_on`] says no.
pub type Work<S> = fn(&mut Worker<S>) -> Result<()>;

impl<S> Worker<'_, S> {
    pub fn goes_on(&mut self) -> bool {
        self.ops += 1;
        !self.clock.is_over()
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

/// Runs them all until `clock` is over, and prints how often each has done something.
pub fn run<S: Sync>(shared: &S, clock: &Clock, work: &[(&str, Work<S>)]) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = work
            .iter()
            .enumerate()
            .map(|(n, &(name, work))| {
                let mut worker = Worker {
                    shared,
                    random: Random::new(n as u64 + 1),
                    ops: 0,
                    clock,
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
