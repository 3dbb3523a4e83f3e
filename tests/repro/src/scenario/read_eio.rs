// SPDX-License-Identifier: GPL-2.0

//! A healthy file, and read() says EIO.
//!
//! A page with a late wake-up on its way to it ([`super::feeder`]) becomes another file's, which has blocks
//! smaller than a page: one block of it is written, so the page is in the cache, unlocked and not
//! up to date. Who reads it then has the rest of it read, and waits for that to end; and takes the
//! wake-up of the page's last life for it.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{bail, Context, Result};

use super::feeder::Feeder;
use crate::setup::Fs;
use crate::sys::{self, PAGE};
use crate::wakewatch::Wakewatch;
use crate::Limits;

/// By default.
const CALLS: u32 = 400;

/// Of the file system.
pub const BLOCK: usize = 1024;

/// What is in page `n`, when one block of it has been written again.
pub fn page(n: u64) -> [u8; PAGE] {
    let mut page = [n as u8; PAGE];
    page[..BLOCK].fill(!n as u8);
    page
}

/// Ends at `enough` failed calls.
pub fn run(ww: &Wakewatch, dir: &Path, limits: &Limits, us: u64, enough: u32) -> Result<()> {
    let fs = Fs::at(dir)?;
    fs.split_cpus()?;
    fs.has_blocks_of(BLOCK as u64)?;
    let calls = limits.rounds.unwrap_or(CALLS);
    let file = fs.create("healthy")?;
    for n in 0..u64::from(calls) {
        file.write_all_at(&[n as u8; PAGE], n * PAGE as u64)?;
    }
    file.sync_all()?;
    sys::drop_cached(&file)?;
    let feeder = Feeder::of_file(&fs)?;

    let (mut failed, mut wrong) = (0, 0);
    let mut buf = [0; PAGE];
    let fed = feeder.run(ww, us, limits, CALLS, |n| {
        let n = u64::from(n);
        let page = page(n);
        file.write_all_at(&page[..BLOCK], n * PAGE as u64)?;
        match file.read_exact_at(&mut buf, n * PAGE as u64) {
            Ok(()) => wrong += u32::from(buf != page),
            Err(e) if e.raw_os_error() == Some(libc::EIO) => failed += 1,
            Err(e) => return Err(e).context("pread()"),
        }
        Ok(failed >= enough)
    })?;
    println!(
        "{failed} of {} pread()s said EIO to pid {}; {} pages freed before their wake-up",
        fed.calls,
        sys::thread_id(),
        fed.freed
    );

    let mut again = |when| -> Result<()> {
        for n in 0..u64::from(fed.calls) {
            file.read_exact_at(&mut buf, n * PAGE as u64)
                .with_context(|| format!("page {n}, {when}"))?;
            if buf != page(n) {
                bail!("page {n}, {when}: wrong data");
            }
        }
        println!("{when}: all {} pages read, every byte right", fed.calls);
        Ok(())
    };
    again("from the cache")?;
    file.sync_all()?;
    sys::drop_cached(&file)?;
    again("from the device")?;
    if wrong > 0 {
        bail!("{wrong} pread()s returned wrong data");
    }
    if failed > 0 {
        return Err(crate::Seen("read() said EIO for a healthy file").into());
    }
    Ok(())
}
