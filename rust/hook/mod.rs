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
#[cfg(ww_kernel_hooks)]
mod in_kernel;
pub(crate) mod kprobe;
#[cfg(not(ww_kernel_hooks))]
mod own;
pub(crate) mod return_probe;
pub(crate) mod stack;
pub(crate) mod symbol;
pub(crate) mod tracepoint;

// Kbuild knows which kernel has them.
#[cfg(ww_kernel_hooks)]
use in_kernel as backend;
#[cfg(not(ww_kernel_hooks))]
use own as backend;

use crate::{bindings, compat, percpu};
use kernel::prelude::*;

/// Which flow of execution runs: a task, or an interrupt of this CPU. As hooks.c has it, the part of
/// `preempt_count()` that tells them apart, and 1.
#[derive(Clone, Copy)]
pub(crate) struct Context(u32);

impl Context {
    /// This one. Any context.
    pub(crate) fn now() -> Self {
        // SAFETY: Reads the CPU's state. Any context.
        Self(unsafe { bindings::ww_context_bits() })
    }

    /// A number that no other has: of a task wherever it runs, of softirq or hardirq that of the CPU. With
    /// preemption disabled.
    #[inline(always)]
    pub(crate) fn id(self) -> u64 {
        if self.0 == 1 {
            // Its address, which is aligned.
            return percpu::current() as u64;
        }
        let hardirq = self.0 & bindings::WW_HARDIRQ_BITS != 0;
        // Aligned to pages, so the two kinds do not meet.
        percpu::offset() as u64 | if hardirq { 2 } else { 1 }
    }
}

/// A kernel function at its entry: its arguments, and where on the stack it is.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    raw: &'a bindings::ww_entry,
    context: Context,
}

impl<'a> Entry<'a> {
    /// `context` is what hooks.c says of it.
    ///
    /// # Safety
    ///
    /// `entry` must be of a function at its entry, which does not go on before the result is gone.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(entry: *const bindings::ww_entry, context: u32) -> Self {
        Self {
            // SAFETY: By the safety requirements.
            raw: unsafe { &*entry },
            context: Context(context),
        }
    }

    /// Of an entry that somebody else than hooks.c has seen.
    fn new(raw: &'a bindings::ww_entry) -> Self {
        Self {
            raw,
            context: Context::now(),
        }
    }

    /// Who is here.
    #[inline(always)]
    pub(crate) fn context(&self) -> Context {
        self.context
    }

    /// Where the function goes on.
    pub(crate) fn ip(&self) -> usize {
        compat::word(self.raw.ip)
    }

    /// The stack pointer at the entry: it points at the return address.
    pub(crate) fn sp(&self) -> usize {
        compat::word(self.raw.sp)
    }

    /// For C functions that look at the stack.
    pub(crate) fn as_raw(&self) -> *const bindings::ww_entry {
        core::ptr::from_ref(self.raw)
    }

    /// The `N`-th argument, from 0 on.
    #[inline(always)]
    pub(crate) fn arg<const N: usize>(&self) -> usize {
        compat::word(self.raw.arg[N])
    }
}

/// What is done when a function is entered.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Runs with preemption disabled, in any context but NMI. An interrupt may come in the middle, to a handler
    /// of its own, unless the function is hooked by a kprobe.
    fn entered(&self, at: Entry<'_>);
}

/// The entry that a kprobe has seen, by its registers.
#[inline(always)]
fn entry_of(regs: &bindings::pt_regs) -> bindings::ww_entry {
    bindings::ww_entry {
        arg: [regs.di, regs.si, regs.dx, regs.cx],
        sp: regs.sp,
        bp: regs.bp,
        ip: regs.ip,
    }
}

/// Why a symbol cannot be probed, in one line for the kernel log.
fn explain(symbol: &CStr, err: Error) {
    if err == ENOENT {
        pr_err!(
            "no symbol {}: this kernel has inlined or renamed it; look for it in /proc/kallsyms; end_symbol= and wake_symbol= name the two that matter most\n",
            compat::c_text(symbol)
        );
    } else if err.to_errno() == -(bindings::EOPNOTSUPP as kernel::ffi::c_int) {
        pr_err!(
            "cannot probe the return of {}: this kernel has no fprobes (CONFIG_FPROBE)\n",
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
