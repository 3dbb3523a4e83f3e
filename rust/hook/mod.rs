// SPDX-License-Identifier: GPL-2.0

//! Safe registrations for the three ways wakewatch hooks the kernel.
//!
//! Each is a `Registration<T: Handler>` in the manner of `rust/kernel/irq/request.rs`: it owns
//! the handler, is pinned because the kernel keeps a pointer to it, and its `Drop` returns only
//! when no handler runs any more. All handlers of probes run with preemption disabled, some of them in
//! hardirq context; those of tracepoints in the tracepoint's, which may be preempted since 7.0. They must
//! not sleep, allocate, print or take a lock.

pub(crate) mod kprobe;
mod registered;
pub(crate) mod return_probe;
pub(crate) mod stack;
pub(crate) mod tracepoint;

use crate::{bindings, compat};
use kernel::prelude::*;

/// The registers at a probe, which hold a function's arguments at its entry.
pub(crate) struct Regs(bindings::pt_regs);

impl Regs {
    /// # Safety
    ///
    /// `regs` must point at the registers of a probe hit, for as long as the result lives.
    unsafe fn from_raw<'a>(regs: *mut bindings::pt_regs) -> &'a Self {
        // SAFETY: By the safety requirements; `Regs` has the only field's layout.
        unsafe { &*regs.cast::<Self>() }
    }

    /// The instruction pointer: near the function's entry, or where a return goes to.
    pub(crate) fn ip(&self) -> usize {
        compat::word(self.0.ip)
    }

    /// The stack pointer: at a function's entry it points at the return address.
    pub(crate) fn sp(&self) -> usize {
        compat::word(self.0.sp)
    }

    /// For C functions that read registers.
    pub(crate) fn as_raw(&self) -> *mut bindings::pt_regs {
        core::ptr::from_ref(&self.0).cast_mut()
    }

    /// The first argument. Valid at a function's entry only.
    pub(crate) fn arg0(&self) -> usize {
        compat::word(self.0.di)
    }

    /// The second argument. Valid at a function's entry only.
    pub(crate) fn arg1(&self) -> usize {
        compat::word(self.0.si)
    }

    /// The fourth argument. Valid at a function's entry only.
    pub(crate) fn arg3(&self) -> usize {
        compat::word(self.0.cx)
    }

    /// The third argument. Valid at a function's entry only.
    pub(crate) fn arg2(&self) -> usize {
        compat::word(self.0.dx)
    }
}

/// Why a symbol cannot be probed, in one line for the kernel log.
fn explain(symbol: &CStr, err: Error) {
    if err == ENOENT {
        pr_err!(
            "no symbol {}: this kernel has inlined or renamed it; look for it in /proc/kallsyms; end_symbol= and wake_symbol= name the two that matter most\n",
            compat::c_text(symbol)
        );
    } else {
        pr_err!(
            "cannot probe {}: error {} (is CONFIG_KPROBES on, is the symbol in /sys/kernel/debug/kprobes/blacklist?)\n",
            compat::c_text(symbol),
            err.to_errno()
        );
    }
}
