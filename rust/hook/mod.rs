// SPDX-License-Identifier: GPL-2.0

//! Safe registrations for what wakewatch hooks in the kernel: the entries of functions ([`entry`], in one of
//! three ways), their returns, and tracepoints.
//!
//! Each is a `Registration<T: Handler>` in the manner of `rust/kernel/irq/request.rs`: it owns
//! the handler, is pinned because the kernel keeps a pointer to it, and its `Drop` returns only
//! when no handler runs any more. All handlers of probes run with preemption disabled, some of them in
//! hardirq context; those of tracepoints in the tracepoint's, which may be preempted since 7.0. They must
//! not sleep, allocate, print or take a lock.

pub(crate) mod entry;
pub(crate) mod ftrace;
pub(crate) mod kprobe;
mod registered;
pub(crate) mod return_probe;
pub(crate) mod stack;
pub(crate) mod tracepoint;

use crate::{bindings, compat};
use kernel::prelude::*;

/// A kernel function at its entry: its arguments, and where on the stack it is.
#[repr(transparent)]
pub(crate) struct Entry(bindings::ww_entry);

impl Entry {
    /// # Safety
    ///
    /// `entry` must be of a function at its entry, which does not go on before the result is gone.
    #[inline(always)]
    pub(crate) unsafe fn from_raw<'a>(entry: *const bindings::ww_entry) -> &'a Self {
        // SAFETY: By the safety requirements; `Entry` has the only field's layout.
        unsafe { &*entry.cast::<Self>() }
    }

    /// Of a probe at a function's entry.
    #[inline(always)]
    fn of_regs(regs: &bindings::pt_regs) -> Self {
        Self(bindings::ww_entry {
            arg: [regs.di, regs.si, regs.dx, regs.cx],
            sp: regs.sp,
            bp: regs.bp,
            ip: regs.ip,
        })
    }

    /// Where the function goes on.
    pub(crate) fn ip(&self) -> usize {
        compat::word(self.0.ip)
    }

    /// The stack pointer at the entry: it points at the return address.
    pub(crate) fn sp(&self) -> usize {
        compat::word(self.0.sp)
    }

    /// For C functions that look at the stack.
    pub(crate) fn as_raw(&self) -> *const bindings::ww_entry {
        core::ptr::from_ref(&self.0)
    }

    /// The `N`-th argument, from 0 on.
    #[inline(always)]
    pub(crate) fn arg<const N: usize>(&self) -> usize {
        compat::word(self.0.arg[N])
    }
}

/// What is done when a function is entered.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Runs with preemption disabled, in any context but NMI. An interrupt may come in the middle, to a handler
    /// of its own, unless the function is hooked by a kprobe.
    fn entered(&self, at: &Entry);
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
