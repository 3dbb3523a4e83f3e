// SPDX-License-Identifier: GPL-2.0

//! Frees a page that the allocator refuses, for a test: `insmod wakewatch_refused.ko` with wakewatch
//! loaded, in a guest that is thrown away afterwards.
//!
//! The page's writeback ends, without a waiter, so that its window stays open. It is freed with a flag set
//! that no free page may have: `mm_page_free` tells of it, and then the allocator says "Bad page state"
//! and takes it out of use, flags and all. Then comes the wake.

mod bindings;

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use kernel::{c_str, error::to_result, page::Page, prelude::*};

module! {
    type: Refused,
    name: "wakewatch_refused",
    author: "wakewatch contributors",
    description: "Frees a page that the allocator refuses, for a test",
    license: "GPL",
}

struct Refused;

const ACTIVE: usize = 1 << bindings::pageflags_PG_active;
const WRITEBACK: usize = 1 << bindings::pageflags_PG_writeback;

type EndWriteback = unsafe extern "C" fn(*mut bindings::page);
type WakeBit = unsafe extern "C" fn(*mut bindings::page, kernel::ffi::c_int);

impl kernel::Module for Refused {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: These are the addresses of functions of these types (6.12). A folio of one page
        // is that page. That the first one may return a `bool` does not matter to a caller on
        // x86-64 that ignores it.
        let (end, wake) = unsafe {
            (
                core::mem::transmute::<*const (), EndWriteback>(address(c_str!(
                    "__folio_end_writeback"
                ))?),
                core::mem::transmute::<*const (), WakeBit>(address(c_str!("folio_wake_bit"))?),
            )
        };
        let page = Page::alloc_page(GFP_KERNEL)?;
        let raw: *mut bindings::page = page.as_ptr();
        // SAFETY: The page is this module's, and atomics have the layout of what they stand for.
        let flags = unsafe { AtomicUsize::from_ptr(core::ptr::addr_of_mut!((*raw).flags).cast()) };
        flags.fetch_or(WRITEBACK, Relaxed);
        // SAFETY: The page is in no mapping: the call toggles PG_writeback and counts the page in
        // the statistics of writeback, which are one off afterwards.
        unsafe { end(raw) };
        flags.fetch_or(ACTIVE, Relaxed);
        drop(page);
        // SAFETY: Nobody gets a page that was refused. Nobody waits for it: all the call does is to clear
        // PG_waiters.
        unsafe { wake(raw, bindings::pageflags_PG_writeback as _) };
        Ok(Self)
    }
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
