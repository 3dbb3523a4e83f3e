// SPDX-License-Identifier: GPL-2.0

//! The window table in the kernel: contexts, clocks, tasks and stacks for [`crate::detect::window`],
//! and the tracepoints that mark.

use crate::{
    bindings, compat,
    detect::window::{
        Bit, Bucket, Closed, Event, Fate, Mark, Marked, Opened, Outcome, Table, Window,
    },
    hook::{tracepoint, Context},
    page::Page,
    percpu::{self, NoPreempt},
    stats::{Counter, Stats},
    sync::STACK,
};
use core::ffi::c_void;
use kernel::{alloc::kvec::KVVec, c_str, prelude::*, sync::Arc};

/// Buckets of the table: with the windows of each, and room for three stacks in each of those, 464 KB. A
/// context has one window at a time, so what counts is how many tasks and CPUs end writeback, not how
/// many pages.
const BUCKETS: usize = 256;

/// The buckets.
///
/// # Invariants
///
/// There are `BUCKETS` of them.
struct Buckets(KVVec<Bucket>);

impl core::ops::Deref for Buckets {
    type Target = [Bucket; BUCKETS];

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        // SAFETY: By the type invariant.
        unsafe { &*self.0.as_ptr().cast() }
    }
}

/// The windows of all pages.
pub(crate) struct Windows {
    table: Table<Buckets, BUCKETS>,
    stats: Arc<Stats>,
}

impl Windows {
    /// None. May sleep.
    pub(crate) fn new(stats: Arc<Stats>) -> Result<Self> {
        let mut buckets = KVVec::with_capacity(BUCKETS, GFP_KERNEL)?;
        for _ in 0..BUCKETS {
            buckets.push(Bucket::new(), GFP_KERNEL)?;
        }
        Ok(Self {
            // INVARIANT: As many were pushed.
            table: Table::new(Buckets(buckets)),
            stats,
        })
    }

    /// Opens a window. For handlers of functions.
    #[inline(always)]
    pub(crate) fn open(&self, page: Page, bit: Bit, context: Context, opened: Opened) {
        let Outcome { fate, retired } = self.table.open(page.key(), bit, context.id(), opened);
        match fate {
            Fate::Open => self.stats.count(Counter::WindowsOpened),
            fate => self.not_simply(fate),
        }
        if retired {
            self.stats.count(Counter::WindowsRetired);
        }
    }

    /// Another one had to go for it, or it was dropped.
    #[cold]
    #[inline(never)]
    fn not_simply(&self, fate: Fate) {
        if fate == Fate::Dropped {
            self.stats.count(Counter::WindowsDropped);
        } else {
            self.stats.count(Counter::WindowsOpened);
            self.stats.count(Counter::WindowsOverwritten);
        }
    }

    /// Opens no window, since nobody will be woken. For handlers of functions.
    #[inline(always)]
    pub(crate) fn none(&self, context: Context) {
        if self.table.none(context.id()) {
            self.stats.count(Counter::WindowsRetired);
        }
    }

    /// Closes the window of this wake, which has one unless it was dropped, overwritten or its
    /// opening was missed. For handlers of functions.
    #[inline(always)]
    pub(crate) fn wake(&self, page: Page, bit: Bit, context: Context) -> Option<Closed<'_>> {
        self.table.wake(page.key(), bit, context.id())
    }

    /// The window of this context, which stays open.
    pub(crate) fn look(&self, page: Page, bit: Bit) -> Option<Window> {
        self.table.look(page.key(), bit, Context::now().id())
    }

    /// Something has happened to a page: if it has an open window, mark that.
    #[inline(always)]
    fn happened(&self, page: Page, mark: Mark) {
        if self.table.may_have(page.key()) {
            self.mark(page, mark);
        }
    }

    #[cold]
    #[inline(never)]
    fn mark(&self, page: Page, mark: Mark) {
        let counter = match mark {
            Mark::Freed => Counter::MarksFreed,
            Mark::Allocated => Counter::MarksAllocated,
            Mark::Started => Counter::MarksStarted,
        };
        // Who is preempted with a window in its hands keeps others' marks from it.
        let _stay = NoPreempt::new();
        let marked = self.table.mark(page.key(), mark, || self.event());
        self.count(marked, counter);
    }

    /// Writeback of a folio starts: if that page has an open window from an earlier life, mark it.
    #[inline]
    pub(crate) fn started(&self, folio: Page) {
        self.happened(folio, Mark::Started);
    }

    /// A block of pages is allocated, with one in it that has an open window.
    #[cold]
    #[inline(never)]
    fn allocated_block(&self, key: u64, order: u32) {
        // As above.
        let _stay = NoPreempt::new();
        let marked = self
            .table
            .mark_range(key, order, Mark::Allocated, || self.event());
        self.count(marked, Counter::MarksAllocated);
    }

    /// Closes all windows: whatever is found open afterwards has been opened since.
    pub(crate) fn clear(&self) {
        self.table.clear();
    }

    /// How many are open, how many of those on pages that were freed, and how many there is room for.
    pub(crate) fn occupancy(&self) -> (usize, usize, usize) {
        let (open, freed) = self.table.open_windows();
        (open, freed, self.table.room())
    }

    /// Who is here, and where. For handlers; slow.
    #[inline(always)]
    fn event(&self) -> Event {
        // The kernel's stack depot would keep each stack once. But it takes a lock, and where nothing can be
        // allocated it is full some day.
        let mut stack = [0; STACK];
        // SAFETY: There is always a current task, which stays while it runs; its `comm` may be written
        // meanwhile, and any bytes are a value. The others read the CPU's state, and a stack into an array of that
        // size. Any context.
        let (pid, comm, context) = unsafe {
            let task = percpu::current();
            bindings::stack_trace_save(stack.as_mut_ptr().cast(), STACK as u32, 1);
            ((*task).pid, (*task).comm, bindings::ww_context())
        };
        Event {
            when_ns: now(),
            pid,
            cpu: percpu::cpu() as u16,
            context: context as u16,
            comm: comm.map(compat::byte),
            stack,
        }
    }

    #[inline]
    fn count(&self, marked: Marked, counter: Counter) {
        if marked != Marked::default() {
            self.count_marked(marked, counter);
        }
    }

    #[cold]
    fn count_marked(&self, marked: Marked, counter: Counter) {
        self.stats.add(counter, marked.windows);
        self.stats.add(
            Counter::MarksDropped,
            marked.dropped.wrapping_add(marked.unknown),
        );
    }
}

