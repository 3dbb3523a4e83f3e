// SPDX-License-Identifier: GPL-2.0

//! Leaves a window behind and lets somebody else wake, for a test: `insmod wakewatch_stale.ko` with
//! wakewatch loaded.
//!
//! In one task: the end of a read without a waiter, so that its window stays open; the page is
//! freed, allocated again, and unlocked with `PG_waiters` set. That last wake is of the same page, bit
//! and context as the window, and not its own.

mod bindings;
mod test_page;

use core::sync::atomic::Ordering::Relaxed;
use kernel::{page::Page, prelude::*};
use test_page::{LOCKED, WAITERS};

module! {
    type: Stale,
    name: "wakewatch_stale",
    description: "Leaves a window behind for another wake, for a test",
    license: "GPL",
}

struct Stale;

/// How often all of it is done.
const ROUNDS: usize = 20;

/// `false` if the page did not come back.
fn round() -> Result<bool> {
    let page = Page::alloc_page(GFP_KERNEL)?;
    let raw: *mut bindings::page = page.as_ptr();
    // SAFETY: The page is this module's, and in no mapping.
    unsafe { test_page::end_read(raw) };
    drop(page);
    test_page::again(raw, || {
        // SAFETY: It is this module's again. Nobody waits.
        unsafe {
            test_page::flags(raw).fetch_or(LOCKED | WAITERS, Relaxed);
            bindings::folio_unlock(raw.cast());
        }
    })
}

impl kernel::Module for Stale {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let mut again = 0;
        for _ in 0..ROUNDS {
            again += usize::from(round()?);
        }
        let mut nmis = 0;
        // SAFETY: Probes a function of this module's own for a moment. May sleep.
        let contexts = unsafe { bindings::ww_int3_contexts(&mut nmis) };
        pr_info!("contexts in an int3: {}, {} in an NMI\n", contexts, nmis);
        pr_info!("{} of {} pages came back\n", again, ROUNDS);
        Ok(Self)
    }
}
