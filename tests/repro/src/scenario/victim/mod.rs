// SPDX-License-Identifier: GPL-2.0

//! Who takes one wake-up for the end of its own read, and what comes of it. One type a victim; the pages
//! come from [`super::feeder`].

mod dirs;
mod files;
mod machine;
pub mod read;

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::feeder::{By, Feeder};
use crate::setup;
use crate::sys;
use crate::wakewatch::Wakewatch;
use crate::Limits;

/// A system call that may come to a wrong answer.
pub trait Victim: Send {
    /// How often it can be made.
    fn calls(&self) -> u32;

    /// Who makes it, if not root.
    fn user(&self) -> Option<u32> {
        None
    }

    /// What has to be done before there is a page, so that call `n` allocates one and has nothing else to
    /// wait for.
    fn prepare(&mut self, _n: u32) -> Result<()> {
        Ok(())
    }

    /// The call, and nothing else that allocates memory. Is its answer wrong?
    fn call(&mut self, n: u32) -> Result<bool>;

    /// When the window is closed.
    fn after(&mut self, _n: u32, _wrong: bool) -> Result<()> {
        Ok(())
    }

    /// When all is over and nothing is delayed: what is left of it.
    fn afterwards(&mut self, calls: u32) -> Result<String>;
}

/// The victims, by name.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// pread() of a page of which one block was just written: EIO
    ReadEio,
    /// stat() of a file in a directory of minix: ENOENT
    MinixStat,
    /// rmdir() of a directory of minix that is not empty: done
    MinixRmdir,
    /// getdents() of a directory of minix: nothing in it
    MinixReaddir,
    /// getdents() of a directory of ext2: EIO, and an error in the super block
    Ext2Readdir,
    /// readlink() of a long link of ext2: EIO
    Ext2Readlink,
    /// getdents() of a directory of nilfs2: EIO, and the file system is read-only
    Nilfs2Readdir,
    /// stat() of a file in a directory of f2fs: EIO
    F2fsStat,
    /// rmdir() of an empty directory of f2fs: ENOTEMPTY
    F2fsRmdir,
    /// stat() of a directory of erofs: EIO
    ErofsStat,
    /// FIDEDUPERANGE of two files on XFS: EIO
    XfsDedupe,
    /// FS_IOC_READ_VERITY_METADATA of a file on ext4: EIO
    VerityTree,
    /// swapon() of a file: EIO
    Swapon,
    /// A debugger's read of another process's mapped file: EIO
    ProcMem,
    /// A gfs2 mounted read-write again: it withdraws
    Gfs2Remount,
}

/// A name in a system call.
fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).context("a zero in a path")
}

/// Drops what the kernel remembers of names and inodes, and with these the pages of directories.
fn forget_names() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "3").context("/proc/sys/vm/drop_caches")
}

/// Is it this error? Another one is an error.
fn is(error: i32, e: std::io::Error) -> Result<bool> {
    match e.raw_os_error() {
        Some(number) if number == error => Ok(true),
        _ => Err(e.into()),
    }
}

/// Where things are.
#[derive(clap::Args)]
pub struct Place {
    /// Directory of the victim's, on the file system that it is about
    pub dir: PathBuf,
    /// Directory on ext4 on a loop device, for the file whose pages are dropped; otherwise DIR
    #[arg(long)]
    pub feeder: Option<PathBuf>,
    /// A loop device whose pages are dropped instead, where pages are wanted that can't be moved
    #[arg(long, conflicts_with = "feeder")]
    pub feeder_device: Option<PathBuf>,
    /// The device that DIR is on
    #[arg(long)]
    pub device: Option<PathBuf>,
    /// What takes the last reference away
    #[arg(long, value_enum, default_value_t)]
    pub by: By,
    /// The user that reads and drops, and the user whose call fails
    #[arg(long, value_name = "UID,UID", value_parser = users)]
    pub users: Option<(u32, u32)>,
}

fn users(text: &str) -> Result<(u32, u32), String> {
    let (feeder, victim) = text.split_once(',').ok_or("two users are wanted")?;
    let number = |text: &str| text.parse().map_err(|e| format!("{text}: {e}"));
    Ok((number(feeder)?, number(victim)?))
}

/// Ends at `enough` wrong answers.
pub fn run(
    ww: &Wakewatch,
    which: Which,
    place: &Place,
    limits: &Limits,
    us: u64,
    enough: u32,
) -> Result<()> {
    if let Some(device) = &place.device {
        setup::split_device(device)?;
    }
    let feeder = match &place.feeder_device {
        Some(device) => {
            setup::split_device(device)?;
            Feeder::of_device(device)?
        }
        None => {
            let dir = place.feeder.as_ref().unwrap_or(&place.dir);
            Feeder::of_file(dir, place.by, place.users.map(|users| users.0))?
        }
    };
    let device = || -> Result<&Path> { place.device.as_deref().context("--device is wanted") };
    let dir = &place.dir;
    use dirs::{Call, Dirs};
    let dirs = |call| -> Result<Box<dyn Victim>> { Ok(Box::new(Dirs::new(dir, call)?)) };
    let mut victim: Box<dyn Victim> = match which {
        Which::ReadEio => Box::new(read::Read::new(
            dir,
            limits.rounds,
            place.users.map(|users| users.1),
        )?),
        Which::MinixStat => dirs(Call::Stat)?,
        Which::MinixRmdir => dirs(Call::Rmdir)?,
        Which::MinixReaddir | Which::Ext2Readdir | Which::Nilfs2Readdir => dirs(Call::Readdir)?,
        Which::F2fsStat => dirs(Call::Stat)?,
        Which::F2fsRmdir => dirs(Call::RmdirEmpty)?,
        Which::Ext2Readlink => Box::new(dirs::Links::new(dir)?),
        Which::ErofsStat => Box::new(dirs::Image::new(dir, device()?)?),
        Which::XfsDedupe => Box::new(files::Dedupe::new(dir)?),
        Which::VerityTree => Box::new(files::Verity::new(dir)?),
        Which::Swapon => Box::new(machine::Swapon::new(dir)?),
        Which::ProcMem => Box::new(machine::ProcMem::new(dir)?),
        Which::Gfs2Remount => Box::new(machine::Remount::new(dir)?),
    };
    let fed = feeder.run(ww, us, limits, enough, &mut *victim)?;
    println!(
        "{} of {} calls were wrong, pid {}; {} pages freed before their wake-up",
        fed.wrong, fed.calls, fed.victim, fed.freed
    );
    println!("afterwards: {}", victim.afterwards(fed.calls)?);
    if fed.wrong > 0 {
        return Err(crate::Seen("a wrong answer").into());
    }
    Ok(())
}

/// Opens a directory to call upon.
fn open_dir(path: &Path) -> Result<File> {
    File::open(path).with_context(|| path.display().to_string())
}

/// Makes files and directories durable, so that their pages can be dropped.
fn sync(dir: &File) -> Result<()> {
    sys::sync_fs(dir).context("syncfs()")
}
