// SPDX-License-Identifier: GPL-2.0

//! Two files of a page each. Inside the window that opens when the first one's writeback
//! ends, its page is dropped. The free list of a CPU is last in, first out: the page is the
//! next to be allocated, for the second file. That one is put under writeback, which can't
//! end while the other CPU is held, made dirty again, and fdatasync() has to wait for the
//! writeback before it can start another. The wake-up that belongs to the first file then
//! reaches this waiter.
//!
//! Or the second file is truncated: the waiter then drops a page that the device still has to read.
//!
//! Between that wake-up and the waiter's look at the bit, the second file's writeback must not
//! end after all. A third file's goes before it, and keeps the device's worker busy.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::{line, ms};
use crate::page::Pages;
use crate::setup::Fs;
use crate::sys::{self, PAGE};
use crate::wakewatch::{Target, Wakewatch, Where};
use crate::{Limits, Seen};

/// By default.
const ROUNDS: u32 = 30;

/// Bytes of the third file.
const THIRD: usize = 2 << 20;

struct Driver {
    pages: Pages,
    first: File,
    second: File,
    /// Written before the second one.
    third: File,
    /// Empty: dropping its pages drains this CPU's batches.
    drain: File,
    /// The third file's.
    data: Vec<u8>,
    /// Is the waiter a truncation?
    truncate: bool,
}

impl Driver {
    /// Was a page dropped under writeback?
    fn round(&self, n: u32) -> Result<bool> {
        let data = [n as u8; PAGE];

        // The second file must have to allocate its page.
        sys::drop_cached(&self.second)?;

        self.third.write_all_at(&self.data, 0)?;
        self.first.write_all_at(&data, 0)?;
        let pfn = self.pages.of_file(&self.first, 0)?;
        sys::drop_cached(&self.drain)?;

        let start = Instant::now();
        sys::start_writeback(&self.first, 0, PAGE as u64)?;
        self.pages.spin_until_written(pfn, line::LIMIT)?;
        let clear = start.elapsed();

        // The window is open. From here to fdatasync() nothing may need the held CPU, and
        // nothing but the second file may allocate a page.
        sys::drop_cached(&self.first)?;
        self.second.write_all_at(&data, 0)?;
        sys::start_writeback(&self.third, 0, THIRD as u64)?;
        sys::start_writeback(&self.second, 0, PAGE as u64)?;
        let got = self.pages.of_file(&self.second, 0)?;
        let again = self.pages.flags(got)?.writeback();
        if !self.truncate {
            self.second.write_all_at(&data, 0)?;
        }
        println!(
            "round {n}: page {:#x} written after {}, dropped; {:.1} ms later the second file has \
             {} page{}; waiting for its writeback",
            pfn.0,
            ms(clear),
            (start.elapsed() - clear).as_secs_f64() * 1e3,
            if got == pfn { "this" } else { "another" },
            if again { ", under writeback" } else { "" },
        );
        if !self.truncate {
            self.second.sync_data()?;
            return Ok(false);
        }
        self.second.set_len(0)?;
        let dropped = self.pages.flags(got)?.writeback();
        println!(
            "round {n}: page {:#x} truncated{}",
            got.0,
            if dropped {
                ", and still under writeback"
            } else {
                ""
            }
        );
        // Written blocks again.
        self.second.write_all_at(&data, 0)?;
        self.second.sync_all()?;
        Ok(dropped)
    }
}

/// Fails if a page was dropped under writeback.
pub fn run(ww: &Wakewatch, dir: &Path, limits: &Limits, us: u64, truncate: bool) -> Result<()> {
    let fs = Fs::at(dir)?;
    fs.split_cpus()?;
    let driver = Driver {
        pages: Pages::open()?,
        first: fs.create("first")?,
        second: fs.create("second")?,
        third: fs.create("third")?,
        drain: fs.create("drain")?,
        data: vec![3; THIRD],
        truncate,
    };

    // Written blocks: ends of writeback for new ones are put off to another context, and the
    // second file's might then overtake the window.
    for file in [&driver.first, &driver.second, &driver.third] {
        file.write_all_at(&driver.data, 0)?;
        file.sync_all()?;
    }
    driver.first.set_len(PAGE as u64)?;
    driver.second.set_len(PAGE as u64)?;

    let target = Target {
        dev: fs.dev,
        ino: driver.first.metadata()?.ino(),
        index: Some(0),
    };
    let _amplify = ww.amplify(Where::AfterClear, us, &target)?;
    let start = Instant::now();
    let mut rounds = 0;
    while limits.allow(rounds, ROUNDS, start) {
        rounds += 1;
        if driver.round(rounds)? {
            return Err(Seen("a page was dropped under writeback").into());
        }
    }
    println!(
        "survived {rounds} rounds in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
