// SPDX-License-Identifier: GPL-2.0

//! A reader waits for a page that is being read, as a reader does: with no reference to it.
//! When the read is complete the page is unlocked, and before the wake-up reaches the page,
//! another thread drops it.
//!
//! The dropper locks the page for a moment and its unlock wakes the reader as well. Left to
//! itself, the reader would start over at once and get the very page from the free list again,
//! and the late wake-up would find it in use. So the dropper keeps the CPU that they share until
//! the window has closed. With `retake` it does not: then most of these wake-ups are for a page
//! that was freed and allocated again, which no look at the page alone can tell.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Result};

use crate::setup::{self, Fs};
use crate::sys::{self, Mapping, PAGE};
use crate::wakewatch::{Target, Wakewatch, Where};
use crate::Limits;

/// By default.
const ROUNDS: u32 = 20;

const READ_PAGES: u64 = 32;

/// Ends the dropper when the reader ends, in whatever way.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

struct Shared {
    file: File,
    /// The page that is being read.
    index: AtomicU64,
    stop: AtomicBool,
}

/// Returns how many pages it dropped.
fn drop_until(shared: &Shared, keep_cpu: Duration) -> Result<u32> {
    sys::pin_to_cpu(setup::DRIVER_CPU)?;
    // Runs before the reader does.
    sys::realtime(1)?;
    let map = Mapping::of_file(&shared.file, READ_PAGES as usize * PAGE)?;
    let mut drops = 0;
    while !shared.stop.load(Relaxed) {
        // Lets the reader have the CPU.
        thread::sleep(Duration::from_micros(200));
        let index = shared.index.load(Relaxed) as usize;
        if !map.cached(index)? {
            continue;
        }
        // Read, and its reader has not been woken yet, or has not run since.
        sys::drop_cached(&shared.file)?;
        if !map.cached(index)? {
            drops += 1;
            let start = Instant::now();
            while start.elapsed() < keep_cpu {
                std::hint::spin_loop();
            }
        }
    }
    Ok(drops)
}

pub fn run(
    ww: &Wakewatch,
    dir: &Path,
    limits: &Limits,
    us: u64,
    enough: u64,
    retake: bool,
) -> Result<()> {
    let fs = Fs::at(dir)?;
    fs.split_cpus()?;
    let file = fs.create("read")?;
    file.write_all_at(&vec![1; READ_PAGES as usize * PAGE], 0)?;
    file.sync_all()?;
    sys::drop_cached(&file)?;
    // One page a read: those behind it would be delayed as well.
    sys::advise_random(&file)?;

    let target = Target {
        dev: fs.dev,
        ino: file.metadata()?.ino(),
        index: None,
    };
    let shared = Shared {
        file,
        index: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let shared = &shared;
    let _amplify = ww.amplify(Where::BeforeWakeOfLocked, us, &target)?;
    let before = ww.delays()?;
    let start = Instant::now();
    let (mut rounds, mut freed) = (0, 0);
    let drops = thread::scope(|scope| {
        let keep_cpu = Duration::from_micros(if retake { 0 } else { us });
        let dropper = scope.spawn(move || drop_until(shared, keep_cpu));
        let stop = Stop(&shared.stop);
        let mut buf = [0; PAGE];
        'rounds: while limits.allow(rounds, ROUNDS, start) {
            rounds += 1;
            for index in 0..READ_PAGES {
                shared.index.store(index, Relaxed);
                shared.file.read_exact_at(&mut buf, index * PAGE as u64)?;
                freed = ww.delays()?.freed - before.freed;
                if freed >= enough {
                    break 'rounds;
                }
            }
            println!("round {rounds}: {READ_PAGES} pages read, {freed} freed in time so far");
        }
        drop(stop);
        dropper
            .join()
            .map_err(|_| anyhow!("the dropper panicked"))?
    })?;
    println!(
        "done after {:.1} s: {drops} pages dropped, {freed} of them before the wake-up of their \
         reader",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
