// SPDX-License-Identifier: GPL-2.0

//! Counters, one set per CPU.

use crate::{detect::verdict::Verdict, percpu::PerCpu, sync::Count};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
    /// Those of them that did not come by `folio_wake_bit()`.
    WakesPast = "wakes_past",
    /// Wakes on a page whose refcount was frozen at 0: not a finding.
    FrozenWake = "frozen_wake",
    /// Events on pages that are not in the sample.
    SampledOut = "sampled_out",
    /// Findings, reported or not; so are the next five.
    ZeroRef = "zero_ref",
    Tail = "tail",
    Reused = "reused",
    Unreferenced = "unreferenced",
    Unbalanced = "unbalanced",
    UnlockedStart = "unlocked_start",
    /// Ends of reads that nobody's reference keeps the folio across: not a finding.
    UnreferencedReads = "unreferenced_reads",
    /// Wakes that came when the page, never freed, had ended another writeback already.
    SecondWriteback = "second_writeback",
    /// Windows opened.
    WindowsOpened = "windows_opened",
    /// Windows that ended in a wake.
    WindowsWoken = "windows_woken",
    /// Windows without a wake, closed by the next one of the same context.
    WindowsRetired = "windows_retired",
    /// Windows that had to make place for another one.
    WindowsOverwritten = "windows_overwritten",
    /// Windows that found no place: not watched.
    WindowsDropped = "windows_dropped",
    /// Windows that a wake of another call has come upon: what it woke for was never their end.
    WindowsForeign = "windows_foreign",
    /// Windows not believed, because an opening was missed while they were open, or because other tracers
    /// hide whose wake it is.
    WindowsDoubted = "windows_doubted",
    /// Wakes whose window was dropped, overwritten, or never opened.
    WakesWithoutWindow = "wakes_without_window",
    /// Windows whose page was seen to be freed.
    MarksFreed = "marks_freed",
    /// Windows whose page was freed and seen to be allocated again.
    MarksAllocated = "marks_allocated",
    /// Windows whose page was freed and seen to be under writeback again.
    MarksStarted = "marks_started",
    /// Marks that could not be made, or without telling who it was.
    MarksDropped = "marks_dropped",
    /// Tasks woken by a leaked wake that was reported.
    Victims = "victims",
    /// Tasks woken by a leaked wake that are missing in its report.
    VictimsLate = "victims_late",
    /// Calls whose call site found no room in the table, was hidden by other tracers, or came during a reset.
    CallersDropped = "callers_dropped",
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
            Verdict::Reused => Counter::Reused,
            Verdict::Unreferenced => Counter::Unreferenced,
            Verdict::Unbalanced => Counter::Unbalanced,
            Verdict::UnlockedStart => Counter::UnlockedStart,
        }
    }
}

/// The counters of all CPUs.
pub(crate) struct Stats {
    percpu: PerCpu<[AtomicU64; Counter::ALL.len()]>,
    /// What the sums were when they were last reset. The cells are their CPU's: whoever wrote a 0 there could
    /// have it overwritten by an increment that has begun before.
    since: [AtomicU64; Counter::ALL.len()],
}

/// The counters of the CPU that this is.
#[derive(Clone, Copy)]
pub(crate) struct Here<'a>(&'a [AtomicU64; Counter::ALL.len()]);

impl Here<'_> {
    /// As [`Stats::count`].
    #[inline(always)]
    pub(crate) fn count(&self, counter: Counter) {
        self.0[counter as usize].one_more();
    }
}

impl Stats {
    /// All 0. May sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            percpu: PerCpu::zeroed()?,
            since: [const { AtomicU64::new(0) }; Counter::ALL.len()],
        })
    }

    /// Counts. Any context with preemption disabled.
    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        self.percpu.one_more(counter as usize);
    }

    /// The counters of this CPU, for who counts more than once without leaving it.
    #[inline(always)]
    pub(crate) fn here(&self) -> Here<'_> {
        Here(self.this_cpu())
    }

    /// Adds `n`. Any context with preemption disabled.
    pub(crate) fn add(&self, counter: Counter, n: u32) {
        self.this_cpu()[counter as usize].fetch_add(n.into(), Relaxed);
    }

    /// Sets all to 0. What is counted meanwhile may or may not stay.
    pub(crate) fn reset(&self) {
        for &(counter, _) in Counter::ALL {
            self.since[counter as usize].store(self.since_loaded(counter), Relaxed);
        }
    }

    /// The sum over all CPUs. Any context; CPUs that count meanwhile may or may not be in it.
    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        let since = self.since[counter as usize].load(Relaxed);
        self.since_loaded(counter).wrapping_sub(since)
    }

    /// The same since the module was loaded.
    fn since_loaded(&self, counter: Counter) -> u64 {
        self.percpu
            .all()
            .map(|cells| cells[counter as usize].load(Relaxed))
            .fold(0, u64::wrapping_add)
    }

    #[inline]
    fn this_cpu(&self) -> &[AtomicU64; Counter::ALL.len()] {
        self.percpu.this_cpu()
    }
}