/// The clock of reports and windows, that of the kernel log.
#[inline]
pub(crate) fn now() -> u64 {
    // SAFETY: Reads a clock. Any context.
    unsafe { bindings::local_clock() }
}

/// Marks pages that are freed. `free_pages_prepare()` (mm/page_alloc.c, 6.12) fires
/// `mm_page_free` for every folio that is given back, before anybody else can have it.
#[derive(Clone)]
pub(crate) struct MarkFreed(pub(crate) Arc<Windows>);

// SAFETY: `TP_PROTO` of mm_page_free (include/trace/events/kmem.h, 6.12) is a page and an order.
unsafe impl tracepoint::Handler for MarkFreed {
    const NAME: &'static CStr = c_str!("mm_page_free");
    const PROBE: *const c_void = Self::page_free as *const c_void;
}

impl MarkFreed {
    /// # Safety
    ///
    /// Called by the tracepoint only.
    unsafe extern "C" fn page_free(
        this: *mut c_void,
        page: *mut bindings::page,
        _order: kernel::ffi::c_uint,
    ) {
        // SAFETY: `this` is what was registered, and is alive until no probe runs.
        let windows = unsafe { &*(*this.cast::<Self>()).0 };
        // SAFETY: It comes from the kernel as a page.
        let page = unsafe { Page::from_addr(page as usize) };
        windows.happened(page, Mark::Freed);
    }
}

/// Marks freed pages that are allocated: `__alloc_pages_noprof()` (mm/page_alloc.c, 6.12; in 7.3
/// `__alloc_frozen_pages_noprof()`) fires `mm_page_alloc`. Bulk allocation does not, nor does the vmalloc that uses it.
#[derive(Clone)]
pub(crate) struct MarkAllocated(pub(crate) Arc<Windows>);

// SAFETY: `TP_PROTO` of mm_page_alloc (include/trace/events/kmem.h, 6.12) is a page, which may be
// null, an order, gfp flags and a migrate type.
unsafe impl tracepoint::Handler for MarkAllocated {
    const NAME: &'static CStr = c_str!("mm_page_alloc");
    const PROBE: *const c_void = Self::page_alloc as *const c_void;
}

impl MarkAllocated {
    /// # Safety
    ///
    /// Called by the tracepoint only.
    unsafe extern "C" fn page_alloc(
        this: *mut c_void,
        page: *mut bindings::page,
        order: kernel::ffi::c_uint,
        _gfp: bindings::gfp_t,
        _migratetype: kernel::ffi::c_int,
    ) {
        if page.is_null() {
            return;
        }
        // SAFETY: `this` is what was registered, and is alive until no probe runs.
        let windows = unsafe { &*(*this.cast::<Self>()).0 };
        // SAFETY: It comes from the kernel as a page.
        let page = unsafe { Page::from_addr(page as usize) };
        if order == 0 {
            windows.happened(page, Mark::Allocated);
        } else if windows.table.may_have_freed(page.key(), order) {
            windows.allocated_block(page.key(), order);
        }
    }
}

/// Does anybody read the trace event `window`?
#[inline(always)]
pub(crate) fn window_traced() -> bool {
    // SAFETY: This module's own.
    unsafe { compat::tracepoint_enabled(core::ptr::addr_of!(bindings::__tracepoint_window)) }
}
