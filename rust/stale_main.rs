// SPDX-License-Identifier: GPL-2.0

//! Leaves a window behind and lets somebody else wake, for a test: `insmod wakewatch_stale.ko` with
//! wakewatch loaded.
//!
//! In one task: the end of a read without a waiter, so that its window stays open; the page is
//! freed, allocated again, and unlocked with `PG_waiters` set. That last wake is of the same page, bit
//! and context as the window, and not its own.

mod bindings;

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use kernel::{page::Page, prelude::*};

module! {
    type: Stale,
    name: "wakewatch_stale",
    author: "wakewatch contributors",
    description: "Leaves a window behind for another wake, for a test",
    license: "GPL",
}

struct Stale;

const LOCKED: usize = 1 << bindings::pageflags_PG_locked;
const WAITERS: usize = 1 << bindings::pageflags_PG_waiters;

/// How many pages are allocated to get one again that was just freed: it is the first of this
/// CPU's free list, unless the task is moved to another CPU just then.
const TRIES: usize = 16;
/// How often all of it is done.
const ROUNDS: usize = 20;

/// Sets flags of a page of one's own.
fn set(page: *mut bindings::page, flags: usize) {
    // SAFETY: The page is this module's, and atomics have the layout of what they stand for.
    unsafe { AtomicUsize::from_ptr(core::ptr::addr_of_mut!((*page).flags).cast()) }
        .fetch_or(flags, Relaxed);
}

/// `false` if the page did not come back.
fn round() -> Result<bool> {
    let page = Page::alloc_page(GFP_KERNEL)?;
    let raw: *mut bindings::page = page.as_ptr();
    set(raw, LOCKED);
    // SAFETY: The page is this module's, in no mapping and locked; it is a folio of one page.
    unsafe { bindings::folio_end_read(raw.cast(), true) };
    drop(page);
    let mut pages = KVec::with_capacity(TRIES, GFP_KERNEL)?;
    for _ in 0..TRIES {
        let page = Page::alloc_page(GFP_KERNEL)?;
        let again = page.as_ptr() == raw;
        pages.push(page, GFP_KERNEL)?;
        if again {
            set(raw, LOCKED | WAITERS);
            // SAFETY: As above. Nobody waits.
            unsafe { bindings::folio_unlock(raw.cast()) };
            return Ok(true);
        }
    }
    Ok(false)
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
