// SPDX-License-Identifier: GPL-2.0

//! Brings folios under writeback in the states in which one can be, for who counts the references that they
//! have at its end. No window is held open, and nobody waits for a page longer than for its bit.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::sys::{self, Mapping, HUGE_PAGE, PAGE};

/// Of each state.
const SIZE: usize = 8 * HUGE_PAGE;
/// Pages that are written again and again beside a reader.
const FEW: usize = 2;
const ROUNDS: u32 = 400;

#[derive(Clone, Copy, ValueEnum)]
pub enum State {
    /// A file's pages
    File,
    /// A file's pages, mapped
    Mapped,
    /// A file's pages, looked up all the time
    Read,
    /// Anonymous memory that is swapped out
    Anonymous,
    /// The same in huge pages
    AnonymousHuge,
    /// Pages of a tmpfs that are swapped out; of what size says its mount
    Shmem,
}

/// Needs swap, for the last three; and for the last a tmpfs.
pub fn run(dir: &Path, state: State) -> Result<()> {
    let path = dir.join("states");
    let file = || {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .with_context(|| path.display().to_string())
    };
    match state {
        State::File => write_back(&filled(file()?, SIZE)?, SIZE)?,
        State::Mapped => {
            let file = file()?;
            // A hole: nothing is under writeback before its pages are mapped.
            file.set_len(SIZE as u64)?;
            let map = Mapping::of_file(&file, SIZE)?;
            map.populate_write(0, SIZE)?;
            write_back(&file, SIZE)?;
        }
        State::Read => read_beside(&filled(file()?, FEW * PAGE)?)?,
        State::Anonymous | State::AnonymousHuge => {
            let map = Mapping::anonymous(SIZE)?;
            if matches!(state, State::Anonymous) {
                map.forbid_huge()?;
            } else {
                map.allow_huge()?;
            }
            // What is all zeroes is not written to swap.
            map.fill(0x5a)?;
            page_out(&map)?;
        }
        State::Shmem => {
            let map = Mapping::of_file(&filled(file()?, SIZE)?, SIZE)?;
            // Who is not mapped is not asked for.
            map.populate_read(0, SIZE)?;
            page_out(&map)?;
        }
    }
    let _ = std::fs::remove_file(&path);
    Ok(())
}

fn filled(mut file: File, size: usize) -> Result<File> {
    file.write_all(&vec![0x5a; size])?;
    // Out of this CPU's batches, which hold references.
    sys::drop_cached(&file)?;
    Ok(file)
}

/// Not by fsync(), which holds the page that it waits for.
fn write_back(file: &File, size: usize) -> Result<()> {
    sys::start_writeback(file, 0, size as u64)?;
    thread::sleep(Duration::from_millis(500));
    Ok(file.sync_all()?)
}

/// A huge page at a time, so that not all are held by who isolates them until the last is written.
fn page_out(map: &Mapping) -> Result<()> {
    for offset in (0..SIZE).step_by(HUGE_PAGE) {
        map.page_out(offset, HUGE_PAGE)?;
    }
    // Those under writeback still.
    thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// The reader takes a reference for a moment, again and again.
fn read_beside(file: &File) -> Result<()> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<()> {
            sys::pin_to_cpu(1)?;
            let mut byte = [0];
            while !over.load(Relaxed) {
                for index in 0..FEW {
                    file.read_exact_at(&mut byte, (index * PAGE) as u64)?;
                }
            }
            Ok(())
        });
        let write = || -> Result<()> {
            for round in 0..ROUNDS {
                for index in 0..FEW {
                    file.write_all_at(&round.to_le_bytes(), (index * PAGE) as u64)?;
                }
                sys::start_writeback(file, 0, (FEW * PAGE) as u64)?;
                // What is under writeback is not written again.
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        };
        let written = write();
        over.store(true, Relaxed);
        let read = reader.join().expect("the reader does not panic");
        written.and(read)
    })
}
