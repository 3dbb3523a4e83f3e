// SPDX-License-Identifier: GPL-2.0

//! Raises events that a healthy kernel does not, for a test: `insmod wakewatch_events.ko` with
//! wakewatch loaded, in a guest that is thrown away afterwards.
//!
//! The functions that wakewatch probes are called for real, on a page of this module's own whose
//! words are first made to look like what is to be found. For each of the wake bits: a page that
//! is owned, one whose refcount is frozen, one that has been freed. Then one end of writeback on a
//! page that is not under writeback, and one that nobody holds; a start of writeback on an unlocked
//! page; many pages that are freed in their windows, each with a stack of its own, and never woken; and
//! a page that is really freed and allocated again between the end of its writeback and the wake. (A wake on a tail page would be a `VM_BUG_ON` of the kernel's own; the reproducer
//! shows that one.)

mod bindings;

use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};
use kernel::{c_str, error::to_result, page::Page, prelude::*};

module! {
    type: Events,
    name: "wakewatch_events",
    author: "wakewatch contributors",
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
const UPTODATE: usize = 1 << bindings::pageflags_PG_uptodate;
const WAITERS: usize = 1 << bindings::pageflags_PG_waiters;
const WRITEBACK: usize = 1 << bindings::pageflags_PG_writeback;

type WakeBit = unsafe extern "C" fn(*mut bindings::page, kernel::ffi::c_int);
type EndWriteback = unsafe extern "C" fn(*mut bindings::page);
type EndRead = unsafe extern "C" fn(*mut bindings::page, bool);
type StartWriteback = unsafe extern "C" fn(*mut bindings::page, bool);

/// How many pages are allocated to get one again that was just freed: it is the first of this
/// CPU's free list, unless the task is moved to another CPU just then.
const TRIES: usize = 16;

impl kernel::Module for Events {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let wake = address(c_str!("folio_wake_bit"))?;
        let end = address(c_str!("__folio_end_writeback"))?;
        let start = address(c_str!("__folio_start_writeback"))?;
        let read = address(c_str!("folio_end_read"))?;
        // SAFETY: These are the addresses of functions of these types (6.12). A folio of one page
        // is that page. That the second one may return a `bool` does not matter to a caller on
        // x86-64 that ignores it.
        let (wake, end, start, read) = unsafe {
            (
                core::mem::transmute::<*const (), WakeBit>(wake),
                core::mem::transmute::<*const (), EndWriteback>(end),
                core::mem::transmute::<*const (), StartWriteback>(start),
                core::mem::transmute::<*const (), EndRead>(read),
            )
        };

        let page = Page::alloc_page(GFP_KERNEL)?;
        let raw: *mut bindings::page = page.as_ptr();
        // SAFETY: The page is this module's, and atomics have the layout of what they stand for.
        let (flags, refcount) = unsafe {
            (
                AtomicUsize::from_ptr(core::ptr::addr_of_mut!((*raw).flags).cast()),
                AtomicI32::from_ptr(core::ptr::addr_of_mut!((*raw)._refcount.counter)),
            )
        };
        let own_flags = flags.load(Relaxed);

        for bit in BITS {
            for (count, set) in [(1, 0), (0, UPTODATE | WAITERS), (0, 0)] {
                flags.store(own_flags | set, Relaxed);
                refcount.store(count, Relaxed);
                // SAFETY: Nobody waits for this page: all the call does is to clear PG_waiters.
                unsafe { wake(raw, bit as _) };
            }
        }
        refcount.store(1, Relaxed);
        flags.store(own_flags, Relaxed);
        // SAFETY: The page is in no mapping: the call toggles PG_writeback and counts the page in
        // the statistics of writeback, which are one off afterwards.
        unsafe { end(raw) };

        // Private data is a holder; with nothing else there, the one reference is its.
        flags.store(
            own_flags | WRITEBACK | (1 << bindings::pageflags_PG_private),
            Relaxed,
        );
        // SAFETY: As above.
        unsafe { end(raw) };

        flags.store(own_flags, Relaxed);
        // SAFETY: As above. The end of this writeback is one that the module's reference keeps.
        unsafe {
            start(raw, false);
            end(raw);
        }
        drop(page);

        for path in 0..STACKS {
            let page = Page::alloc_page(GFP_KERNEL)?;
            end_read(page.as_ptr(), read);
            left(page, path, DEPTH);
        }
        let reused = reuse(start, end, wake)?;
        pr_info!(
            "events raised, a page {}\n",
            if reused { "reused" } else { "not reused" }
        );
        Ok(Self)
    }
}

/// Pages that are freed with stacks that differ: more than the kernel's stack depot takes at once.
const STACKS: u32 = 1 << DEPTH;
const DEPTH: u32 = 8;

/// Opens a window on the page, and wakes nobody.
fn end_read(page: *mut bindings::page, end: EndRead) {
    // SAFETY: The page is this module's, and in no mapping: the function clears the bit that is set here.
    unsafe {
        let flags = AtomicUsize::from_ptr(core::ptr::addr_of_mut!((*page).flags).cast());
        flags.fetch_or(1 << bindings::pageflags_PG_locked, Relaxed);
        end(page, false);
    }
}

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
fn reuse(start: StartWriteback, end: EndWriteback, wake: WakeBit) -> Result<bool> {
    let page = Page::alloc_page(GFP_KERNEL)?;
    let raw: *mut bindings::page = page.as_ptr();
    // SAFETY: The page is this module's, and in no mapping. Bit operations on its flags are what
    // the functions are made for.
    unsafe {
        start(raw, false);
        end(raw);
    }
    drop(page);
    let mut pages = KVec::with_capacity(TRIES, GFP_KERNEL)?;
    for _ in 0..TRIES {
        let page = Page::alloc_page(GFP_KERNEL)?;
        let again = page.as_ptr() == raw;
        pages.push(page, GFP_KERNEL)?;
        if again {
            // SAFETY: Nobody waits for this page.
            unsafe { wake(raw, bindings::pageflags_PG_writeback as _) };
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where a function is: kprobes can look up what is not exported.
fn address(symbol: &'static CStr) -> Result<*const ()> {
    let mut probe = bindings::kprobe {
        symbol_name: symbol.as_char_ptr(),
        // SAFETY: All-zero is what a C initialiser leaves in the other fields.
        ..unsafe { core::mem::zeroed() }
    };
    // SAFETY: `probe` stays where it is until it is unregistered, two lines below.
    to_result(unsafe { bindings::register_kprobe(&mut probe) })?;
    let address = probe.addr;
    // SAFETY: Just registered.
    unsafe { bindings::unregister_kprobe(&mut probe) };
    Ok(address.cast_const().cast())
}
