// SPDX-License-Identifier: GPL-2.0

//! A write into a part of a page that has to be read first keeps the page locked all the while,
//! and a reader waits for it with no reference. When the write unlocks the page, and before the
//! wake-up reaches the page, it is written back and dropped.
//!
//! Who drops the page keeps the CPU until the window has closed, so that the page stays free; or
//! else another file gets it.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};

use super::line::{self, Hold, Waiter};
use super::ms;
use crate::page::Pages;
use crate::setup::{self, Fs};
use crate::sys::{self, Mapping, PAGE};
use crate::wakewatch::{Target, Wakewatch, Where};
use crate::Limits;

/// By default.
const ROUNDS: u32 = 10;

/// Here the window is in the writer's own context, and completions aren't to be held.
const WINDOW_CPU: usize = setup::DRIVER_CPU;
const COMPLETION_CPU: usize = setup::HELD_CPU;

struct Driver {
    pages: Pages,
    file: File,
    /// Gets the page, if it is to be used again.
    second: Option<File>,
    /// Empty: dropping its pages drains this CPU's batches.
    drain: File,
    dev: (u32, u32),
}

fn sleep() {
    thread::sleep(Duration::from_micros(200));
}

impl Driver {
    fn round(&self, n: u32, ww: &Wakewatch, us: u64) -> Result<()> {
        let file = &self.file;
        file.write_all_at(&[n as u8; PAGE], 0)?;
        file.sync_all()?;
        let map = Mapping::of_page(file, 0)?;
        sys::drop_cached(file)?;
        if let Some(second) = &self.second {
            second.set_len(0)?;
        }
        if map.cached(0)? {
            bail!("the page can't be dropped");
        }

        let target = Target {
            dev: self.dev,
            ino: file.metadata()?.ino(),
            index: Some(0),
        };
        let before = ww.delays()?;
        let amplify = ww.amplify(Where::BeforeFirstWakeOfLocked, us, &target)?;
        thread::scope(|scope| {
            // The read that the writer needs isn't done before this is over.
            let hold = Hold::cpu(scope, COMPLETION_CPU)?;
            let cpu = WINDOW_CPU;
            let writer = Waiter::start(scope, "the writer", cpu, sleep, || {
                Ok(file.write_all_at(&[!n as u8; 100], 50)?)
            })?;
            let reader = Waiter::start(scope, "the reader", cpu, sleep, || {
                // The writer's page is in a batch of this CPU, which holds a reference.
                sys::drop_cached(&self.drain)?;
                Ok(file.read_exact_at(&mut [0; PAGE], 0)?)
            })?;

            // Before whatever else runs there, the holder included.
            sys::realtime(2)?;
            sys::pin_to_cpu(COMPLETION_CPU)?;
            drop(hold);
            line::until_window(ww, before.delays, sleep)?;
            let start = Instant::now();
            let pfn = self.pages.of_file(file, 0)?;
            sys::start_writeback(file, 0, PAGE as u64)?;
            while self.pages.flags(pfn)?.writeback() {
                if start.elapsed() > line::LIMIT {
                    bail!("page {:#x} stays under writeback", pfn.0);
                }
                sleep();
            }
            sys::drop_cached(file)?;
            if let Some(second) = &self.second {
                second.write_all_at(&[n as u8; PAGE], 0)?;
            }
            let (cached, took) = (map.cached(0)?, start.elapsed());
            while start.elapsed() < Duration::from_micros(us) {
                std::hint::spin_loop();
            }
            println!(
                "round {n}: page {:#x} {} {} after its window was opened",
                pfn.0,
                if cached { "still cached" } else { "dropped" },
                ms(took),
            );
            sys::ordinary()?;
            sys::pin_to_cpu(WINDOW_CPU)?;
            writer.join()?;
            reader.join()
        })?;
        drop(amplify);
        Ok(())
    }
}

pub fn run(
    ww: &Wakewatch,
    dir: &Path,
    limits: &Limits,
    us: u64,
    enough: u64,
    reuse: bool,
) -> Result<()> {
    let fs = Fs::at(dir)?;
    fs.split_cpus()?;
    let driver = Driver {
        pages: Pages::open()?,
        file: fs.create("write")?,
        second: reuse.then(|| fs.create("second")).transpose()?,
        drain: fs.create("drain")?,
        dev: fs.dev,
    };
    // No page is read that was not asked for.
    sys::advise_random(&driver.file)?;

    limits.until_freed(ww, ROUNDS, enough, |round| driver.round(round, ww, us))
}
