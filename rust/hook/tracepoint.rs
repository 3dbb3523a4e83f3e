// SPDX-License-Identifier: GPL-2.0

//! A probe on one of the kernel's tracepoints, exported to modules or not.
//!
//! C header: include/linux/tracepoint.h; kernel/tracepoint.c (6.12).

use crate::compat;
use core::ffi::c_void;
use kernel::prelude::*;

pub(crate) use super::backend::tracepoint::Registration;

/// What a probe function of a tracepoint looks like: a pointer to its handler, then the
/// tracepoint's own arguments.
///
/// The first is a `void *`, and not a pointer to what it is: with a second probe on the tracepoint the call
/// is an indirect one, and a kernel with `CONFIG_CFI_CLANG` has it checked that the prototypes are the same.
///
/// # Safety
///
/// `PROBE` must take a `*mut c_void` and then exactly the arguments of `TP_PROTO` of the
/// tracepoint called `NAME`, and use the first as a `&Self` only.
pub(crate) unsafe trait Handler: Send + Sync + 'static {
    /// The tracepoint's name.
    const NAME: &'static CStr;
    /// An `extern "C"` function, cast to a pointer. Runs in the tracepoint's context, with preemption
    /// disabled by 6.12 and not by 7.3: see [`crate::percpu::NoPreempt`].
    const PROBE: *const c_void;
}

/// That there is none of that name, in one line for the kernel log.
pub(super) fn no_tracepoint(name: &CStr) {
    pr_err!(
        "no tracepoint {}: build the kernel with CONFIG_TRACEPOINTS (CONFIG_FTRACE selects it)\n",
        compat::c_text(name)
    );
}
