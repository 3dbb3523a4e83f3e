// SPDX-License-Identifier: GPL-2.0

//! Amplify: holds a window open, so that a race that is lost once in a month is lost now.
//!
//! The delay is a busy wait in a probe handler, with preemption disabled. Which windows, and for
//! how long, is [`Spec`]'s to say.

use crate::{
    bindings,
    detect::amplify::{Bit, Place, Spec},
    hook::tracepoint,
    page::Page,
    stats::{Counter, Stats},
};
use core::{
    cell::UnsafeCell,
    ffi::c_void,
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use kernel::{c_str, prelude::*, sync::Arc};

/// In `held`, below the alignment of a `struct page`: it was freed.
const FREED: usize = 1;

/// The delay that is asked for.
///
/// # Invariants
///
/// `spec` is written only while `on` is false and no handler can still believe otherwise.
pub(crate) struct Amplify {
    on: AtomicBool,
    spec: UnsafeCell<Option<Spec>>,
    seen: AtomicU32,
    /// The page that is being held, or 0: what [`FreeWatch`] looks for, and marks with [`FREED`].
    /// One at a time, since freeing a page must not scan anything.
    held: AtomicUsize,
    stats: Arc<Stats>,
}

// SAFETY: `spec` is shared as the type invariant says.
unsafe impl Send for Amplify {}
// SAFETY: As above.
unsafe impl Sync for Amplify {}

impl Amplify {
    /// Is any delay asked for?
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Off.
    pub(crate) fn new(stats: Arc<Stats>) -> Self {
        Self {
            on: AtomicBool::new(false),
            spec: UnsafeCell::new(None),
            seen: AtomicU32::new(0),
            held: AtomicUsize::new(0),
            stats,
        }
    }

    /// Replaces the spec. May sleep, for a grace period.
    ///
    /// # Safety
    ///
    /// Calls must not overlap.
    pub(crate) unsafe fn set(&self, spec: Option<Spec>) {
        self.on.store(false, Relaxed);
        // SAFETY: Handlers run with preemption disabled: after this none uses the old spec.
        unsafe { bindings::synchronize_rcu() };
        // INVARIANT: Off, and a grace period has passed.
        // SAFETY: As the invariant says nobody reads it, and by the safety requirements nobody
        // else writes it.
        unsafe { *self.spec.get() = spec };
        self.seen.store(0, Relaxed);
        self.on.store(spec.is_some(), Release);
    }

    /// Is a window of `bit` on this page, at `place`, to be held open, and if so for how many
    /// microseconds? For handlers: preemption disabled.
    #[inline]
    #[cold]
    pub(crate) fn wanted(&self, place: Place, bit: Bit, page: Page) -> Option<u32> {
        if !self.on.load(Acquire) {
            return None;
        }
        // SAFETY: By the type invariant: it was on, and stays as it is until a grace period after
        // it is off.
        let spec = unsafe { (*self.spec.get()).as_ref() }?;
        if spec.place != place {
            return None;
        }
        let id = if spec.needs_page() { page.id() } else { None };
        if !spec.wants(bit, id) {
            return None;
        }
        let seen = self.seen.fetch_add(1, Relaxed);
        (seen.checked_rem(spec.every) == Some(0)).then_some(spec.us)
    }

    /// Waits, and counts whether the page was freed meanwhile. For handlers: preemption disabled.
    #[cold]
    pub(crate) fn delay(&self, page: Page, us: u32) {
        self.stats.count(Counter::Delays);
        let watching = self
            .held
            .compare_exchange(0, page.addr(), Relaxed, Relaxed)
            .is_ok();
        // SAFETY: Reads a clock. Any context, NMI included.
        let now = || unsafe { bindings::ktime_get_mono_fast_ns() };
        let end = now().saturating_add(u64::from(us) * 1000);
        while now() < end {
            core::hint::spin_loop();
        }
        if !watching {
            self.stats.count(Counter::DelaysUnwatched);
        } else if self.held.swap(0, Relaxed) & FREED != 0 {
            self.stats.count(Counter::DelayFreed);
        }
    }
}

/// Notices when the page that is being held is freed: the proof that a race was lost.
///
/// On `mm_page_free`, which `free_pages_prepare()` (mm/page_alloc.c, 6.12) fires for every page
/// that is given back, once for a whole order.
#[derive(Clone)]
pub(crate) struct FreeWatch(pub(crate) Arc<Amplify>);

// SAFETY: `TP_PROTO` of mm_page_free (include/trace/events/kmem.h, 6.12) is a page and an order.
unsafe impl tracepoint::Handler for FreeWatch {
    const NAME: &'static CStr = c_str!("mm_page_free");
    const PROBE: *const c_void = Self::page_free as *const c_void;
}

impl FreeWatch {
    /// # Safety
    ///
    /// Called by the tracepoint only.
    unsafe extern "C" fn page_free(
        this: *mut c_void,
        page: *mut bindings::page,
        order: kernel::ffi::c_uint,
    ) {
        // SAFETY: `this` is what was registered, and is alive until no probe runs.
        let amplify = unsafe { &(*this.cast::<Self>()).0 };
        let held = amplify.held.load(Relaxed);
        if held == 0 || held & FREED != 0 {
            return;
        }
        // SAFETY: Both come from the kernel as pages.
        let (page_held, first) = unsafe { (Page::from_addr(held), Page::from_addr(page as usize)) };
        if page_held.is_in(first, order) {
            // Fails if the delay is over: then the page was freed after it.
            let _ = amplify
                .held
                .compare_exchange(held, held | FREED, Relaxed, Relaxed);
        }
    }
}
