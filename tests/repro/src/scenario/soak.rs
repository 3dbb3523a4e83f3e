// SPDX-License-Identifier: GPL-2.0

//! What `stress` does not do and a machine in use does: huge pages that are made, cut, split and
//! put together again, memory that is compacted and migrated, readahead into files that are
//! truncated and dropped, and direct I/O to a file that is cached. Meant to run beside `stress`
//! and `reclaim`, under a memory limit.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::crew::{self, forgive, Clock, Work};
use crate::setup::{self, Fs};
use crate::sys::{self, Mapping, HUGE_PAGE, PAGE};

/// Of a file that is read ahead.
const READ_SIZE: u64 = 8 << 20;
const READ_FILES: usize = 3;
/// Of the file that direct and buffered I/O share.
const MIXED_SIZE: u64 = 4 << 20;
/// Of a file on tmpfs, and of anonymous memory.
const HUGE_SIZE: usize = 8 * HUGE_PAGE;
const HUGE_FILES: usize = 2;

struct Shared {
    read: Vec<File>,
    buffered: File,
    direct: File,
    huge: Vec<File>,
}

type Worker<'a> = crew::Worker<'a, Shared>;

impl Worker<'_> {
    /// A range of up to `max` whole pages below `size`.
    fn range(&mut self, size: u64, max: u64) -> (u64, usize) {
        let pages = 1 + self.random.below(max);
        let first = self.random.below(size / PAGE as u64 - pages);
        (first * PAGE as u64, pages as usize * PAGE)
    }

    fn read_file(&mut self) -> &File {
        &self.shared.read[self.random.below(READ_FILES as u64) as usize]
    }

    fn huge_file(&mut self) -> &File {
        &self.shared.huge[self.random.below(HUGE_FILES as u64) as usize]
    }
}

/// As [`forgive`], where what is asked for is a favour: the kernel declines with these as well.
fn forgive_favour(result: io::Result<()>) -> Result<()> {
    match result {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EIO)) => Ok(()),
        other => forgive(other),
    }
}

/// Files of huge pages, written, cut in the middle of a huge page and holed.
fn cut(w: &mut Worker) -> Result<()> {
    let size = HUGE_SIZE as u64;
    while w.goes_on() {
        let (offset, len) = w.range(size, 300);
        let short = w.random.below(size);
        let action = w.random.below(6);
        let file = w.huge_file();
        match action {
            0 => forgive(file.set_len(short))?,
            1..3 => forgive(sys::punch_hole(file, offset, len as u64))?,
            _ => forgive(sys::allocate(file, 0, size))?,
        }
        w.rest(20);
    }
    Ok(())
}

/// The same files, mapped: faulted in, paged out, and asked to be huge again.
fn map(w: &mut Worker) -> Result<()> {
    while w.goes_on() {
        let map = Mapping::of_file(w.huge_file(), HUGE_SIZE)?;
        for _ in 0..8 {
            let (offset, len) = w.range(HUGE_SIZE as u64, 512);
            // The file may be too short for it by now.
            forgive(map.populate_write(offset as usize, len))?;
            match w.random.below(4) {
                0 => forgive_favour(map.collapse(0, HUGE_SIZE))?,
                1 => forgive(map.page_out(offset as usize, len))?,
                _ => {}
            }
            w.rest(10);
        }
    }
    Ok(())
}

/// Anonymous huge pages: parts are given back, paged out, and all is asked to be huge again.
fn anonymous(w: &mut Worker) -> Result<()> {
    let map = Mapping::anonymous(HUGE_SIZE)?;
    while w.goes_on() {
        let (offset, len) = w.range(HUGE_SIZE as u64, 300);
        let offset = offset as usize;
        match w.random.below(8) {
            0 => forgive(map.give_back(0, HUGE_SIZE))?,
            1..4 => forgive(map.give_back(offset, len))?,
            4 => forgive(map.page_out(offset, len))?,
            5 => forgive_favour(map.collapse(0, HUGE_SIZE))?,
            _ => forgive(map.populate_write(offset, len))?,
        }
        w.rest(10);
    }
    Ok(())
}

/// Memory that stays small pages until khugepaged finds it.
fn scattered(w: &mut Worker) -> Result<()> {
    while w.goes_on() {
        let map = Mapping::anonymous(2 * HUGE_PAGE)?;
        map.forbid_huge()?;
        forgive(map.populate_write(0, 2 * HUGE_PAGE))?;
        map.allow_huge()?;
        w.rest(2000);
    }
    Ok(())
}

/// Asks the kernel to compact and to split, all of memory at a time.
fn shuffle(w: &mut Worker) -> Result<()> {
    while w.goes_on() {
        fs::write("/proc/sys/vm/compact_memory", "1").context("compact_memory")?;
        w.rest(600);
        fs::write("/sys/kernel/debug/split_huge_pages", "1").context("split_huge_pages")?;
        w.rest(600);
    }
    Ok(())
}

