// SPDX-License-Identifier: GPL-2.0

//! Everything that differs between the kernel versions wakewatch builds on, as far as it is Rust's;
//! `helpers.c` has C's part. What is here asks for no version: it is written in what 6.12 and 7.3 have in
//! common.
//!
//! Where the words of a `struct page` are is C's to say (`WW_AT_...`): bindgen's names for what encloses
//! them change whenever a field is added, and the words have changed types and names.

use crate::bindings;
use kernel::{prelude::*, types::Opaque};

/// The bytes of a C string without its NUL.
pub(crate) fn c_bytes(s: &CStr) -> &[u8] {
    // SAFETY: It is a C string, which lives as long as `s`. (The kernel's own type up to 6.18, core's since.)
    unsafe { core::ffi::CStr::from_ptr(s.as_char_ptr().cast()) }.to_bytes()
}

/// A C string that may hold any byte, as far as it is text.
pub(crate) fn c_text(s: &CStr) -> &str {
    core::str::from_utf8(c_bytes(s)).unwrap_or("(not text)")
}

/// What `container_of!` is to be given for a C object that is in an [`Opaque`]. It minds since 6.17.
#[inline(always)]
pub(crate) const fn opaque<T>(object: *const T) -> *mut Opaque<T> {
    object.cast_mut().cast()
}

/// An `unsigned long`. The first 6.12.y have it as `u64`, later ones as `usize`.
#[allow(clippy::unnecessary_cast)]
#[inline(always)]
pub(crate) const fn word(long: kernel::ffi::c_ulong) -> usize {
    long as usize
}

/// A `char`. The first 6.12.y have it as `i8`, later ones as `u8`.
#[allow(clippy::unnecessary_cast)]
pub(crate) const fn byte(char: kernel::ffi::c_char) -> u8 {
    char as u8
}

/// Does anybody read the trace event whose tracepoint that is? The first word of a static key is its
/// counter, whatever kind of key it is (6.13 has changed that).
///
/// # Safety
///
/// `tracepoint` must point at a tracepoint.
#[inline(always)]
pub(crate) unsafe fn tracepoint_enabled(tracepoint: *const bindings::tracepoint) -> bool {
    // SAFETY: By the safety requirements; a racing read sees an old or a new value.
    unsafe {
        core::ptr::addr_of!((*tracepoint).key)
            .cast::<i32>()
            .read_volatile()
            > 0
    }
}

/// The word of a page at `at`.
///
/// # Safety
///
/// As for [`page_flags`]; `at` must be one of the `WW_AT_...`.
#[inline(always)]
unsafe fn page_word(page: *const bindings::page, at: u32) -> usize {
    // SAFETY: By the safety requirements the word can be read.
    unsafe {
        page.cast::<u8>()
            .add(at as usize)
            .cast::<usize>()
            .read_volatile()
    }
}

/// `page->flags`.
///
/// # Safety
///
/// `page` must point at a `struct page`. Nothing need hold it: the word is read once, whatever it
/// is by then.
#[inline(always)]
pub(crate) unsafe fn page_flags(page: *const bindings::page) -> usize {
    // SAFETY: As for this function.
    unsafe { page_word(page, bindings::WW_AT_FLAGS) }
}

/// `page->compound_head`.
///
/// # Safety
///
/// As for [`page_flags`].
#[inline(always)]
pub(crate) unsafe fn page_compound_head(page: *const bindings::page) -> usize {
    // SAFETY: As for this function.
    unsafe { page_word(page, bindings::WW_AT_HEAD) }
}

/// `page->_refcount`.
///
/// # Safety
///
/// As for [`page_flags`].
#[inline(always)]
pub(crate) unsafe fn page_refcount(page: *const bindings::page) -> i32 {
    // SAFETY: By the safety requirements the word can be read.
    unsafe { core::ptr::addr_of!((*page)._refcount.counter).read_volatile() }
}

/// `page->_mapcount`, -1 for a small folio that nobody maps.
///
/// # Safety
///
/// As for [`page_flags`].
#[inline(always)]
pub(crate) unsafe fn page_raw_mapcount(page: *const bindings::page) -> i32 {
    // SAFETY: By the safety requirements the word can be read.
    unsafe {
        page.cast::<u8>()
            .add(bindings::WW_AT_MAPCOUNT as usize)
            .cast::<i32>()
            .read_volatile()
    }
}

/// `folio->mapping`, type bits and all.
///
/// # Safety
///
/// As for [`page_flags`].
#[inline(always)]
pub(crate) unsafe fn folio_mapping(page: *const bindings::page) -> usize {
    // SAFETY: As for this function; head page and folio are one.
    unsafe { page_word(page, bindings::WW_AT_MAPPING) }
}

/// `folio->index`.
///
/// # Safety
///
/// As for [`page_flags`].
pub(crate) unsafe fn folio_index(page: *const bindings::page) -> u64 {
    // SAFETY: As for this function; head page and folio are one.
    unsafe { page_word(page, bindings::WW_AT_INDEX) as u64 }
}
