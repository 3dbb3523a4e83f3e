// SPDX-License-Identifier: GPL-2.0

//! Where the kernel's symbols are, exported or not.
//!
//! C header: include/linux/kprobes.h; kernel/kprobes.c (6.12).

use crate::{bindings, detect::symbol::Range, text::Line};
use kernel::{c_str, prelude::*};

/// Where a symbol is; kprobes can look up what is not exported. May sleep.
pub(crate) fn address(symbol: &'static CStr) -> Option<usize> {
    let mut probe = bindings::kprobe {
        symbol_name: symbol.as_char_ptr(),
        flags: bindings::KPROBE_FLAG_DISABLED,
        // SAFETY: All-zero is what a C initialiser leaves in the other fields.
        ..unsafe { core::mem::zeroed() }
    };
    // SAFETY: `probe` is initialised, and stays where it is until it is unregistered.
    if unsafe { bindings::register_kprobe(&mut probe) } == 0 {
        // SAFETY: Just registered.
        unsafe { bindings::unregister_kprobe(&mut probe) };
    }
    // `register_kprobe()` (kernel/kprobes.c, 6.12) has found it before it refuses to probe it.
    let address = probe.addr as usize;
    (address != 0).then_some(address)
}

/// What a symbol is the name of. May sleep.
pub(crate) fn range(symbol: &'static CStr) -> Option<Range> {
    range_of(address(symbol)?)
}

/// Of the symbol that the address is in.
pub(super) fn range_of(address: usize) -> Option<Range> {
    let mut shown = Line::new();
    // SAFETY: Printed as a symbol.
    unsafe { shown.put_pointer(c_str!("%pS"), address as *const core::ffi::c_void) };
    Range::parse(address, core::str::from_utf8(shown.as_bytes()).ok()?)
}