/// Moves pages between nodes, those of files and anonymous ones; nothing on a machine with one.
fn migrate(w: &mut Worker) -> Result<()> {
    if !Path::new("/sys/devices/system/node/node1").exists() {
        return Ok(());
    }
    let anonymous = Mapping::anonymous(HUGE_PAGE)?;
    while w.goes_on() {
        let file = Mapping::of_file(w.read_file(), READ_SIZE as usize)?;
        let (offset, len) = w.range(HUGE_PAGE as u64, 64);
        let node = w.random.below(2) as u32;
        for map in [&file, &anonymous] {
            forgive(map.populate_write(offset as usize, len))?;
            if w.random.below(2) == 0 {
                forgive_favour(map.move_pages(offset as usize, len, node))?;
            } else {
                forgive_favour(map.bind(offset as usize, len, node))?;
            }
        }
        w.rest(10);
    }
    Ok(())
}

/// Reads forwards, in small pieces, which makes the kernel read ahead.
fn read_ahead(w: &mut Worker) -> Result<()> {
    let mut buf = vec![0; 4 * PAGE];
    while w.goes_on() {
        let (mut offset, _) = w.range(READ_SIZE, 1);
        let ask = w.random.below(3) == 0;
        let file = w.read_file();
        if ask {
            forgive(sys::read_ahead(file, offset, 64 * PAGE))?;
        }
        // To the end, wherever that is by now.
        while file.read_at(&mut buf, offset)? > 0 {
            offset += buf.len() as u64;
        }
    }
    Ok(())
}

/// Takes away what was read ahead: clean pages, and the file's end.
fn take_away(w: &mut Worker) -> Result<()> {
    let data = vec![1; 1 << 20];
    while w.goes_on() {
        let short = w.random.below(READ_SIZE);
        let action = w.random.below(20);
        let file = w.read_file();
        if action == 0 {
            forgive(file.set_len(short))?;
            // Blocks to read again: of a hole nothing is read.
            forgive(file.write_all_at(&data, READ_SIZE - data.len() as u64))?;
            forgive(file.write_all_at(&data, short.min(READ_SIZE - data.len() as u64)))?;
            forgive(file.sync_data())?;
        }
        forgive(sys::drop_cached(file))?;
        w.rest(5);
    }
    Ok(())
}

/// Direct I/O to a file that is cached. Where the two collide the direct one fails, or the file's
/// next sync does.
fn mixed(w: &mut Worker) -> Result<()> {
    let mut memory = vec![0xa5; 17 * PAGE];
    // Direct I/O wants its memory aligned.
    let skip = memory.as_ptr().align_offset(PAGE);
    let memory = &mut memory[skip..];
    while w.goes_on() {
        let (offset, len) = w.range(MIXED_SIZE, 16);
        let Shared {
            direct, buffered, ..
        } = w.shared;
        match w.random.below(8) {
            0..3 => forgive_favour(direct.write_at(&memory[..len], offset).map(drop))?,
            3..5 => forgive_favour(direct.read_at(&mut memory[..len], offset).map(drop))?,
            5 => forgive(buffered.read_at(&mut memory[..len], offset).map(drop))?,
            6 => forgive(buffered.write_at(&memory[..len], offset).map(drop))?,
            _ => forgive_favour(buffered.sync_data())?,
        }
        w.rest(5);
    }
    Ok(())
}

/// The same file through a mapping.
fn mixed_mapped(w: &mut Worker) -> Result<()> {
    let map = Mapping::of_file(&w.shared.buffered, MIXED_SIZE as usize)?;
    while w.goes_on() {
        let (offset, len) = w.range(MIXED_SIZE, 16);
        forgive(map.populate_write(offset as usize, len))?;
        w.rest(10);
    }
    Ok(())
}

const WORK: [(&str, Work<Shared>); 13] = [
    ("huge pages cut", cut),
    ("huge pages mapped", map),
    ("anonymous huge pages", anonymous),
    ("scattered memory", scattered),
    ("compactions and splits", shuffle),
    ("migrations", migrate),
    ("readahead", read_ahead),
    ("readahead", read_ahead),
    ("readahead", read_ahead),
    ("what was read ahead, taken away", take_away),
    ("direct I/O to a cached file", mixed),
    ("direct I/O to a cached file", mixed),
    ("mapped writes to the same", mixed_mapped),
];

pub fn run(dir: &Path, shm: &Path, clock: &Clock) -> Result<()> {
    let fs = Fs::at(dir)?;
    setup::huge_tmpfs(shm)?;
    let read = (0..READ_FILES)
        .map(|n| {
            let file = fs.create(&format!("read{n}"))?;
            file.write_all_at(&vec![1; READ_SIZE as usize], 0)?;
            file.sync_all()?;
            Ok(file)
        })
        .collect::<Result<_>>()?;
    let buffered = fs.create("mixed")?;
    buffered.set_len(MIXED_SIZE)?;
    let huge = (0..HUGE_FILES)
        .map(|n| {
            let path = shm.join(format!("huge{n}"));
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .with_context(|| path.display().to_string())
        })
        .collect::<Result<_>>()?;
    let shared = Shared {
        read,
        direct: fs.create_with("mixed", libc::O_DIRECT)?,
        buffered,
        huge,
    };
    shared.buffered.set_len(MIXED_SIZE)?;
    crew::run(&shared, clock, &WORK)
}
