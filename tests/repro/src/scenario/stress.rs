// SPDX-License-Identifier: GPL-2.0

//! Everything that ends writeback or drops pages, at once and without any delay. Errors that
//! the workers cause each other (a page truncated under a mapping, a file system that is
//! full) are part of it; all others end the run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::crew::{self, forgive, Clock, Work};
use crate::setup::Fs;
use crate::sys::{self, Mapping, PAGE};

/// Of each shared file.
const SIZE: u64 = 4 << 20;
const FILES: usize = 6;
const DIRECT_FILES: usize = 2;

struct Shared {
    files: Vec<File>,
    /// For direct I/O. Files of its own: where it meets the page cache, it fails.
    direct: Vec<File>,
    hog: usize,
}

type Worker<'a> = crew::Worker<'a, Shared>;

impl Worker<'_> {
    fn file(&mut self) -> &File {
        let n = self.random.below(FILES as u64) as usize;
        &self.shared.files[n]
    }

    /// A range of whole pages, `max` of them at most.
    fn range(&mut self, max: u64) -> (u64, usize) {
        let pages = 1 + self.random.below(max);
        let first = self.random.below(SIZE / PAGE as u64 - pages);
        (first * PAGE as u64, pages as usize * PAGE)
    }
}

fn write(w: &mut Worker) -> Result<()> {
    let data = vec![0x5a; 64 * PAGE];
    while w.goes_on() {
        let (offset, len) = w.range(64);
        let odd = w.random.below(PAGE as u64);
        let action = w.random.below(8);
        let file = w.file();
        forgive(file.write_all_at(&data[..len - odd as usize], offset + odd))?;
        match action {
            0 => forgive(file.sync_data())?,
            1..4 => forgive(sys::start_writeback(file, offset, len as u64))?,
            _ => {}
        }
    }
    Ok(())
}

fn write_mapped(w: &mut Worker) -> Result<()> {
    while w.goes_on() {
        let mut action = w.random.below(6);
        let file = w.file();
        let map = Mapping::of_file(file, SIZE as usize)?;
        loop {
            let (offset, len) = w.range(16);
            // The file may be too short for it by now.
            forgive(map.populate_write(offset as usize, len))?;
            if action == 0 || !w.goes_on() {
                break;
            }
            action -= 1;
        }
    }
    Ok(())
}

fn truncate(w: &mut Worker) -> Result<()> {
    while w.goes_on() {
        let short = w.random.below(SIZE);
        let file = w.file();
        forgive(file.set_len(short))?;
        forgive(file.set_len(SIZE))?;
        w.rest(20);
    }
    Ok(())
}

fn punch(w: &mut Worker) -> Result<()> {
    while w.goes_on() {
        let (offset, len) = w.range(32);
        forgive(sys::punch_hole(w.file(), offset, len as u64))?;
        w.rest(5);
    }
    Ok(())
}

fn drop_pages(w: &mut Worker) -> Result<()> {
    // Not a line in the log for each.
    std::fs::write("/proc/sys/vm/drop_caches", "4")?;
    while w.goes_on() {
        if w.random.below(50) == 0 {
            std::fs::write("/proc/sys/vm/drop_caches", "1")?;
        }
        forgive(sys::drop_cached(w.file()))?;
        w.rest(10);
    }
    Ok(())
}

fn read(w: &mut Worker) -> Result<()> {
    let mut buf = vec![0; 32 * PAGE];
    while w.goes_on() {
        let (offset, len) = w.range(32);
        // Short at the end of a file that has just been truncated.
        forgive(w.file().read_at(&mut buf[..len], offset).map(drop))?;
    }
    Ok(())
}

fn direct(w: &mut Worker) -> Result<()> {
    let buf = vec![0xa5; 17 * PAGE];
    // Direct I/O wants its memory aligned.
    let skip = buf.as_ptr().align_offset(PAGE);
    let (data, mut back) = (&buf[skip..], vec![0; 17 * PAGE]);
    let back_skip = back.as_ptr().align_offset(PAGE);
    while w.goes_on() {
        let (offset, len) = w.range(16);
        let action = w.random.below(16);
        let file = &w.shared.direct[action as usize % DIRECT_FILES];
        match action {
            0..8 => forgive(file.write_at(&data[..len], offset).map(drop))?,
            8..14 => forgive(
                file.read_at(&mut back[back_skip..back_skip + len], offset)
                    .map(drop),
            )?,
            _ => {
                forgive(file.set_len(offset))?;
                forgive(file.set_len(SIZE))?;
            }
        }
        w.rest(5);
    }
    Ok(())
}

/// Touches more memory than there is, so that something has to go.
fn hog(w: &mut Worker) -> Result<()> {
    if w.shared.hog == 0 {
        return Ok(());
    }
    let step = 64 * PAGE;
    let map = Mapping::anonymous(w.shared.hog)?;
    let mut offset = 0;
    while w.goes_on() {
        forgive(map.populate_write(offset, step))?;
        offset = (offset + step) % (w.shared.hog / step * step);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

const WORK: [(&str, Work<Shared>); 10] = [
    ("buffered writes", write),
    ("buffered writes", write),
    ("mapped writes", write_mapped),
    ("mapped writes", write_mapped),
    ("truncations", truncate),
    ("holes punched", punch),
    ("drops", drop_pages),
    ("reads", read),
    ("direct I/O", direct),
    ("anonymous memory", hog),
];

pub fn run(dir: &Path, clock: &Clock, hog: usize) -> Result<()> {
    let fs = Fs::any(dir)?;
    let files = |name, count, flags| {
        (0..count)
            .map(|n| {
                let file = fs.create_with(&format!("{name}{n}"), flags)?;
                file.set_len(SIZE)?;
                Ok(file)
            })
            .collect::<Result<Vec<_>>>()
    };
    let direct = files("direct", DIRECT_FILES, libc::O_DIRECT)?;
    let files = files("stress", FILES, 0)?;
    let shared = Shared {
        files,
        direct,
        hog: hog << 20,
    };
    crew::run(&shared, clock, &WORK)
}
