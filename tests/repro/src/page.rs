// SPDX-License-Identifier: GPL-2.0

//! What the kernel tells root about the page that holds a part of a file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::sys::{Mapping, PAGE};

/// The physical page, by number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pfn(pub u64);

/// Bits of /proc/kpageflags, from `<linux/kernel-page-flags.h>`.
#[derive(Clone, Copy)]
pub struct Flags(u64);

impl Flags {
    fn has(self, bit: u32) -> bool {
        self.0 & (1 << bit) != 0
    }

    pub fn writeback(self) -> bool {
        self.has(8)
    }

    /// One word on what the page is now.
    pub fn kind(self) -> &'static str {
        if self.has(16) && self.has(22) {
            "a tail of a huge page"
        } else if self.has(16) {
            "a tail page"
        } else if self.has(15) {
            "a head page"
        } else if self.has(10) {
            "free"
        } else {
            "an order-0 page or on its way to the free lists"
        }
    }

    pub fn is_tail(self) -> bool {
        self.has(16)
    }
}

/// Looks pages up. Keeps the files open, because opening them allocates memory, and that is
/// not to happen while a page waits on the free list for its next owner.
pub struct Pages {
    pagemap: File,
    flags: File,
}

impl Pages {
    pub fn open() -> Result<Self> {
        let open = |path| {
            File::open(path)
                .with_context(|| format!("{path} (needs root and CONFIG_PROC_PAGE_MONITOR)"))
        };
        Ok(Self {
            pagemap: open("/proc/self/pagemap")?,
            flags: open("/proc/kpageflags")?,
        })
    }

    /// The page that caches page `index` of `file`; it is read if it isn't cached.
    ///
    /// Mapping it puts it in one of this CPU's batches, which hold a reference: drain them
    /// before the page has to be free.
    pub fn of_file(&self, file: &File, index: u64) -> Result<Pfn> {
        let map = Mapping::of_page(file, index)?;
        Ok(self.of_mapping(&map, 1)?[0])
    }

    /// The same for the first `count` pages.
    pub fn of_range(&self, file: &File, count: usize) -> Result<Vec<Pfn>> {
        let map = Mapping::of_file(file, count * PAGE)?;
        self.of_mapping(&map, count)
    }

    fn of_mapping(&self, map: &Mapping, count: usize) -> Result<Vec<Pfn>> {
        map.populate_read(0, count * PAGE).context("faulting in")?;
        let mut entries = vec![0; count * 8];
        self.pagemap
            .read_exact_at(&mut entries, (map.addr() / PAGE * 8) as u64)?;
        entries
            .chunks_exact(8)
            .map(|entry| {
                let entry = u64::from_ne_bytes(entry.try_into()?);
                let pfn = entry & ((1 << 55) - 1);
                if entry & (1 << 63) == 0 || pfn == 0 {
                    bail!("/proc/self/pagemap does not tell the page's number: not root?");
                }
                Ok(Pfn(pfn))
            })
            .collect()
    }

    pub fn flags(&self, pfn: Pfn) -> Result<Flags> {
        let mut flags = [0; 8];
        self.flags.read_exact_at(&mut flags, pfn.0 * 8)?;
        Ok(Flags(u64::from_ne_bytes(flags)))
    }

    /// Spins until the page is no longer under writeback. Takes no reference and does not sleep:
    /// a waiter would have both.
    pub fn spin_until_written(&self, pfn: Pfn, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        while self.flags(pfn)?.writeback() {
            if start.elapsed() > limit {
                bail!("page {:#x} is under writeback for over {limit:?}", pfn.0);
            }
            std::hint::spin_loop();
        }
        Ok(start.elapsed())
    }
}
