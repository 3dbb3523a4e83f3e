// SPDX-License-Identifier: GPL-2.0

//! The page is nobody else's: it stays in its file, and who waits for its writeback is still
//! woken before that has ended.
//!
//! - *own*: the waiter is woken by the end of the very writeback that it waits for, but before the
//!   bit is cleared. What is held open is the time between the two.
//! - *later*: the wake-up is late, as in all these races, and meanwhile another writeback of the page
//!   has been started. Its waiter is woken for the one before.
//!
//! The waiter is fdatasync() of a page that has been made dirty again, which ext4 has a `BUG_ON()`
//! for; or a truncation, which drops the page while the device reads it.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::line::{self, Hold, Waiter};
use super::ms;
use crate::page::Pages;
use crate::setup::{self, Fs};
use crate::sys::{self, PAGE};
use crate::wakewatch::{Target, Wakewatch, Where};
use crate::Limits;

/// By default.
const ROUNDS: u32 = 5;
/// Bytes that are written before the page's second writeback.
const AHEAD: usize = 2 << 20;

/// Who waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Sync,
    Truncation,
}

struct Driver {
    pages: Pages,
    file: File,
    /// Keeps the device's worker busy where a writeback must not end yet.
    ahead: File,
    data: Vec<u8>,
    dev: (u32, u32),
}

fn sleep() {
    thread::sleep(Duration::from_millis(1));
}

impl Driver {
    fn new(dir: &Path) -> Result<Self> {
        let fs = Fs::at(dir)?;
        fs.split_cpus()?;
        let driver = Self {
            pages: Pages::open()?,
            file: fs.create("page")?,
            ahead: fs.create("ahead")?,
            data: vec![3; AHEAD],
            dev: fs.dev,
        };
        // Written blocks: ends of writeback for new ones are put off to another context.
        for file in [&driver.file, &driver.ahead] {
            file.write_all_at(&driver.data, 0)?;
            file.sync_all()?;
        }
        Ok(driver)
    }

    fn target(&self) -> Result<Target> {
        Ok(Target {
            dev: self.dev,
            ino: self.file.metadata()?.ino(),
            index: Some(0),
        })
    }

    fn own(&self, n: u32, ww: &Wakewatch, us: u64, by: By) -> Result<bool> {
        let file = &self.file;
        let data = [n as u8; PAGE];
        file.write_all_at(&data, 0)?;
        let before = ww.delays()?;
        let amplify = ww.amplify(Where::AfterWakeOfWriteback, us, &self.target()?)?;
        let early = thread::scope(|scope| {
            let hold = Hold::cpu(scope, setup::HELD_CPU)?;
            sys::start_writeback(file, 0, PAGE as u64)?;
            let pfn = self.pages.of_file(file, 0)?;
            let cpu = setup::DRIVER_CPU;
            let waiter = match by {
                By::Sync => {
                    file.write_all_at(&data, 0)?;
                    Waiter::start(scope, "fdatasync()", cpu, sleep, || Ok(file.sync_data()?))?
                }
                By::Truncation => {
                    Waiter::start(scope, "truncation", cpu, sleep, || Ok(file.set_len(0)?))?
                }
            };
            drop(hold);
            line::until_window(ww, before.delays, std::hint::spin_loop)?;
            // Whoever is woken runs now; the look is at the page, and takes no lock.
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(us / 2) && !waiter.is_done() {
                thread::yield_now();
            }
            let early = waiter.is_done() && self.pages.flags(pfn)?.writeback();
            waiter.join()?;
            println!(
                "round {n}: the waiter of page {:#x} was woken{}",
                pfn.0,
                if early {
                    " and is done, before the bit is clear"
                } else {
                    ""
                }
            );
            anyhow::Ok(early)
        })?;
        drop(amplify);
        Ok(early)
    }

    fn later(&self, n: u32, ww: &Wakewatch, us: u64, by: By) -> Result<bool> {
        let file = &self.file;
        let data = [n as u8; PAGE];
        self.ahead.write_all_at(&self.data, 0)?;
        file.write_all_at(&data, 0)?;
        let before = ww.delays()?;
        let amplify = ww.amplify(Where::AfterClear, us, &self.target()?)?;
        let early = thread::scope(|scope| {
            let hold = Hold::cpu(scope, setup::HELD_CPU)?;
            sys::start_writeback(file, 0, PAGE as u64)?;
            // Without a waiter some kernels don't wake at all. This one waits for the first writeback,
            // and does not lock the page.
            let first = Waiter::start(scope, "a waiter", setup::DRIVER_CPU, sleep, || {
                Ok(sys::wait_for_writeback(file, 0, PAGE as u64)?)
            })?;
            drop(hold);
            line::until_window(ww, before.delays, std::hint::spin_loop)?;
            let start = Instant::now();

            // Nothing may need the held CPU.
            file.write_all_at(&data, 0)?;
            sys::start_writeback(&self.ahead, 0, AHEAD as u64)?;
            sys::start_writeback(file, 0, PAGE as u64)?;
            let pfn = self.pages.of_file(file, 0)?;
            let again = self.pages.flags(pfn)?.writeback();
            if by == By::Sync {
                file.write_all_at(&data, 0)?;
            }
            println!(
                "round {n}: page {:#x} written, and {} into the window {}; waiting for its writeback",
                pfn.0,
                ms(start.elapsed()),
                if again { "under writeback again" } else { "not written again" },
            );
            match by {
                By::Sync => file.sync_data()?,
                By::Truncation => file.set_len(0)?,
            }
            let early = by == By::Truncation && self.pages.flags(pfn)?.writeback();
            first.join()?;
            anyhow::Ok(early)
        })?;
        drop(amplify);
        Ok(early)
    }
}

/// Fails if a waiter was done before the bit was clear.
pub fn own(ww: &Wakewatch, dir: &Path, limits: &Limits, us: u64, by: By) -> Result<()> {
    let driver = Driver::new(dir)?;
    let start = Instant::now();
    let (mut rounds, mut early) = (0, 0);
    while limits.allow(rounds, ROUNDS, start) {
        rounds += 1;
        early += u32::from(driver.own(rounds, ww, us, by)?);
    }
    println!("{rounds} rounds, {early} waiters done before the bit was clear");
    if early > 0 {
        return Err(crate::Seen("a waiter was done before the bit was clear").into());
    }
    Ok(())
}

/// Fails if a truncation dropped the page under writeback.
pub fn later(ww: &Wakewatch, dir: &Path, limits: &Limits, us: u64, by: By) -> Result<()> {
    let driver = Driver::new(dir)?;
    let start = Instant::now();
    let mut rounds = 0;
    while limits.allow(rounds, ROUNDS, start) {
        rounds += 1;
        if driver.later(rounds, ww, us, by)? {
            return Err(crate::Seen("a page was dropped under writeback").into());
        }
    }
    println!("survived {rounds} rounds");
    Ok(())
}
