// SPDX-License-Identifier: GPL-2.0

//! Call sites in the kernel: who calls, and the rows of all CPUs.

use crate::{
    bindings,
    detect::{
        callers::{Function, Row, Rows, Sites, Sum, LENGTHS, SITES},
        origin::{origin, Call, Origin},
        symbol::Range,
    },
    hook::{stack::Trampolines, symbol, Entry},
    percpu::PerCpu,
    stats::{Counter, Stats},
    text::{Line, Sink},
};
use core::{
    ffi::c_void,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use kernel::{c_str, prelude::*, sync::Arc};

/// Frames that may be between a wake and the call that has opened its window.
const FRAMES: usize = 4;

/// Is there a frame more between who ends writeback and `__folio_end_writeback()`: see `Callers::wrapper`?
const WRAPPED: bool = bindings::WW_LINUX_VERSION >= ((6 << 16) | (18 << 8));

/// A call site.
#[derive(Clone, Copy)]
pub(crate) struct Site {
    /// Where the caller goes on; 0 if other tracers hide it.
    pub(crate) caller: usize,
    /// Its row, or [`SITES`] if it has none.
    pub(crate) row: usize,
}

/// What is known of call sites.
pub(crate) struct Callers {
    sites: Sites,
    rows: PerCpu<Rows>,
    /// How far from a return address that of the next frame is, as [`Callers::site_of_caller`] learned it:
    /// of who calls `__folio_end_writeback()`, and of `folio_end_writeback()` behind that.
    learned: [AtomicU64; 2],
    /// `folio_end_writeback()`, which calls `folio_end_writeback_no_dropbehind()` since 6.18, as others do.
    wrapper: Range,
    trampolines: Trampolines,
    stats: Arc<Stats>,
}

impl Callers {
    /// None yet. May sleep.
    pub(crate) fn new(stats: Arc<Stats>) -> Result<Self> {
        Ok(Self {
            sites: Sites::new(),
            rows: PerCpu::zeroed()?,
            learned: [const { AtomicU64::new(0) }; 2],
            wrapper: symbol::range(c_str!("folio_end_writeback")).unwrap_or_default(),
            trampolines: Trampolines::find(),
            stats,
        })
    }

    /// Who called the probed function. For handlers, at a function's entry.
    #[inline]
    pub(crate) fn site(&self, function: Function, at: Entry<'_>) -> Site {
        self.site_at(function, at.sp(), None)
    }

    /// Who called the function that called the probed one: the address behind
    /// `folio_end_writeback()` for a probe at the entry of `__folio_end_writeback()`, or behind what calls
    /// that in its place; in that one, if the kernel has no unwind tables (CONFIG_UNWINDER_ORC) to tell. For
    /// handlers, at a function's entry.
    ///
    /// The distance from the stack pointer to that return address is a constant of the place of the
    /// call. It is taken from the unwind tables once and kept; a call from another place replaces it.
    #[inline]
    pub(crate) fn site_of_caller(&self, function: Function, at: Entry<'_>) -> Site {
        let mut slot = at.sp().wrapping_add(self.distance(0, at.top(), at));
        // SAFETY: A word of the current stack, see `site_at`.
        let caller = unsafe { (slot as *const usize).read_volatile() };
        if WRAPPED && self.wrapper.has(caller) {
            slot = slot.wrapping_add(self.distance(1, caller, at));
        }
        self.site_at(function, slot, Some(at))
    }

    /// From the slot of the return address `place` to that of the function that `place` is in, which is the
    /// caller of the probed one, or (1) the next. 0 if that can't be told.
    #[inline(always)]
    fn distance(&self, frame: usize, place: usize, at: Entry<'_>) -> usize {
        let learned = self.learned[frame].load(Relaxed);
        if learned >> 32 == place as u64 & 0xffff_ffff {
            learned as usize & 0xffff_ffff
        } else {
            self.learn(frame, place, at)
        }
    }

    #[cold]
    fn learn(&self, frame: usize, place: usize, at: Entry<'_>) -> usize {
        let (slots, found) = self.trampolines.slots::<2>(at);
        let (from, to) = match (frame, found) {
            (0, 1..) => (at.sp(), slots[0]),
            (1, 2) => (slots[0], slots[1]),
            _ => return 0,
        };
        // Below 4 GB, like all of a stack.
        let distance = to.wrapping_sub(from) & 0xffff_ffff;
        // A tracer's trampoline is no place of a call; of the next frame, it has been looked at.
        if frame != 0 || self.return_address(at) == Some(place) {
            let low = place as u64 & 0xffff_ffff;
            self.learned[frame].store((low << 32) | distance as u64, Relaxed);
        }
        distance
    }

    /// The call site whose return address is at `slot`; not one in the wrapper, if there are registers to look
    /// behind it.
    #[inline(always)]
    fn site_at(&self, function: Function, slot: usize, wrapped: Option<Entry<'_>>) -> Site {
        // SAFETY: The caller's slot, or one that the unwind tables have for calls from the same place: a word
        // of the current stack.
        let caller = unsafe { (slot as *const usize).read_volatile() };
        match self.sites.known(function, caller as u64) {
            // No trampoline is ever among them.
            Some(row) => Site { caller, row },
            None => self.new_site(function, slot, wrapped),
        }
    }

    #[cold]
    #[inline(never)]
    fn new_site(&self, function: Function, slot: usize, wrapped: Option<Entry<'_>>) -> Site {
        // SAFETY: As above.
        let mut caller = unsafe { self.trampolines.return_address(slot) }.unwrap_or(0);
        // Tracers have hidden that it is in the wrapper.
        if let Some(at) = wrapped.filter(|_| self.wrapper.has(caller)) {
            if let ([_, slot], 2) = self.trampolines.slots::<2>(at) {
                // SAFETY: As above.
                caller = unsafe { self.trampolines.return_address(slot) }.unwrap_or(0);
            }
        }
        let row = match caller {
            0 => None,
            caller => self.sites.row(function, caller as u64),
        };
        Site {
            caller,
            row: row.unwrap_or_else(|| {
                self.stats.count(Counter::CallersDropped);
                SITES
            }),
        }
    }

    /// Where the probed function returns to; `None` if tracers hide it. For handlers, at a function's
    /// entry.
    pub(crate) fn return_address(&self, at: Entry<'_>) -> Option<usize> {
        // SAFETY: At its entry a function's return address is where the stack pointer shows.
        unsafe { self.trampolines.return_address(at.sp()) }
    }

    /// Is the wake whose entry `at` is of made by the call that has opened a window? `within` is
    /// where the opener's code is.
    #[cold]
    pub(crate) fn origin(&self, call: Call, at: Entry<'_>, within: Range) -> Origin {
        let entry = at.sp();
        let full = |slot: u32| entry.wrapping_add(slot.wrapping_sub(entry as u32) as usize);
        origin(
            call,
            entry as u32,
            // SAFETY: `origin` asks for the wake's own slot, or for one a little above it that `returns` has let
            // through. With ORC that is among the return addresses that were found; without it, all that is
            // known is that the opener's code made the wake, whose frame lies above this one on the same stack.
            |slot| unsafe { self.trampolines.return_address(full(slot)) }.map(|at| at as u64),
            |slot| {
                let called = self
                    .return_address(at)
                    .is_some_and(|return_to| within.has(return_to));
                let (slots, found) = self.trampolines.slots::<FRAMES>(at);
                called && found == 0 || slots.iter().take(found).any(|&at| at == full(slot))
            },
        )
    }

    /// What this CPU knows of a row, if there is such a row. For handlers of functions.
    #[inline]
    pub(crate) fn this_cpu(&self, row: usize) -> Option<&Row> {
        self.rows.this_cpu().get(row)
    }

    /// Forgets call sites and what was counted of them; `windows_go` has to close all windows, which
    /// have rows. May sleep.
    pub(crate) fn reset(&self, windows_go: impl FnOnce()) {
        self.sites.close();
        // Handlers run with preemption disabled: those that have been given a row are done after this.
        // SAFETY: May sleep, and does so.
        unsafe { bindings::synchronize_rcu() };
        windows_go();
        // A wake may have taken a window, and its row with it, just before that.
        // SAFETY: As above.
        unsafe { bindings::synchronize_rcu() };
        self.rows.all().flatten().for_each(Row::reset);
        self.sites.open();
    }

    /// The `callers` file: a line for each call site that was audited.
    pub(crate) fn show(&self, sink: &mut dyn Sink) {
        self.each(|function, caller, sum| {
            if sum.calls == 0 {
                return;
            }
            let mut line = Line::of(format_args!(
                "site={} calls={} none={} spare_min={} spare_max={} verdict={} caller=",
                function.name(),
                sum.calls,
                sum.none,
                sum.least,
                sum.most,
                sum.verdict()
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
