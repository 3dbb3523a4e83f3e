// SPDX-License-Identifier: GPL-2.0

//! Everything that differs between the kernel versions wakewatch builds on. Nothing outside of
//! this file knows the version.
//!
//! Written for 6.12. Names that bindgen gives to anonymous structs and unions are here as well,
//! since they change whenever a field is added to `struct page`.

use crate::bindings;
use kernel::prelude::*;

/// The bytes of a C string without its NUL.
pub(crate) fn c_bytes(s: &CStr) -> &[u8] {
    s.as_bytes()
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

/// `page->flags`.
///
/// # Safety
///
/// `page` must point at a `struct page`. Nothing need hold it: the word is read once, whatever it
/// is by then.
#[inline(always)]
pub(crate) unsafe fn page_flags(page: *const bindings::page) -> usize {
    // SAFETY: By the safety requirements the word can be read.
    word(unsafe { core::ptr::addr_of!((*page).flags).read_volatile() })
}

/// `page->compound_head`.
///
/// # Safety
///
/// As for [`page_flags`].
#[inline(always)]
pub(crate) unsafe fn page_compound_head(page: *const bindings::page) -> usize {
    // SAFETY: By the safety requirements the word can be read.
    word(unsafe {
        core::ptr::addr_of!((*page).__bindgen_anon_1.__bindgen_anon_3.compound_head).read_volatile()
    })
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
    unsafe { core::ptr::addr_of!((*page).__bindgen_anon_2._mapcount.counter).read_volatile() }
}

/// `folio->mapping`, type bits and all.
///
/// # Safety
///
/// As for [`page_flags`].
#[inline(always)]
pub(crate) unsafe fn folio_mapping(page: *const bindings::page) -> usize {
    // SAFETY: By the safety requirements the word can be read; head page and folio are one.
    unsafe {
        core::ptr::addr_of!((*page).__bindgen_anon_1.__bindgen_anon_1.mapping).read_volatile()
            as usize
    }
}

/// `folio->index`.
///
/// # Safety
///
/// As for [`page_flags`].
pub(crate) unsafe fn folio_index(page: *const bindings::page) -> u64 {
    // SAFETY: By the safety requirements the word can be read; head page and folio are one.
    unsafe {
        core::ptr::addr_of!(
            (*page)
                .__bindgen_anon_1
                .__bindgen_anon_1
                .__bindgen_anon_2
                .index
        )
        .read_volatile() as u64
    }
}
