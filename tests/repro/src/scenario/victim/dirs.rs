// SPDX-License-Identifier: GPL-2.0

//! Directories that are in the page cache, and symbolic links: `read_mapping_folio()`, and what
//! file systems make of its errors.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{forget_names, is, open_dir, sync, Victim};
use crate::sys;

/// Each call has a directory of its own.
const CALLS: u32 = 100;
const FILE: &CStr = c"file";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Of the file in it.
    Stat,
    Rmdir,
    /// Of one that is empty.
    RmdirEmpty,
    Readdir,
}

/// Directories with one file each.
pub struct Dirs {
    dir: PathBuf,
    parent: File,
    call: Call,
    names: Vec<CString>,
    /// Of the call to come. It has the inode in memory, and the directory's page not.
    open: Option<File>,
    /// Calls whose answer was wrong.
    wrong: Vec<u32>,
    /// Those of them for which it is so a second time.
    again: u32,
    inodes: u64,
    buf: Box<[u8; 1024]>,
}

impl Dirs {
    pub fn new(dir: &Path, call: Call) -> Result<Self> {
        let parent = open_dir(dir)?;
        let mut names = Vec::new();
        for n in 0..CALLS {
            let name = format!("d{n}");
            fs::create_dir(dir.join(&name)).context(name.clone())?;
            if call != Call::RmdirEmpty {
                fs::write(dir.join(&name).join("file"), [n as u8])?;
            }
            names.push(CString::new(name)?);
        }
        sync(&parent)?;
        let inodes = sys::fs_inodes(&parent)?;
        forget_names()?;
        Ok(Self {
            dir: dir.into(),
            parent,
            call,
            names,
            open: None,
            wrong: Vec::new(),
            again: 0,
            inodes,
            buf: Box::new([0; 1024]),
        })
    }

    fn path(&self, n: u32) -> PathBuf {
        self.dir.join(format!("d{n}"))
    }
}

impl Victim for Dirs {
    fn calls(&self) -> u32 {
        CALLS
    }

    fn prepare(&mut self, n: u32) -> Result<()> {
        self.open = Some(open_dir(&self.path(n))?);
        Ok(())
    }

    fn call(&mut self, n: u32) -> Result<bool> {
        let open = self.open.as_ref().context("not prepared")?;
        match self.call {
            Call::Stat => match sys::has_entry(open, FILE) {
                Ok(there) => Ok(!there),
                Err(e) => is(libc::EIO, e),
            },
            Call::Rmdir => match sys::remove_dir(&self.parent, &self.names[n as usize]) {
                Ok(()) => Ok(true),
                Err(e) => is(libc::ENOTEMPTY, e).map(|_| false),
            },
            Call::RmdirEmpty => match sys::remove_dir(&self.parent, &self.names[n as usize]) {
                Ok(()) => Ok(false),
                Err(e) => is(libc::ENOTEMPTY, e),
            },
            Call::Readdir => match sys::read_entries(open, &mut self.buf[..]) {
                Ok(len) => Ok(len == 0),
                Err(e) => is(libc::EIO, e),
            },
        }
    }

    fn after(&mut self, n: u32, wrong: bool) -> Result<()> {
        if wrong {
            self.wrong.push(n);
            // Does it know better now?
            let open = self.open.as_ref().context("not prepared")?;
            if self.call == Call::Stat && !sys::has_entry(open, FILE)? {
                self.again += 1;
            }
        }
        self.open = None;
        Ok(())
    }

