// SPDX-License-Identifier: GPL-2.0

//! What the test modules do to pages of their own: `events_main.rs`, `stale_main.rs`, `refused_main.rs`.

// None of them needs all of it.
#![allow(dead_code)]

use crate::bindings;
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use kernel::{error::to_result, prelude::*};

pub(crate) const ACTIVE: usize = 1 << bindings::pageflags_PG_active;
pub(crate) const LOCKED: usize = 1 << bindings::pageflags_PG_locked;
pub(crate) const PRIVATE: usize = 1 << bindings::pageflags_PG_private;
pub(crate) const UPTODATE: usize = 1 << bindings::pageflags_PG_uptodate;
pub(crate) const WAITERS: usize = 1 << bindings::pageflags_PG_waiters;
pub(crate) const WRITEBACK: usize = 1 << bindings::pageflags_PG_writeback;

/// A function of the kernel's that takes a folio. One of one page is that page.
#[derive(Clone, Copy)]
pub(crate) struct Function(*mut kernel::ffi::c_void);

impl Function {
    /// Looks it up.
    pub(crate) fn find(symbol: &'static CStr) -> Result<Self> {
        Ok(Self(address(symbol)?.cast_mut().cast()))
    }

    /// # Safety
    ///
    /// It must be `folio_wake_bit()`, and what that does to the page be right.
    pub(crate) unsafe fn wake(self, page: *mut bindings::page, flag: u32) {
        // SAFETY: By the safety requirements.
        unsafe { bindings::ww_call_wake(self.0, page, flag as _) };
    }

    /// # Safety
    ///
    /// It must be `__folio_end_writeback()`, and what that does to the page be right.
    pub(crate) unsafe fn end_writeback(self, page: *mut bindings::page) {
        // SAFETY: By the safety requirements.
        unsafe { bindings::ww_call_end(self.0, page) };
    }

    /// # Safety
    ///
    /// It must be `__folio_start_writeback()`, and what that does to the page be right.
    pub(crate) unsafe fn start_writeback(self, page: *mut bindings::page) {
        // SAFETY: By the safety requirements.
        unsafe { bindings::ww_call_start(self.0, page) };
    }
}

/// How many pages are allocated to get one again that was just freed: it is the first of this
/// CPU's free list of its kind, unless the task is moved to another CPU just then or somebody else comes
/// first. Which kind that is it need not have been allocated as: with little memory left a page comes from
/// a block of another one (`rmqueue_bulk()`, mm/page_alloc.c, 6.12), and goes back there. So all have their turn.
const TRIES: u32 = 48;

/// A page, of one of the kinds.
struct OfKind(NonNull<bindings::page>);

impl OfKind {
    /// May sleep.
    fn alloc(kind: u32) -> Result<Self> {
        // SAFETY: Any number is right.
        let page = unsafe { bindings::ww_alloc_page_of(kind) };
        NonNull::new(page).map(Self).ok_or(ENOMEM)
    }
}

impl Drop for OfKind {
    fn drop(&mut self) {
        // SAFETY: Allocated by `alloc()`, and this one's alone.
        unsafe { bindings::ww_free_page(self.0.as_ptr()) };
    }
}

/// The flags of a page.
///
/// # Safety
///
/// `page` must be a page of the caller's own, and stay one as long as the flags are used.
pub(crate) unsafe fn flags<'a>(page: *mut bindings::page) -> &'a AtomicUsize {
    // SAFETY: By the safety requirements; atomics have the layout of what they stand for.
    unsafe { AtomicUsize::from_ptr(core::ptr::addr_of_mut!((*page).flags).cast()) }
}

/// Ends the read of a page, for which it is locked. Nobody waits.
///
/// # Safety
///
/// As for [`flags`]; the page is in no mapping.
pub(crate) unsafe fn end_read(page: *mut bindings::page) {
    // SAFETY: By the safety requirements; it is a folio of one page. The function clears the bit that is set here.
    unsafe {
        flags(page).fetch_or(LOCKED, Relaxed);
        bindings::folio_end_read(page.cast(), true);
    }
}

/// Allocates `page` again, which was just freed, and does something to it. `false` if it did not come back.
pub(crate) fn again(page: *mut bindings::page, then: impl FnOnce()) -> Result<bool> {
    let mut pages = KVec::with_capacity(TRIES as usize, GFP_KERNEL)?;
    for kind in 0..TRIES {
        let one = OfKind::alloc(kind)?;
        let came_back = one.0.as_ptr() == page;
        pages.push(one, GFP_KERNEL)?;
        if came_back {
            then();
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
