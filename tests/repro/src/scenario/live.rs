// SPDX-License-Identifier: GPL-2.0

//! The live read race, left to itself: nothing is delayed, nobody is kept to a CPU, and how often it is lost is
//! what comes out.
//!
//! Readers go through one file. Somebody else drops its pages, and takes the next one that he gets for another
//! file and reads that, with the page in the cache and not up to date ([`super::victim::read`]): a late wake-up
//! that reaches him is an EIO.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use super::crew::{self, Clock, Work, Worker};
use super::victim::read::{page, BLOCK};
use crate::setup::{self, Fs};
use crate::sys::{self, PAGE};

/// Of the file that is read and dropped.
const PAGES: u64 = 64;
/// Of the file that is healthy.
const HEALTHY: u64 = 256;
/// How long the task with real-time priority runs, and rests.
const TURN: Duration = Duration::from_millis(1);

/// What goes on besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Beside {
    Nothing,
    /// A task with real-time priority on the CPU that ends the reads, a millisecond in two
    Realtime,
    /// Timers on that CPU, as many as it takes
    Interrupts,
}

struct Shared {
    dropped: File,
    healthy: File,
    /// Reads of the healthy file, and those of them that failed.
    reads: AtomicU64,
    failed: AtomicU64,
    /// Reads of the other one that failed.
    others_failed: AtomicU64,
    over: AtomicBool,
}

/// Was it EIO? Any other error ends the scenario.
fn eio(result: std::io::Result<()>, what: &'static str) -> Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(e) if e.raw_os_error() == Some(libc::EIO) => Ok(true),
        Err(e) => Err(e).context(what),
    }
}

fn read(worker: &mut Worker<Shared>) -> Result<()> {
    let mut buf = [0; PAGE];
    while worker.goes_on() {
        let at = worker.random.below(PAGES) * PAGE as u64;
        if eio(
            worker.shared.dropped.read_exact_at(&mut buf, at),
            "a reader",
        )? {
            worker.shared.others_failed.fetch_add(1, Relaxed);
        }
    }
    Ok(())
}

fn drop_and_read(worker: &mut Worker<Shared>) -> Result<()> {
    let shared = worker.shared;
    let mut buf = [0; PAGE];
    'all: loop {
        for n in 0..HEALTHY {
            if !worker.goes_on() {
                break 'all;
            }
            let right = page(n);
            let at = n * PAGE as u64;
            sys::drop_cached(&shared.dropped)?;
            shared.healthy.write_all_at(&right[..BLOCK], at)?;
            shared.reads.fetch_add(1, Relaxed);
            if eio(
                shared.healthy.read_exact_at(&mut buf, at),
                "the healthy file",
            )? {
                shared.failed.fetch_add(1, Relaxed);
            } else if buf != right {
                bail!("page {n} of the healthy file: wrong data");
            }
        }
        shared.healthy.sync_all()?;
        sys::drop_cached(&shared.healthy)?;
    }
    shared.over.store(true, Relaxed);
    Ok(())
}

fn beside(what: Beside, over: &AtomicBool) -> Result<()> {
    if what == Beside::Nothing {
        return Ok(());
    }
    sys::pin_to_cpu(setup::HELD_CPU)?;
    sys::realtime(1)?;
    while !over.load(Relaxed) {
        match what {
            Beside::Realtime => {
                let start = Instant::now();
                while start.elapsed() < TURN {
                    std::hint::spin_loop();
                }
                thread::sleep(TURN);
            }
            // The shortest there is: each is an interrupt.
            _ => thread::sleep(Duration::from_nanos(1)),
        }
    }
    Ok(())
}

pub fn run(dir: &Path, clock: &Clock, readers: usize, what: Beside) -> Result<()> {
    let fs = Fs::at(dir)?;
    fs.has_blocks_of(BLOCK as u64)?;
    let dropped = fs.create("dropped")?;
    dropped.write_all_at(&vec![1; PAGES as usize * PAGE], 0)?;
    dropped.sync_all()?;
    sys::advise_random(&dropped)?;
    let healthy = fs.create("healthy")?;
    for n in 0..HEALTHY {
        healthy.write_all_at(&page(n), n * PAGE as u64)?;
    }
    healthy.sync_all()?;
    sys::drop_cached(&healthy)?;
    let shared = Shared {
        dropped,
        healthy,
        reads: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        others_failed: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let mut work: Vec<(&str, Work<Shared>)> = vec![("the healthy file", drop_and_read)];
    work.extend((0..readers).map(|_| ("a reader", read as Work<Shared>)));
    thread::scope(|scope| {
        let other = scope.spawn(|| beside(what, &shared.over));
        let done = crew::run(&shared, clock, &work);
        shared.over.store(true, Relaxed);
        other
            .join()
            .map_err(|_| anyhow::anyhow!("what goes on besides panicked"))??;
        done
    })?;
    println!(
        "{} of {} reads of a healthy file said EIO, and {} of those of the other one; {:.0} s",
        shared.failed.load(Relaxed),
        shared.reads.load(Relaxed),
        shared.others_failed.load(Relaxed),
        clock.elapsed().as_secs_f64()
    );
    Ok(())
}
