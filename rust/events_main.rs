// SPDX-License-Identifier: GPL-2.0

//! Raises events that a healthy kernel does not, for a test: `insmod wakewatch_events.ko` with
//! wakewatch loaded, in a guest that is thrown away afterwards.
//!
//! The functions that wakewatch probes are called for real, on a page of this module's own whose
//! words are first made to look like what is to be found. For each of the wake bits: a page that
//! is owned, one whose refcount is frozen, one that has been freed. Then one end of writeback on a
//! page that is not under writeback, and one that nobody holds; a start of writeback on an unlocked
//! page; many pages that are freed in their windows, each with a stack of its own, and never woken; and
//! a page that is really freed and allocated again between the end of its writeback and the wake. (A wake on a
//! tail page would be a `VM_BUG_ON` of the kernel's own; the reproducer shows that one.)

mod bindings;
mod test_page;

use core::sync::atomic::{AtomicI32, Ordering::Relaxed};
use kernel::{c_str, page::Page, prelude::*};
use test_page::{Function, LOCKED, PRIVATE, UPTODATE, WAITERS, WRITEBACK};

module! {
    type: Events,
    name: "wakewatch_events",
    description: "Raises events that wakewatch is to find, for a test",
    license: "GPL",
}

struct Events;

/// The wake bits of 6.12: `folio_unlock()`, `folio_end_writeback()`, `folio_end_private_2()`.
const BITS: [u32; 3] = [
    bindings::pageflags_PG_locked,
    bindings::pageflags_PG_writeback,
    bindings::pageflags_PG_private_2,
];

impl kernel::Module for Events {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let wake = Function::find(c_str!("folio_wake_bit"))?;
        let end = Function::find(c_str!("__folio_end_writeback"))?;
        let start = Function::find(c_str!("__folio_start_writeback"))?;

        let page = Page::alloc_page(GFP_KERNEL)?;
        let raw: *mut bindings::page = page.as_ptr();
        // SAFETY: The page is this module's, and atomics have the layout of what they stand for.
        let (flags, refcount) = unsafe {
            (
                test_page::flags(raw),
                AtomicI32::from_ptr(core::ptr::addr_of_mut!((*raw)._refcount.counter)),
            )
        };
        let own_flags = flags.load(Relaxed);

        for bit in BITS {
            for (count, set) in [(1, 0), (0, UPTODATE | WAITERS), (0, 0)] {
                flags.store(own_flags | set, Relaxed);
                refcount.store(count, Relaxed);
                // SAFETY: Nobody waits for this page: all the call does is to clear PG_waiters.
                unsafe { wake.wake(raw, bit) };
            }
        }
        refcount.store(1, Relaxed);
        flags.store(own_flags, Relaxed);
        // SAFETY: The page is in no mapping: the call toggles PG_writeback and counts the page in
        // the statistics of writeback, which are one off afterwards.
        unsafe { end.end_writeback(raw) };

        // Private data is a holder; with nothing else there, the one reference is its.
        flags.store(own_flags | WRITEBACK | PRIVATE, Relaxed);
        // SAFETY: As above.
        unsafe { end.end_writeback(raw) };

        flags.store(own_flags, Relaxed);
        // SAFETY: As above. The end of this writeback is one that the module's reference keeps.
        unsafe {
            begin_writeback(start, raw);
            end.end_writeback(raw);
        }
        drop(page);

        for path in 0..STACKS {
            let page = Page::alloc_page(GFP_KERNEL)?;
            // SAFETY: The page is this module's, and in no mapping. A window opens, and nobody wakes.
            unsafe { test_page::end_read(page.as_ptr()) };
            left(page, path, DEPTH);
        }
        for attempt in 1..=ATTEMPTS {
            if reuse(start, end, wake)? {
                pr_info!("events raised, a page reused at attempt {}\n", attempt);
                return Ok(Self);
            }
            // SAFETY: May sleep, and does so.
            unsafe { bindings::msleep(PAUSE_MS) };
        }
        pr_err!("none of {} pages came back to who had freed it\n", ATTEMPTS);
        Err(EAGAIN)
    }
}

/// Whether the kernel asserts that a page whose writeback starts is locked (`VM_BUG_ON_FOLIO()` in
/// `__folio_start_writeback()`, mm/page-writeback.c, 7.3): that of an unlocked one is its own BUG there.
const START_IS_ASSERTED: bool = bindings::WW_LINUX_VERSION >= 7 << 16;

/// Starts writeback of a page that is not locked, where that can be survived.
///
/// # Safety
///
/// The page must be the caller's own, and in no mapping.
unsafe fn begin_writeback(start: Function, raw: *mut bindings::page) {
    // SAFETY: By the safety requirements; atomics have the layout of what they stand for.
    let flags = unsafe { test_page::flags(raw) };
    if START_IS_ASSERTED {
        flags.fetch_or(LOCKED, Relaxed);
    }
    // SAFETY: By the safety requirements.
    unsafe { start.start_writeback(raw) };
    if START_IS_ASSERTED {
        flags.fetch_and(!LOCKED, Relaxed);
    }
}

/// How many pages are freed until one comes back: a free page is anybody's, and the task may be moved to another
/// CPU, or another one take the page, just then.
const ATTEMPTS: u32 = 100;
/// Between two of them, in milliseconds. While another CPU drains this one's free list, every page goes to the buddy
/// allocator and comes back some day, and a host that has stopped that CPU makes this last.
const PAUSE_MS: u32 = 20;

/// Pages that are freed with stacks that differ: more than the kernel's stack depot takes at once.
const STACKS: u32 = 1 << DEPTH;
const DEPTH: u32 = 8;

/// Frees the page `depth` calls below, each of them made by this function or by [`right`], as the bits of
/// `path` say.
#[inline(never)]
fn left(page: Page, path: u32, depth: u32) -> u32 {
    below(page, path, depth).wrapping_add(1)
}

/// See [`left`]. The sum is there to make two functions of them, which call and don't jump.
#[inline(never)]
fn right(page: Page, path: u32, depth: u32) -> u32 {
    below(page, path, depth).wrapping_add(2)
}

#[inline(always)]
fn below(page: Page, path: u32, depth: u32) -> u32 {
    if depth == 0 {
        drop(page);
        return path;
    }
    let next = if path & 1 == 0 { left } else { right };
    next(page, path >> 1, depth - 1)
}

/// Ends a writeback, frees the page and allocates it again, and wakes. `false` if the page did not
/// come back.
fn reuse(start: Function, end: Function, wake: Function) -> Result<bool> {
    let page = Page::alloc_page(GFP_KERNEL)?;
    let raw: *mut bindings::page = page.as_ptr();
    // SAFETY: The page is this module's, and in no mapping. Bit operations on its flags are what
    // the functions are made for.
    unsafe {
        begin_writeback(start, raw);
        // As if somebody waited.
        test_page::flags(raw).fetch_or(WAITERS, Relaxed);
        end.end_writeback(raw);
    }
    drop(page);
    test_page::again(raw, || {
        // SAFETY: Nobody waits for this page, which is this module's again.
        unsafe { wake.wake(raw, bindings::pageflags_PG_writeback) };
    })
}
