// SPDX-License-Identifier: GPL-2.0

//! The module's files in debugfs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, Context, Result};

/// Where the window is held open.
#[derive(Clone, Copy)]
pub enum Where {
    /// When `PG_writeback` is about to be cleared.
    BeforeClear,
    /// Between the clear of `PG_writeback` and the test of `PG_waiters`.
    AfterClear,
    /// In `folio_wake_bit()` for `PG_writeback`, when its waiters have been woken.
    AfterWakeOfWriteback,
    /// At the entry of `folio_wake_bit()`, for `PG_writeback`.
    BeforeWakeOfWriteback,
    /// At the entry of `folio_wake_bit()`, for `PG_locked`.
    BeforeWakeOfLocked,
    /// The same, and for the first such wake-up alone.
    BeforeFirstWakeOfLocked,
}

/// The pages that are delayed.
pub struct Target {
    pub dev: (u32, u32),
    pub ino: u64,
    pub index: Option<u64>,
}

pub struct Wakewatch {
    dir: PathBuf,
}

/// Counters of the delay.
#[derive(Clone, Copy, Default)]
pub struct Delays {
    pub delays: u64,
    /// Delayed pages that were freed during the delay.
    pub freed: u64,
}

impl Wakewatch {
    pub fn at(dir: &Path) -> Option<Self> {
        dir.join("amplify")
            .exists()
            .then(|| Self { dir: dir.into() })
    }

    fn set(&self, what: &str) -> Result<()> {
        fs::write(self.dir.join("amplify"), format!("{what}\n"))
            .with_context(|| format!("wakewatch refuses amplify=\"{what}\""))
    }

    /// Holds the window open for the pages of `target`, until the guard is dropped.
    pub fn amplify(&self, place: Where, us: u64, target: &Target) -> Result<Amplify<'_>> {
        let place = match place {
            Where::BeforeClear => "where=before-clear",
            Where::AfterClear => "where=after-clear",
            Where::AfterWakeOfWriteback => "where=after-wake bit=writeback",
            Where::BeforeWakeOfWriteback => "where=before-wake bit=writeback",
            Where::BeforeWakeOfLocked => "where=before-wake bit=locked",
            // It is every so many-th, and the first.
            Where::BeforeFirstWakeOfLocked => "where=before-wake bit=locked every=4294967295",
        };
        let Target {
            dev: (major, minor),
            ino,
            index,
        } = target;
        let mut what = format!("{place} us={us} dev={major}:{minor} ino={ino}");
        if let Some(index) = index {
            what.push_str(&format!(" index={index}"));
        }
        self.set(&what)?;
        Ok(Amplify(self))
    }

    /// The same, at the entry of `folio_wake_bit()` for `PG_locked`, for the pages of a block device. Their inode
    /// has its number; the file system that it is in is the kernel's own.
    pub fn amplify_reads_of_device(&self, us: u64, number: u64) -> Result<Amplify<'_>> {
        self.set(&format!(
            "where=before-wake bit=locked us={us} ino={number}"
        ))?;
        Ok(Amplify(self))
    }

    /// One counter of `stats`.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let path = self.dir.join("stats");
        let stats = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .ok_or_else(|| anyhow!("{} has no {name}", path.display()))?
            .trim()
            .parse()
            .with_context(|| format!("{name} in {}", path.display()))
    }

    pub fn delays(&self) -> Result<Delays> {
        Ok(Delays {
            delays: self.stat("delays")?,
            freed: self.stat("delay_freed")?,
        })
    }
}

/// Ends the delay when dropped.
pub struct Amplify<'a>(&'a Wakewatch);

impl Drop for Amplify<'_> {
    fn drop(&mut self) {
        if let Err(e) = self.0.set("off") {
            eprintln!("ww-repro: {e:#}");
        }
    }
}
