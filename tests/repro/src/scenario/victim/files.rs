// SPDX-License-Identifier: GPL-2.0

//! Files that the kernel itself reads by `read_mapping_folio()`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{bail, Context, Result};

use super::{is, Victim};
use crate::setup::Fs;
use crate::sys::{self, PAGE};

/// Each has a page of its own.
const CALLS: u32 = 60;

/// Two files that are the same.
pub struct Dedupe {
    src: File,
    dest: File,
    wrong: Vec<u32>,
}

impl Dedupe {
    pub fn new(dir: &Path) -> Result<Self> {
        let fs = Fs::any(dir)?;
        let make = |name| -> Result<File> {
            let file = fs.create(name)?;
            for n in 0..CALLS {
                file.write_all_at(&[n as u8; PAGE], u64::from(n) * PAGE as u64)?;
            }
            file.sync_all()?;
            sys::drop_cached(&file)?;
            // No page is read that was not asked for.
            sys::advise_random(&file)?;
            Ok(file)
        };
        Ok(Self {
            src: make("src")?,
            dest: make("dest")?,
            wrong: Vec::new(),
        })
    }

    fn dedupe(&self, n: u32) -> std::io::Result<bool> {
        sys::dedupe(
            &self.src,
            &self.dest,
            u64::from(n) * PAGE as u64,
            PAGE as u64,
        )
    }
}

impl Victim for Dedupe {
    fn calls(&self) -> u32 {
        CALLS
    }

    fn call(&mut self, n: u32) -> Result<bool> {
        match self.dedupe(n) {
            Ok(true) => Ok(false),
            Ok(false) => bail!("page {n} differs"),
            Err(e) => is(libc::EIO, e).context("FIDEDUPERANGE"),
        }
    }

    fn after(&mut self, n: u32, wrong: bool) -> Result<()> {
        if wrong {
            self.wrong.push(n);
        }
        Ok(())
    }

    fn afterwards(&mut self, calls: u32) -> Result<String> {
        let mut done = 0;
        for n in &self.wrong {
            done += u32::from(self.dedupe(*n)?);
        }
        let mut buf = [0; PAGE];
        for n in 0..calls {
            for file in [&self.src, &self.dest] {
                file.read_exact_at(&mut buf, u64::from(n) * PAGE as u64)?;
                if buf != [n as u8; PAGE] {
                    bail!("page {n}: wrong data");
                }
            }
        }
        Ok(format!(
            "{done} of the {} are done now; every byte right",
            self.wrong.len()
        ))
    }
}

/// A file with a tree of hashes.
pub struct Verity {
    file: File,
    buf: Box<[u8; PAGE]>,
}

/// Data that a page of hashes is about.
const COVERED: u64 = (PAGE / 32 * PAGE) as u64;

impl Verity {
    pub fn new(dir: &Path) -> Result<Self> {
        let fs = Fs::at(dir)?;
        let file = fs.create("verity")?;
        // A hole: only its hashes are wanted.
        file.set_len(u64::from(CALLS) * COVERED)?;
        drop(file);
        let file = File::open(dir.join("verity"))?;
        sys::enable_verity(&file).context("FS_IOC_ENABLE_VERITY")?;
        file.sync_all()?;
        sys::drop_cached(&file)?;
        Ok(Self {
            file,
            buf: Box::new([0; PAGE]),
        })
    }

    fn read(&mut self, n: u32) -> std::io::Result<usize> {
        sys::read_verity_tree(&self.file, u64::from(n) * PAGE as u64, &mut self.buf[..])
    }
}

impl Victim for Verity {
    fn calls(&self) -> u32 {
        CALLS
    }

    fn call(&mut self, n: u32) -> Result<bool> {
        match self.read(n) {
            Ok(_) => Ok(false),
            Err(e) => is(libc::EIO, e).context("FS_IOC_READ_VERITY_METADATA"),
        }
    }

    fn afterwards(&mut self, calls: u32) -> Result<String> {
        let mut whole = 0;
        for n in 0..calls {
            whole += u32::from(self.read(n)? == PAGE);
        }
        Ok(format!(
            "{whole} of {calls} pages of the tree are read whole"
        ))
    }
}
