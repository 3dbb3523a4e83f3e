// SPDX-License-Identifier: GPL-2.0

//! Who waits for writeback holds a reference until it is woken. But the wake-up at the end of
//! writeback is called for whoever waits for the page, and a reader that waits for the lock of
//! a page that is not up to date holds none.
//!
//! A page has four blocks here. One is dirty, the others are not read yet, and then there come, each
//! behind the other, while the device's worker is kept from its work:
//!
//! 1. a reader of another block, which locks the page and has the rest of it read,
//! 2. who starts writeback of the page, and waits for the lock,
//! 3. a writer, who waits for the lock too,
//! 4. the bystander: a reader, who waits for the lock and drops its reference.
//!
//! An unlock wakes waiters up to the first that wants the lock for itself. So when the read is
//! done it is the second one's turn, and when that one unlocks the page, which is under writeback
//! now, the third one's. This is not let run before writeback has ended, so that there still is the
//! bystander to be woken. Inside the window all of them get done, and the page is truncated,
//! freed, and allocated again for another file.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::line::{self, Hold, Starved, Waiter};
use super::ms;
use crate::page::Pages;
use crate::setup::{self, Fs};
use crate::sys::{self, PAGE};
use crate::wakewatch::{Target, Wakewatch, Where};
use crate::Limits;

/// By default.
const ROUNDS: u32 = 10;

const BLOCK: usize = 1024;

struct Driver {
    pages: Pages,
    file: File,
    second: File,
    /// Empty: dropping its pages drains this CPU's batches.
    drain: File,
    dev: (u32, u32),
}

fn sleep() {
    thread::sleep(Duration::from_millis(1));
}

impl Driver {
    fn round(&self, n: u32, ww: &Wakewatch, us: u64) -> Result<()> {
        for file in [&self.file, &self.second] {
            // Written blocks: ends of writeback for new ones are put off to another context.
            file.write_all_at(&[n as u8; PAGE], 0)?;
            file.sync_all()?;
            sys::drop_cached(file)?;
        }
        self.file.write_all_at(&[!n as u8; BLOCK], 0)?;
        sys::drop_cached(&self.drain)?;

        let target = Target {
            dev: self.dev,
            ino: self.file.metadata()?.ino(),
            index: Some(0),
        };
        let before = ww.delays()?;
        let amplify = ww.amplify(Where::BeforeWakeOfWriteback, us, &target)?;
        thread::scope(|scope| {
            let file = &self.file;
            let read = |block: usize| {
                let mut buf = [0; BLOCK];
                Ok(file.read_exact_at(&mut buf, (block * BLOCK) as u64)?)
            };
            let hold = Hold::cpu(scope, setup::HELD_CPU)?;
            let cpu = setup::DRIVER_CPU;
            let reader = Waiter::start(scope, "the reader", cpu, sleep, move || read(1))?;
            let syncer = Waiter::start(scope, "the syncer", cpu, sleep, || {
                // Goes on while this thread, of the same CPU, waits for what comes of it.
                sys::realtime(2)?;
                Ok(sys::start_writeback(file, 0, PAGE as u64)?)
            })?;
            let writer = Waiter::start(scope, "the writer", cpu, sleep, || {
                Ok(file.write_all_at(&[n as u8; BLOCK], 2 * BLOCK as u64)?)
            })?;
            let bystander = Waiter::start(scope, "the bystander", cpu, sleep, move || read(3))?;

            // Nobody else runs here, but the syncer.
            let starved = Starved::on_cpu(cpu)?;
            sys::realtime(1)?;
            drop(hold);
            line::until_window(ww, before.delays, std::hint::spin_loop)?;
            let start = Instant::now();
            sys::ordinary()?;
            drop(starved);

            // Nothing may need the held CPU.
            for waiter in [reader, syncer, writer, bystander] {
                waiter.join()?;
            }
            let pfn = self.pages.of_file(file, 0)?;
            sys::drop_cached(&self.drain)?;
            file.set_len(0)?;
            self.second.write_all_at(&[n as u8; PAGE], 0)?;
            let took = start.elapsed();
            let got = self.pages.of_file(&self.second, 0)?;
            println!(
                "round {n}: page {:#x} written, and {} into the window truncated; the second file \
                 has {} page",
                pfn.0,
                ms(took),
                if got == pfn { "this" } else { "another" },
            );
            anyhow::Ok(())
        })?;
        // Returns when the window is closed.
        drop(amplify);
        Ok(())
    }
}

pub fn run(ww: &Wakewatch, dir: &Path, limits: &Limits, us: u64, enough: u64) -> Result<()> {
    let fs = Fs::at(dir)?;
    fs.split_cpus()?;
    fs.has_blocks_of(BLOCK as u64)?;
    let driver = Driver {
        pages: Pages::open()?,
        file: fs.create("bystander")?,
        second: fs.create("second")?,
        drain: fs.create("drain")?,
        dev: fs.dev,
    };
    // No page is read that was not asked for.
    sys::advise_random(&driver.file)?;

    limits.until_freed(ww, ROUNDS, enough, |round| driver.round(round, ww, us))
}
