// SPDX-License-Identifier: GPL-2.0

//! A healthy file, and read() says EIO.
//!
//! The file's blocks are smaller than a page. One of them is written, so its page is in the cache, unlocked and
//! not up to date. Who reads the page then has the rest of it read, and waits for that to end; and
//! takes the wake-up of the page's last life for it. `filemap_read_folio()`

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{chown, FileExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};

use super::{is, Victim};
use crate::setup::Fs;
use crate::sys::{self, Mapping, PAGE};

/// By default.
const CALLS: u32 = 400;

pub const BLOCK: usize = 1024;
/// Of the file, to look at its readahead.
const SEQUENTIAL: u64 = 96;

pub struct Read {
    file: File,
    /// The same, opened when no call had failed.
    other: File,
    calls: u32,
    user: Option<u32>,
    wrong_data: u32,
    buf: Box<[u8; PAGE]>,
    path: std::path::PathBuf,
}

/// What is in page `n`, when one block of it has been written again.
pub fn page(n: u64) -> [u8; PAGE] {
    let mut page = [n as u8; PAGE];
    page[..BLOCK].fill(!n as u8);
    page
}

impl Read {
    pub fn new(dir: &Path, rounds: Option<u32>, user: Option<u32>) -> Result<Self> {
        let fs = Fs::at(dir)?;
        fs.has_blocks_of(BLOCK as u64)?;
        let calls = rounds.unwrap_or(CALLS);
        let file = fs.create("healthy")?;
        for n in 0..u64::from(calls).max(SEQUENTIAL) {
            file.write_all_at(&[n as u8; PAGE], n * PAGE as u64)?;
        }
        file.sync_all()?;
        sys::drop_cached(&file)?;
        let path = dir.join("healthy");
        let open = || OpenOptions::new().read(true).write(true).open(&path);
        let file = match user {
            // Its owner's alone.
            Some(user) => {
                fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
                chown(&path, Some(user), Some(user))?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
                sys::as_user(user, open)?
            }
            None => open()?,
        };
        Ok(Self {
            file,
            other: open()?,
            calls,
            user,
            wrong_data: 0,
            buf: Box::new([0; PAGE]),
            path,
        })
    }

    fn again(&mut self, calls: u32, from: &str) -> Result<()> {
        for n in 0..u64::from(calls) {
            self.file
                .read_exact_at(&mut self.buf[..], n * PAGE as u64)
                .with_context(|| format!("page {n}, from {from}"))?;
            if *self.buf != page(n) {
                bail!("page {n}, from {from}: wrong data");
            }
        }
        Ok(())
    }
}

/// How many pages ahead of a reader are read, at most, that reads one after the other.
fn readahead(file: &File) -> Result<usize> {
    sys::drop_cached(file)?;
    let map = Mapping::of_file_to_read(file, SEQUENTIAL as usize * PAGE)?;
    let (mut most, mut buf) = (0, [0; PAGE]);
    for n in 0..SEQUENTIAL {
        file.read_exact_at(&mut buf, n * PAGE as u64)?;
        // What is on its way is to be there.
        thread::sleep(Duration::from_millis(5));
        let mut ahead = 0;
        while n as usize + 1 + ahead < SEQUENTIAL as usize && map.cached(n as usize + 1 + ahead)? {
            ahead += 1;
        }
        most = most.max(ahead);
    }
    Ok(most)
}

impl Victim for Read {
    fn calls(&self) -> u32 {
        self.calls
    }

    fn user(&self) -> Option<u32> {
        self.user
    }

    fn call(&mut self, n: u32) -> Result<bool> {
        let n = u64::from(n);
        let page = page(n);
        self.file.write_all_at(&page[..BLOCK], n * PAGE as u64)?;
        match self.file.read_exact_at(&mut self.buf[..], n * PAGE as u64) {
            Ok(()) => {
                self.wrong_data += u32::from(*self.buf != page);
                Ok(false)
            }
            Err(e) => is(libc::EIO, e).context("pread()"),
        }
    }

    fn afterwards(&mut self, calls: u32) -> Result<String> {
        self.again(calls, "the cache")?;
        self.file.sync_all()?;
        sys::drop_cached(&self.file)?;
        self.again(calls, "the device")?;
        if self.wrong_data > 0 {
            bail!("{} calls returned wrong data", self.wrong_data);
        }
        let (here, other) = (readahead(&self.file)?, readahead(&self.other)?);
        let new = readahead(&File::open(&self.path)?)?;
        Ok(format!(
            "all {calls} pages are read well, every byte right; readahead of this open file is {here} pages \
             now, of one opened beside it {other}, of one opened now {new}"
        ))
    }
}
