// SPDX-License-Identifier: GPL-2.0

//! Frees a page that the allocator refuses, for a test: `insmod wakewatch_refused.ko` with wakewatch
//! loaded, in a guest that is thrown away afterwards.
//!
//! The page's writeback ends as if somebody waited, so that a window opens; `__folio_end_writeback()` alone wakes
//! nobody, and it stays open. The page is freed with a flag set
//! that no free page may have: `mm_page_free` tells of it, and then the allocator says "Bad page state"
//! and takes it out of use, flags and all. Then comes the wake.

mod bindings;
mod test_page;

use core::sync::atomic::Ordering::Relaxed;
use kernel::{c_str, page::Page, prelude::*};
use test_page::{Function, ACTIVE, WAITERS, WRITEBACK};

module! {
    type: Refused,
    name: "wakewatch_refused",
    description: "Frees a page that the allocator refuses, for a test",
    license: "GPL",
}

struct Refused;

impl kernel::Module for Refused {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let end = Function::find(c_str!("__folio_end_writeback"))?;
        let wake = Function::find(c_str!("folio_wake_bit"))?;
        let page = Page::alloc_page(GFP_KERNEL)?;
        let raw: *mut bindings::page = page.as_ptr();
        // SAFETY: The page is this module's, and nobody gets it after that.
        let flags = unsafe { test_page::flags(raw) };
        flags.fetch_or(WRITEBACK | WAITERS, Relaxed);
        // SAFETY: The page is in no mapping: the call toggles PG_writeback and counts the page in
        // the statistics of writeback, which are one off afterwards.
        unsafe { end.end_writeback(raw) };
        flags.fetch_or(ACTIVE, Relaxed);
        drop(page);
        // SAFETY: Nobody gets a page that was refused. Nobody waits for it: all the call does is to clear
        // PG_waiters.
        unsafe { wake.wake(raw, bindings::pageflags_PG_writeback) };
        Ok(Self)
    }
}
