// SPDX-License-Identifier: GPL-2.0

//! What a scenario can't do without, looked at before it starts: a race that fails to happen
//! because of the setup must not look like one that was survived.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::sys;
use crate::wakewatch::Wakewatch;

/// The CPU of the completions, where the window is held open.
pub const HELD_CPU: usize = 0;
/// The CPU of the driver.
pub const DRIVER_CPU: usize = 1;

const EXT4_MAGIC: u64 = 0xef53;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const LOOP_MAJOR: u32 = 7;

/// The guest is not what the scenario needs.
#[derive(Debug)]
pub struct NotSetUp(pub String);

impl fmt::Display for NotSetUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the setup is not right: {}", self.0)
    }
}

impl std::error::Error for NotSetUp {}

/// Fails with [`NotSetUp`] and a message.
macro_rules! not_set_up {
    ($($arg:tt)*) => {
        return Err($crate::setup::NotSetUp(format!($($arg)*)).into())
    };
}

pub(crate) use not_set_up;

fn read(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| path.to_string())?;
    Ok(text.trim().to_string())
}

pub fn wakewatch(dir: &Path) -> Result<Wakewatch> {
    match Wakewatch::at(dir) {
        Some(wakewatch) => Ok(wakewatch),
        None => not_set_up!(
            "no {}/amplify: is wakewatch loaded and debugfs mounted?",
            dir.display()
        ),
    }
}

/// The directory in which the scenario's files are.
pub struct Fs {
    dir: PathBuf,
    pub dev: (u32, u32),
}

impl Fs {
    /// On ext4 on a loop device, where the races are.
    pub fn at(dir: &Path) -> Result<Self> {
        let magic = sys::fs_magic(dir).with_context(|| dir.display().to_string())?;
        if magic != EXT4_MAGIC {
            not_set_up!("{} is not on ext4 (magic {magic:#x})", dir.display());
        }
        let fs = Self::any(dir)?;
        if fs.dev.0 != LOOP_MAJOR {
            not_set_up!(
                "{} is not on a loop device but on {}:{}",
                dir.display(),
                fs.dev.0,
                fs.dev.1
            );
        }
        Ok(fs)
    }

    /// On whatever it is, for work that waits for no race.
    pub fn any(dir: &Path) -> Result<Self> {
        let dev = fs::metadata(dir)
            .with_context(|| dir.display().to_string())?
            .dev();
        Ok(Self {
            dir: dir.into(),
            dev: (libc::major(dev), libc::minor(dev)),
        })
    }

    /// Checks that its blocks are of this size.
    pub fn has_blocks_of(&self, size: u64) -> Result<()> {
        let have = sys::fs_block_size(&self.dir)?;
        if have != size {
            not_set_up!(
                "{} has blocks of {have} bytes, not of {size}",
                self.dir.display()
            );
        }
        Ok(())
    }

    /// Creates a file of the scenario's, empty.
    pub fn create(&self, name: &str) -> Result<File> {
        self.create_with(name, 0)
    }

    /// The same, with more open(2) flags.
    pub fn create_with(&self, name: &str, flags: i32) -> Result<File> {
        let path = self.dir.join(name);
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(flags)
            .open(&path)
            .with_context(|| path.display().to_string())
    }

    /// Keeps completions of this file system's device on [`HELD_CPU`], and the calling thread
    /// off it: checks the former and does the latter.
    pub fn split_cpus(&self) -> Result<()> {
        if let Err(e) = sys::pin_to_cpu(DRIVER_CPU) {
            not_set_up!("can't run on CPU {DRIVER_CPU} ({e}): the race needs two CPUs");
        }

        let path = "/sys/devices/virtual/workqueue/cpumask";
        let mask = read(path)?;
        // Groups of 32 bits with commas between them.
        if u64::from_str_radix(&mask.replace(',', ""), 16) != Ok(1 << HELD_CPU) {
            not_set_up!("{path} is {mask}, which lets the loop device's work run elsewhere");
        }

        let path = format!(
            "/sys/dev/block/{}:{}/queue/rq_affinity",
            self.dev.0, self.dev.1
        );
        let affinity = read(&path)?;
        if affinity != "0" {
            not_set_up!("{path} is {affinity}: completions would follow the submitter");
        }
        Ok(())
    }
}

/// Returns when [`HELD_CPU`] runs tasks again, which it does not inside the window.
pub fn wait_for_held_cpu() -> Result<()> {
    sys::pin_to_cpu(HELD_CPU)?;
    sys::pin_to_cpu(DRIVER_CPU)?;
    Ok(())
}

/// Keeps completions of the device that `dir` is on as [`Fs::split_cpus`] does, whatever file system it is.
pub fn split_device(device: &Path) -> Result<()> {
    let rdev = fs::metadata(device)
        .with_context(|| device.display().to_string())?
        .rdev();
    Fs {
        dir: device.into(),
        dev: (libc::major(rdev), libc::minor(rdev)),
    }
    .split_cpus()
}

/// A tmpfs that takes huge pages whenever it can.
pub fn huge_tmpfs(dir: &Path) -> Result<()> {
    let magic = sys::fs_magic(dir).with_context(|| dir.display().to_string())?;
    if magic != TMPFS_MAGIC {
        not_set_up!("{} is not on tmpfs (magic {magic:#x})", dir.display());
    }
    let mounts = read("/proc/self/mounts")?;
    let real = fs::canonicalize(dir)?;
    // The mount point with the longest name that is a parent; the last one if several.
    let options = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let point = words.nth(1)?;
            Some((point, words.nth(1)?))
        })
        .filter(|(point, _)| real.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    match options {
        Some((_, options)) if options.split(',').any(|o| o == "huge=always") => Ok(()),
        _ => not_set_up!("{} is not mounted with huge=always", dir.display()),
    }
}
