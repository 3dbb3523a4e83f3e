// SPDX-License-Identifier: GPL-2.0

//! Writes one page and syncs it. No window, no race, and nothing left that could hold a
//! reference when writeback ends, so that a kernel that takes none is seen to take none.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use super::{line, ms};
use crate::page::Pages;
use crate::setup::Fs;
use crate::sys::{self, PAGE};

pub fn run(dir: &Path) -> Result<()> {
    let fs = Fs::at(dir)?;
    fs.split_cpus()?;
    let pages = Pages::open()?;
    let drain = fs.create("drain")?;
    let file = fs.create("file")?;

    file.write_all_at(&[1; PAGE], 0)?;
    let pfn = pages.of_file(&file, 0)?;
    // Out of the batches of this CPU: they hold references.
    sys::drop_cached(&drain)?;

    // Not fsync() at once: its wait for the page holds a reference as well.
    sys::start_writeback(&file, 0, PAGE as u64)?;
    let took = pages.spin_until_written(pfn, line::LIMIT)?;
    file.sync_all()?;
    println!(
        "wrote and synced page {:#x}, under writeback for {}",
        pfn.0,
        ms(took)
    );
    Ok(())
}
