// SPDX-License-Identifier: GPL-2.0

//! A file several times the size of a huge page, of which one page is written back. It is
//! one whose neighbours in memory, all that a huge page would cover, belong to the file as
//! well. Inside the window the file is truncated, so that these pages merge to a free block,
//! and most of the free memory is taken by a file on tmpfs: one of its huge pages covers the
//! page whose writeback has just ended.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{line, ms};
use crate::page::{Pages, Pfn};
use crate::setup::{self, Fs};
use crate::sys::{self, PAGE};
use crate::wakewatch::{Target, Wakewatch, Where};
use crate::Limits;

/// By default.
const ROUNDS: u32 = 10;

const SIZE: usize = 16 << 20;
/// Of a huge page.
const HUGE_PAGES: u64 = 512;
/// Left to the rest of the guest.
const SPARE: u64 = 96 << 20;

struct Driver {
    pages: Pages,
    file: File,
    /// On tmpfs.
    taker: File,
    drain: File,
    data: Vec<u8>,
    dev: (u32, u32),
}

fn free_memory() -> Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = info
        .lines()
        .find_map(|line| line.strip_prefix("MemFree:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
        .context("no MemFree in /proc/meminfo")?;
    Ok(kib << 10)
}

impl Driver {
    /// The index and the page in the middle of a block that a huge page can be made of, and that
    /// is all the file's.
    fn choose(&self) -> Result<Option<(u64, Pfn)>> {
        let pfns = self.pages.of_range(&self.file, SIZE / PAGE)?;
        let mut blocks: HashMap<u64, Vec<u64>> = HashMap::new();
        for (index, pfn) in pfns.iter().enumerate() {
            blocks
                .entry(pfn.0 / HUGE_PAGES)
                .or_default()
                .push(index as u64);
        }
        // The first to be truncated: the pages freed last may stay behind on this CPU's own
        // free list.
        let whole = blocks
            .into_values()
            .filter(|b| b.len() as u64 == HUGE_PAGES);
        Ok(whole
            .min_by_key(|block| block.iter().max().copied())
            .map(|block| {
                let index = block[block.len() / 2];
                (index, pfns[index as usize])
            }))
    }

    /// Returns whether a huge page was made of the page inside the window.
    fn round(&self, n: u32, ww: &Wakewatch, us: u64) -> Result<bool> {
        // A page at a time: of what is written at once, ext4 of 7.3 makes one folio, whose page would be the head of
        // the huge page, too.
        for (index, page) in self.data.chunks(PAGE).enumerate() {
            self.file.write_all_at(page, (index * PAGE) as u64)?;
        }
        // Blocks that are written already: see order0.
        self.file.sync_all()?;
        let Some((index, pfn)) = self.choose()? else {
            println!("round {n}: the file has no huge page's worth of memory in one piece");
            self.file.set_len(0)?;
            fs::write("/proc/sys/vm/compact_memory", "1").context("compacting memory")?;
            return Ok(false);
        };
        let offset = index * PAGE as u64;
        self.file.write_all_at(&self.data[..PAGE], offset)?;
        sys::drop_cached(&self.drain)?;
        let take = (free_memory()?.saturating_sub(SPARE)).min(sys::fs_available(&self.taker)?);
        let target = Target {
            dev: self.dev,
            ino: self.file.metadata()?.ino(),
            index: Some(index),
        };
        let _amplify = ww.amplify(Where::AfterClear, us, &target)?;

        let start = Instant::now();
        sys::start_writeback(&self.file, offset, PAGE as u64)?;
        self.pages.spin_until_written(pfn, line::LIMIT)?;
        let clear = start.elapsed();

        // The window is open. Nothing may need the held CPU.
        self.file.set_len(0)?;
        let truncated = start.elapsed() - clear;
        let full = sys::allocate(&self.taker, 0, take).err();
        let taken = start.elapsed() - clear;
        let flags = self.pages.flags(pfn)?;
        println!(
            "round {n}: page {:#x} written after {}; truncated {}, {} MB taken {} after that; \
             it is now {}{}",
            pfn.0,
            ms(clear),
            ms(truncated),
            take >> 20,
            ms(taken),
            flags.kind(),
            full.map_or(String::new(), |e| format!(" ({e})")),
        );

        // The huge pages have to stay until the window has closed.
        setup::wait_for_held_cpu()?;
        let held = start.elapsed() - clear;
        self.taker.set_len(0)?;
        println!("round {n}: survived a window of {}", ms(held));
        Ok(flags.is_tail())
    }
}

pub fn run(ww: &Wakewatch, dir: &Path, shm: &Path, limits: &Limits, us: u64) -> Result<()> {
    let fs = Fs::at(dir)?;
    setup::huge_tmpfs(shm)?;
    fs.split_cpus()?;
    let taker = shm.join("taker");
    let driver = Driver {
        pages: Pages::open()?,
        file: fs.create("tail")?,
        taker: OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&taker)
            .with_context(|| taker.display().to_string())?,
        drain: fs.create("drain")?,
        data: vec![1; SIZE],
        dev: fs.dev,
    };
    let start = Instant::now();
    let (mut rounds, mut tails) = (0, 0);
    while limits.allow(rounds, ROUNDS, start) {
        rounds += 1;
        tails += u32::from(driver.round(rounds, ww, us)?);
    }
    println!(
        "survived {rounds} rounds in {:.1} s, {tails} with a huge page over the page",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
