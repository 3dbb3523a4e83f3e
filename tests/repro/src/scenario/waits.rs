// SPDX-License-Identifier: GPL-2.0

//! A task waits for the end of a page's writeback, again and again: does it always wake up?
//!
//! For the first rounds the end of writeback is held up just before it clears the bit, which is when
//! the waiter comes; for the next, after the clear and before the wake; in the last, not at all.
//! A waiter that still sleeps when nothing is left to wake it is a wake-up lost. It is then woken
//! by another writeback of the page, so that the guest lives on.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};

use super::line;
use crate::page::Pages;
use crate::setup::{self, Fs};
use crate::sys::{self, PAGE};
use crate::wakewatch::{Target, Wakewatch, Where};

/// How long nothing at all may happen before one looks why.
const LONG: Duration = Duration::from_secs(3);
/// How often the waiter must be found asleep with nothing left to wait for, before its wake-up counts as
/// lost: on a busy host what is late is only late.
const LOOKS: u32 = 4;

struct Driver {
    pages: Pages,
    file: File,
}

impl Driver {
    /// Rounds in which a wake-up was lost.
    fn rounds(&self, rounds: u32) -> Result<u32> {
        let (go, went) = mpsc::channel::<()>();
        let (done, is_done) = mpsc::channel::<()>();
        let mut lost = 0;
        thread::scope(|scope| {
            let id = Arc::new(AtomicI32::new(0));
            let its_id = id.clone();
            let waiter = scope.spawn(move || -> Result<()> {
                its_id.store(sys::thread_id(), Relaxed);
                sys::pin_to_cpu(setup::DRIVER_CPU)?;
                while went.recv().is_ok() {
                    sys::wait_for_writeback(&self.file, 0, PAGE as u64)?;
                    if done.send(()).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            for n in 0..rounds {
                self.file.write_all_at(&[n as u8; PAGE], 0)?;
                sys::start_writeback(&self.file, 0, PAGE as u64)?;
                go.send(()).context("the waiter is gone")?;
                match self.is_done(&is_done, &id)? {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        // A mapping would wait as well.
                        lost += 1;
                        println!("round {n}: nothing is left to wake the waiter, and it sleeps");
                        self.rescue(&is_done)?;
                        if lost == 3 {
                            break;
                        }
                    }
                }
            }
            drop(go);
            match waiter.join() {
                Ok(result) => result,
                Err(_) => bail!("the waiter panicked"),
            }
        })?;
        Ok(lost)
    }

    /// Waits for the waiter; `Timeout` if it sleeps and nothing is left to wake it.
    fn is_done(
        &self,
        done: &mpsc::Receiver<()>,
        waiter: &AtomicI32,
    ) -> Result<Result<(), RecvTimeoutError>> {
        let mut idle = 0;
        loop {
            let end = done.recv_timeout(LONG);
            if end != Err(RecvTimeoutError::Timeout) {
                return Ok(end);
            }
            // It may have been truncated or written anew meanwhile: the page of now.
            let pfn = self.pages.of_file(&self.file, 0)?;
            let waits = self.pages.flags(pfn)?.writeback();
            idle = match line::asleep(waiter.load(Relaxed)) && !waits {
                true => idle + 1,
                false => 0,
            };
            if idle == LOOKS {
                return Ok(end);
            }
        }
    }

    /// PG_waiters is set by now: the end of any writeback of the page wakes.
    fn rescue(&self, is_done: &mpsc::Receiver<()>) -> Result<()> {
        for _ in 0..10 {
            self.file.write_all_at(&[0; PAGE], 0)?;
            sys::start_writeback(&self.file, 0, PAGE as u64)?;
            if is_done.recv_timeout(Duration::from_millis(500)).is_ok() {
                return Ok(());
            }
        }
        bail!("the waiter can't be woken any more")
    }
}

/// Fails if a wake-up was lost.
pub fn run(ww: &Wakewatch, dir: &Path, rounds: u32) -> Result<()> {
    let fs = Fs::at(dir)?;
    fs.split_cpus()?;
    let driver = Driver {
        pages: Pages::open()?,
        file: fs.create("waits")?,
    };
    driver.file.write_all_at(&[1; PAGE], 0)?;
    driver.file.sync_all()?;
    let target = Target {
        dev: fs.dev,
        ino: driver.file.metadata()?.ino(),
        index: Some(0),
    };
    let pfn = driver.pages.of_file(&driver.file, 0)?;
    let mut lost = 0;
    for (place, name) in [
        (Some(Where::BeforeClear), "before the clear"),
        (Some(Where::AfterClear), "after the clear"),
        (None, "not at all"),
    ] {
        let amplify = place
            .map(|place| ww.amplify(place, 2000, &target))
            .transpose()?;
        let before = ww.stat("wake")?;
        let found = driver.rounds(rounds)?;
        println!(
            "{rounds} waits for page {:#x}, its end of writeback held {name}: {} wakes, {found} lost",
            pfn.0,
            ww.stat("wake")? - before,
        );
        lost += found;
        drop(amplify);
    }
    if lost > 0 {
        return Err(crate::Seen("a wake-up was lost").into());
    }
    Ok(())
}
