// SPDX-License-Identifier: GPL-2.0

//! What ftrace calls at the entries of functions: a trampoline of ours directly, or a function of ours with
//! ftrace's own trampoline before it.
//!
//! C header: include/linux/ftrace.h; kernel/trace/ftrace.c (6.12).

use crate::bindings;
use kernel::prelude::*;

pub(super) use super::backend::ftrace::Registration;

/// How ftrace calls at a function's entry.
#[derive(Clone, Copy)]
pub(super) enum Callee {
    /// With the nop there made a call of it.
    Direct(unsafe extern "C" fn()),
    /// With a call of ftrace's, which calls it.
    Function(bindings::ftrace_func_t),
}

/// As long as one lives, ftrace is on and can't be switched off (`sysctl kernel.ftrace_enabled`): direct calls
/// and the kprobes that it makes would be gone in silence.
pub(crate) struct StaysOn(#[allow(dead_code)] Registration);

impl StaysOn {
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EAGAIN`, explained in the kernel log, if it is off.
    pub(crate) fn new() -> Result<Self> {
        let nobody = bindings::ww_nobody_calls as *const () as usize;
        // SAFETY: It calls for nothing, and is this module's as that function is.
        match unsafe { Registration::new(nobody, Callee::Function(Some(nothing))) } {
            Ok(registration) => Ok(Self(registration)),
            Err(err) if err == EBUSY => {
                pr_err!("ftrace is switched off: write 1 to /proc/sys/kernel/ftrace_enabled\n");
                Err(EAGAIN)
            }
            Err(err) => Err(err),
        }
    }
}

/// What is called for [`StaysOn`].
extern "C" fn nothing(
    _ip: kernel::ffi::c_ulong,
    _parent: kernel::ffi::c_ulong,
    _ops: *mut bindings::ftrace_ops,
    _regs: *mut bindings::ftrace_regs,
) {
}
