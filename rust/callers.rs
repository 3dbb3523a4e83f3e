// SPDX-License-Identifier: GPL-2.0

//! Call sites in the kernel: who calls, and the rows of all CPUs.

use crate::{
    bindings,
    detect::callers::{Function, Row, Rows, Sites, Sum, LENGTHS, SITES},
    hook::Regs,
    percpu::PerCpu,
    stats::{Counter, Stats},
    text::{Line, Sink},
};
use core::{
    ffi::c_void,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use kernel::{c_str, prelude::*, sync::Arc};

/// What is known of call sites.
pub(crate) struct Callers {
    sites: Sites,
    rows: PerCpu<Rows>,
    /// Where the return address of `folio_end_writeback()` is, as [`Callers::of_caller`] learned it.
    learned: AtomicU64,
    stats: Arc<Stats>,
}

impl Callers {
    /// None yet. May sleep.
    pub(crate) fn new(stats: Arc<Stats>) -> Result<Self> {
        Ok(Self {
            sites: Sites::new(),
            rows: PerCpu::zeroed()?,
            learned: AtomicU64::new(0),
            stats,
        })
    }

    /// Who called the function that called the probed one: the address behind
    /// `folio_end_writeback()` for a probe at the entry of `__folio_end_writeback()`; in that one, if
    /// the kernel has no unwind tables (CONFIG_UNWINDER_ORC) to tell. For kprobe handlers at a function's entry.
    ///
    /// The distance from the stack pointer to that return address is a constant of the place of the
    /// call. It is taken from the unwind tables once and kept; a call from another place replaces it.
    #[inline]
    pub(crate) fn of_caller(&self, regs: &Regs) -> usize {
        let return_to = regs.stack(0);
        let learned = self.learned.load(Relaxed);
        let low = return_to as u64 & 0xffff_ffff;
        if learned >> 32 == low {
            return regs.stack(learned as usize & 0xffff_ffff);
        }
        self.learn(regs, low)
    }

    #[cold]
    fn learn(&self, regs: &Regs, low: u64) -> usize {
        let Some(offset) = regs.caller_offset() else {
            return regs.return_address();
        };
        self.learned.store((low << 32) | offset as u64, Relaxed);
        regs.stack(offset)
    }

    /// The row of a call site. For kprobe handlers.
    #[inline]
    pub(crate) fn row(&self, function: Function, caller: usize) -> usize {
        match self.sites.row(function, caller as u64) {
            Some(row) => row,
            None => {
                self.stats.count(Counter::CallersDropped);
                SITES
            }
        }
    }

    /// What this CPU knows of a row, if there is such a row. For kprobe handlers.
    #[inline]
    pub(crate) fn this_cpu(&self, row: usize) -> Option<&Row> {
        self.rows.this_cpu().get(row)
    }

    /// Forgets what was counted. May sleep.
    pub(crate) fn reset(&self) {
        self.rows.all().flatten().for_each(Row::reset);
    }

    /// The `callers` file: a line for each call site that was audited.
    pub(crate) fn show(&self, sink: &mut dyn Sink) {
        self.each(|function, caller, sum| {
            if sum.calls == 0 {
                return;
            }
            let mut line = Line::of(format_args!(
                "site={} calls={} none={} spare_min={} spare_max={} caller=",
                function.name(),
                sum.calls,
                sum.none,
                sum.least,
                sum.most
            ));
            // SAFETY: Printed as a symbol.
            unsafe { line.put_pointer(c_str!("%pS"), caller as *const c_void) };
            sink.line(&line);
        });
    }

    /// The histograms of the `windows` file: a line for each call site whose windows were woken.
    pub(crate) fn show_lengths(&self, sink: &mut dyn Sink) {
        self.each(|function, caller, sum| {
            if sum.windows() == 0 {
                return;
            }
            let mut line = Line::of(format_args!("site={} caller=", function.name()));
            // SAFETY: Printed as a symbol.
            unsafe { line.put_pointer(c_str!("%pS"), caller as *const c_void) };
            line.put(format_args!(" n={}", sum.windows()));
            for (log, count) in sum.lengths.iter().enumerate().take(LENGTHS) {
                if *count != 0 {
                    line.put(format_args!(" {log}:{count}"));
                }
            }
            sink.line(&line);
        });
    }

    fn each(&self, mut show: impl FnMut(Function, usize, &Sum)) {
        for row in 0..SITES {
            if let Some((function, caller)) = self.sites.site(row) {
                let sum = Sum::of(self.rows.all().filter_map(|rows| rows.get(row)));
                show(function, caller as usize, &sum);
            }
        }
    }
}

impl Regs {
    /// The word `offset` bytes above the stack pointer. For a function's entry and offsets that its
    /// callers' frames have.
    #[inline]
    fn stack(&self, offset: usize) -> usize {
        let at = self.sp().wrapping_add(offset) as *const usize;
        // SAFETY: 0 is the return address. Other offsets come from the unwind tables, for calls from
        // the same place: the word is in the current stack.
        unsafe { at.read_volatile() }
    }

    /// See `ww_caller_offset()`. Below 4 GB, like all of a stack.
    fn caller_offset(&self) -> Option<usize> {
        // SAFETY: Reads the current stack. Any context.
        match unsafe { bindings::ww_caller_offset(self.as_raw()) as usize } {
            0 => None,
            offset => Some(offset & 0xffff_ffff),
        }
    }

    /// The return address. Valid at a function's entry only.
    #[inline]
    pub(crate) fn return_address(&self) -> usize {
        self.stack(0)
    }
}