    fn afterwards(&mut self, calls: u32) -> Result<String> {
        let wrong = self.wrong.len();
        forget_names()?;
        match self.call {
            Call::Stat => {
                let mut there = 0;
                for n in &self.wrong {
                    there += u32::from(self.path(*n).join("file").exists());
                }
                Ok(format!(
                    "{} of the {wrong} are denied a second time; {there} are there, when the kernel has \
                     forgotten their names",
                    self.again
                ))
            }
            Call::Rmdir => {
                let mut gone = 0;
                for n in &self.wrong {
                    gone += u64::from(!self.path(*n).exists());
                }
                sync(&self.parent)?;
                // Two a directory, its own and the file's: those that are not free again.
                let freed = self.inodes - sys::fs_inodes(&self.parent)?;
                Ok(format!(
                    "{gone} of the {wrong} directories are gone, and {} inodes of the files in them are still in \
                     use, with no name",
                    2 * gone - freed
                ))
            }
            Call::RmdirEmpty => {
                let mut empty = 0;
                for n in &self.wrong {
                    empty += u32::from(fs::remove_dir(self.path(*n)).is_ok());
                }
                Ok(format!("{empty} of the {wrong} can be removed now"))
            }
            Call::Readdir => {
                let mut whole = 0;
                for n in 0..calls {
                    whole += u32::from(fs::read_dir(self.path(n))?.count() == 1);
                }
                let name = self.dir.join("new");
                let writable = match fs::write(&name, "x") {
                    Ok(()) => "can be written to".to_string(),
                    Err(e) => format!("can't be written to: {e}"),
                };
                Ok(format!(
                    "{whole} of {calls} directories are read whole; the file system {writable}"
                ))
            }
        }
    }
}

/// Symbolic links that are too long for an inode.
pub struct Links {
    dir: PathBuf,
    parent: File,
    names: Vec<CString>,
    open: Option<File>,
    buf: Box<[u8; 1024]>,
}

const LENGTH: usize = 200;

impl Links {
    pub fn new(dir: &Path) -> Result<Self> {
        let parent = open_dir(dir)?;
        let mut names = Vec::new();
        for n in 0..CALLS {
            let name = format!("l{n}");
            symlink("x".repeat(LENGTH), dir.join(&name))?;
            names.push(CString::new(name)?);
        }
        sync(&parent)?;
        forget_names()?;
        Ok(Self {
            dir: dir.into(),
            parent,
            names,
            open: None,
            buf: Box::new([0; 1024]),
        })
    }
}

impl Victim for Links {
    fn calls(&self) -> u32 {
        CALLS
    }

    fn prepare(&mut self, n: u32) -> Result<()> {
        let path = self.dir.join(format!("l{n}"));
        self.open = Some(sys::open_link(&super::c_path(&path)?)?);
        Ok(())
    }

    fn call(&mut self, n: u32) -> Result<bool> {
        match sys::read_link(&self.parent, &self.names[n as usize], &mut self.buf[..]) {
            Ok(_) => Ok(false),
            Err(e) => is(libc::EIO, e),
        }
    }

    fn afterwards(&mut self, calls: u32) -> Result<String> {
        let mut whole = 0;
        for n in 0..calls {
            let target = fs::read_link(self.dir.join(format!("l{n}")))?;
            whole += u32::from(target.as_os_str().len() == LENGTH);
        }
        Ok(format!("{whole} of {calls} links are read whole"))
    }
}

/// Directories of a read-only image, `d0` and so on, which were made beforehand. Their inodes are in pages of
/// the device.
pub struct Image {
    dir: PathBuf,
    parent: File,
    device: File,
    names: Vec<CString>,
}

impl Image {
    pub fn new(dir: &Path, device: &Path) -> Result<Self> {
        let parent = open_dir(dir)?;
        // The root directory's own pages stay.
        sys::has_entry(&parent, FILE)?;
        let names: Result<_, _> = (0..CALLS).map(|n| CString::new(format!("d{n}"))).collect();
        Ok(Self {
            dir: dir.into(),
            parent,
            device: File::open(device)?,
            names: names?,
        })
    }
}

impl Victim for Image {
    fn calls(&self) -> u32 {
        CALLS
    }

    fn prepare(&mut self, _n: u32) -> Result<()> {
        Ok(sys::drop_cached(&self.device)?)
    }

    fn call(&mut self, n: u32) -> Result<bool> {
        match sys::has_entry(&self.parent, &self.names[n as usize]) {
            Ok(there) => Ok(!there),
            Err(e) => is(libc::EIO, e),
        }
    }

    fn afterwards(&mut self, calls: u32) -> Result<String> {
        let mut there = 0;
        for n in 0..calls {
            there += u32::from(self.dir.join(format!("d{n}")).exists());
        }
        Ok(format!("{there} of {calls} are there"))
    }
}
