// SPDX-License-Identifier: GPL-2.0

//! Many readers, each waiting for a page of its own, share a few wait queues: a page whose
//! reader is woken while another queue's user still waits keeps PG_waiters, with nobody
//! waiting. The pages are then reclaimed, which unlocks them with their refcount frozen at 0;
//! and because of the stale PG_waiters, it wakes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use anyhow::{anyhow, Result};

use super::crew::Clock;
use super::Random;
use crate::setup::Fs;
use crate::sys::{self, PAGE};

fn read_until(file: &File, pages: u64, seed: u64, clock: &Clock) -> Result<u64> {
    let mut random = Random::new(seed);
    let mut buf = [0; PAGE];
    let mut reads = 0;
    while !clock.is_over() {
        file.read_exact_at(&mut buf, random.below(pages) * PAGE as u64)?;
        reads += 1;
    }
    Ok(reads)
}

pub fn run(dir: &Path, clock: &Clock, readers: usize, size: u64) -> Result<()> {
    let fs = Fs::at(dir)?;
    let file = fs.create("reclaim")?;
    let chunk = vec![1; 1 << 20];
    for n in 0..size {
        file.write_all_at(&chunk, n << 20)?;
    }
    file.sync_all()?;
    sys::advise_random(&file)?;

    let pages = (size << 20) / PAGE as u64;
    let reads = thread::scope(|scope| {
        let file = &file;
        let threads: Vec<_> = (0..readers)
            .map(|n| scope.spawn(move || read_until(file, pages, n as u64 + 1, clock)))
            .collect();
        let mut sum = 0;
        for thread in threads {
            sum += thread.join().map_err(|_| anyhow!("a reader panicked"))??;
        }
        anyhow::Ok(sum)
    })?;
    println!(
        "{reads} pages read by {readers} readers in {:.1} s",
        clock.elapsed().as_secs_f64()
    );
    Ok(())
}
