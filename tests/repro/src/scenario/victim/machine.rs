// SPDX-License-Identifier: GPL-2.0

//! What the kernel reads for itself: of swap and of file systems, and of other processes.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};

use super::{c_path, is, Victim};
use crate::setup::Fs;
use crate::sys::{self, Mapping, PAGE};

/// A swap file, whose first page is its header.
pub struct Swapon {
    file: File,
    path: CString,
}

const SWAP_PAGES: u64 = 64;

impl Swapon {
    pub fn new(dir: &Path) -> Result<Self> {
        let fs = Fs::at(dir)?;
        let file = fs.create("swap")?;
        file.write_all_at(&[0; SWAP_PAGES as usize * PAGE], 0)?;
        // `union swap_header` of <linux/swap.h>: version, last page, bad pages; and the magic.
        for (i, word) in [1, SWAP_PAGES as u32 - 1, 0].iter().enumerate() {
            file.write_all_at(&word.to_le_bytes(), 1024 + 4 * i as u64)?;
        }
        file.write_all_at(b"SWAPSPACE2", PAGE as u64 - 10)?;
        file.sync_all()?;
        Ok(Self {
            file,
            path: c_path(&dir.join("swap"))?,
        })
    }
}

impl Victim for Swapon {
    fn calls(&self) -> u32 {
        100
    }

    fn prepare(&mut self, _n: u32) -> Result<()> {
        Ok(sys::drop_cached(&self.file)?)
    }

    fn call(&mut self, _n: u32) -> Result<bool> {
        match sys::swap_on(&self.path) {
            Ok(()) => Ok(false),
            Err(e) => is(libc::EIO, e).context("swapon()"),
        }
    }

    fn after(&mut self, _n: u32, wrong: bool) -> Result<()> {
        if !wrong {
            sys::swap_off(&self.path)?;
        }
        Ok(())
    }

    fn afterwards(&mut self, _calls: u32) -> Result<String> {
        sys::swap_on(&self.path)?;
        sys::swap_off(&self.path)?;
        Ok("it can be swapped to".to_string())
    }
}

/// A mapped file that is not in memory, and /proc/PID/mem: a fault there may not be tried again.
pub struct ProcMem {
    file: File,
    map: Mapping,
    mem: File,
    buf: Box<[u8; 8]>,
}

const MAPPED: u32 = 100;

impl ProcMem {
    pub fn new(dir: &Path) -> Result<Self> {
        let fs = Fs::at(dir)?;
        let file = fs.create("mapped")?;
        for n in 0..MAPPED {
            file.write_all_at(&[n as u8; PAGE], u64::from(n) * PAGE as u64)?;
        }
        file.sync_all()?;
        sys::drop_cached(&file)?;
        let map = Mapping::of_file_to_read(&file, MAPPED as usize * PAGE)?;
        map.random()?;
        Ok(Self {
            file,
            map,
            // A debugger's, of the process that it looks at; here it is this one.
            mem: File::open("/proc/self/mem")?,
            buf: Box::new([0; 8]),
        })
    }

    fn at(&self, n: u32) -> u64 {
        (self.map.addr() + n as usize * PAGE) as u64
    }
}

impl Victim for ProcMem {
    fn calls(&self) -> u32 {
        MAPPED
    }

    fn call(&mut self, n: u32) -> Result<bool> {
        let at = self.at(n);
        match self.mem.read_exact_at(&mut self.buf[..], at) {
            Ok(()) => Ok(false),
            Err(e) => is(libc::EIO, e).context("/proc/self/mem"),
        }
    }

    fn afterwards(&mut self, calls: u32) -> Result<String> {
        sys::drop_cached(&self.file)?;
        for n in 0..calls {
            let at = self.at(n);
            self.mem.read_exact_at(&mut self.buf[..], at)?;
            if *self.buf != [n as u8; 8] {
                bail!("page {n}: wrong data");
            }
        }
        Ok(format!("all {calls} pages are read well"))
    }
}

/// A file system that looks for the head of its journal when it becomes writable.
pub struct Remount {
    dir: PathBuf,
    path: CString,
    said: String,
}

impl Remount {
    pub fn new(dir: &Path) -> Result<Self> {
        fs::write(dir.join("file"), "x")?;
        Ok(Self {
            dir: dir.into(),
            path: c_path(dir)?,
            said: String::new(),
        })
    }
}

impl Victim for Remount {
    fn calls(&self) -> u32 {
        40
    }

    fn prepare(&mut self, _n: u32) -> Result<()> {
        sys::remount(&self.path, true).context("remount, read-only")
    }

    fn call(&mut self, _n: u32) -> Result<bool> {
        match sys::remount(&self.path, false) {
            Ok(()) => Ok(false),
            Err(e) => is(libc::EIO, e).context("remount, read-write"),
        }
    }

    fn after(&mut self, _n: u32, wrong: bool) -> Result<()> {
        if wrong {
            self.said = match fs::write(self.dir.join("file"), "y") {
                Ok(()) => "it can be written to".to_string(),
                Err(e) => format!("it can't be written to: {e}"),
            };
        }
        Ok(())
    }

    fn afterwards(&mut self, _calls: u32) -> Result<String> {
        let again = match sys::remount(&self.path, false) {
            Ok(()) => "done".to_string(),
            Err(e) => e.to_string(),
        };
        Ok(format!(
            "{}; mounted read-write once more: {again}",
            self.said
        ))
    }
}
