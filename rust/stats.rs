// SPDX-License-Identifier: GPL-2.0

//! Counters, one set per CPU.

use crate::{bindings, detect::verdict::Verdict};
use core::{
    mem::{align_of, size_of},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use kernel::prelude::*;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is counted. The comments are the documentation of the `stats` file.
        #[derive(Clone, Copy)]
        pub(crate) enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All of them, in the order of the `stats` file, with their names there.
            pub(crate) const ALL: &'static [(Counter, &'static str)] =
                &[$((Counter::$name, $text),)*];
        }
    };
}

counters! {
    /// Ends of writeback looked at.
    EndWriteback = "end_writeback",
    /// Wakes looked at, of any bit.
    Wake = "wake",
    /// Wakes on a page whose refcount was frozen at 0: not a finding.
    FrozenWake = "frozen_wake",
    /// Findings, by verdict, reported or not.
    ZeroRef = "zero_ref",
    /// See above.
    Tail = "tail",
    /// See above.
    Unreferenced = "unreferenced",
    /// See above.
    NotWriteback = "not_writeback",
    /// Findings that the rate limit has kept from being reported.
    ReportsSuppressed = "reports_suppressed",
    /// Findings that found the report buffer full or busy.
    ReportsDropped = "reports_dropped",
    /// Delays made.
    Delays = "delays",
    /// Delays during which the page was freed.
    DelayFreed = "delay_freed",
    /// Delays while another one was being watched: whether their page was freed isn't known.
    DelaysUnwatched = "delays_unwatched",
}

impl From<Verdict> for Counter {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::ZeroRef => Counter::ZeroRef,
            Verdict::Tail => Counter::Tail,
            Verdict::Unreferenced => Counter::Unreferenced,
            Verdict::NotWriteback => Counter::NotWriteback,
        }
    }
}

type PerCpu = [AtomicU64; Counter::ALL.len()];

/// The counters of all CPUs.
///
/// # Invariants
///
/// `percpu` is per-CPU memory with a `PerCpu` for each possible CPU, zeroed at first.
pub(crate) struct Stats {
    percpu: NonNull<core::ffi::c_void>,
}

// SAFETY: Per-CPU memory belongs to no thread; the counters in it are atomic.
unsafe impl Send for Stats {}
// SAFETY: As above.
unsafe impl Sync for Stats {}

impl Stats {
    /// All 0. May sleep.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Size and alignment are a type's. The memory is zeroed by the kernel.
        let percpu =
            unsafe { bindings::ww_alloc_percpu(size_of::<PerCpu>(), align_of::<PerCpu>()) };
        // INVARIANT: Just allocated; zero is a valid `AtomicU64`.
        NonNull::new(percpu.cast())
            .map(|percpu| Self { percpu })
            .ok_or(ENOMEM)
    }

    /// Counts. Any context with preemption disabled.
    ///
    /// A load and a store instead of one atomic instruction, which costs ten times as much: kprobe
    /// and kretprobe handlers, which are all that count, do not nest on a CPU.
    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        let cell = &self.this_cpu()[counter as usize];
        cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// The sum over all CPUs. Any context; CPUs that count meanwhile may or may not be in it.
    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        // SAFETY: Set at boot.
        let cpus = unsafe { bindings::nr_cpu_ids };
        (0..cpus)
            // SAFETY: Tests a bit in a mask.
            .filter(|&cpu| unsafe { bindings::ww_cpu_possible(cpu) })
            .map(|cpu| {
                // SAFETY: By the type invariant; `cpu` is possible.
                let cells: &PerCpu =
                    unsafe { &*bindings::ww_per_cpu_ptr(self.percpu.as_ptr().cast(), cpu).cast() };
                cells[counter as usize].load(Relaxed)
            })
            .fold(0, u64::wrapping_add)
    }

    #[inline]
    fn this_cpu(&self) -> &PerCpu {
        // SAFETY: By the type invariant. If the task moved to another CPU, which callers exclude,
        // it would be that of the CPU it was on: valid all the same.
        unsafe { &*bindings::ww_this_cpu_ptr(self.percpu.as_ptr().cast()).cast() }
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, and nobody uses it any more.
        unsafe { bindings::free_percpu(self.percpu.as_ptr().cast()) };
    }
}
