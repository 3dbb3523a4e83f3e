// SPDX-License-Identifier: GPL-2.0

//! The probes: what is looked at, and when. What it means is [`crate::detect`]'s to say.
//!
//! ```text
//! __folio_start_writeback()          <- Start: is the folio locked?
//!
//! folio_end_writeback()              folio_end_read(), folio_end_private_2(), folio_unlock()
//!   __folio_end_writeback()          <- EndOfWriteback       <- EndOfBit
//!                                    <- AroundClear, only while a delay is asked for
//!                                       does anybody hold the folio? A window opens
//!     clears PG_writeback               clears the bit
//!                                    <- AroundClear, again
//!   folio_wake_bit()                 <- Wake: does anybody own the page? The window closes
//!     __wake_up_locked_key()
//!       wake_page_function()         <- Victim, for each waiter: who is woken by a leaked wake?
//!                                    <- AfterWake, only while a delay is asked for
//!
//! mm_page_free, mm_page_alloc        <- windows::MarkFreed, MarkAllocated
//! ```

use crate::{
    amplify::Amplify,
    bindings,
    callers::Callers,
    detect::{
        amplify::{Bit as DelayBit, Place},
        callers::Function,
        config::Config,
        verdict::{self, End, Owner, Past, Verdict},
        window::{Bit, Closed, Mark, Opened},
    },
    hook::{kprobe, return_probe, Regs},
    page::Page,
    report::{Reporter, Site},
    stats::{Counter, Here, Stats},
    text::Line,
    victims::Victims,
    windows::{self, Windows},
};
use core::{
    ffi::c_void,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed},
};
use kernel::{c_str, str::CStr, sync::Arc};

/// What the handlers share.
pub(crate) struct Shared {
    /// Are findings looked for? Handlers may run for a delay's sake alone.
    pub(crate) detecting: AtomicBool,
    pub(crate) knobs: Knobs,
    pub(crate) stats: Arc<Stats>,
    pub(crate) amplify: Arc<Amplify>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) windows: Arc<Windows>,
    pub(crate) callers: Callers,
    pub(crate) victims: Victims,
}

/// Where a probe's `nmissed` is, as long as there is no probe.
static NONE_MISSED: AtomicUsize = AtomicUsize::new(0);

/// What handlers read of [`Config`]; which probes run at all says the rest of it.
pub(crate) struct Knobs {
    writeback: AtomicBool,
    audit_read: AtomicBool,
    /// A page is in the sample if its hash is at most this.
    sample: AtomicU32,
    /// `nmissed` of the probes that open windows, by [`Function`]; `NONE_MISSED` while there is none.
    missed: [AtomicPtr<kernel::ffi::c_ulong>; Function::ALL.len()],
    /// A return address known to be in the function, by [`Function`]; 0 while none is.
    inside: [AtomicUsize; Function::ALL.len()],
    /// The last one found not to be in it: most are asked for again and again.
    outside: [AtomicUsize; Function::ALL.len()],
}

impl Knobs {
    /// Those of `config`.
    pub(crate) fn new(config: &Config) -> Self {
        let knobs = Self {
            writeback: AtomicBool::new(false),
            audit_read: AtomicBool::new(false),
            sample: AtomicU32::new(u32::MAX),
            missed: [const { AtomicPtr::new(NONE_MISSED.as_ptr().cast()) }; Function::ALL.len()],
            inside: [const { AtomicUsize::new(0) }; Function::ALL.len()],
            outside: [const { AtomicUsize::new(0) }; Function::ALL.len()],
        };
        knobs.set(config);
        knobs
    }

    /// Takes over `config`. Windows that are open don't fit any more: clear them.
    pub(crate) fn set(&self, config: &Config) {
        self.writeback.store(config.writeback, Relaxed);
        self.audit_read.store(config.audit_read, Relaxed);
        self.sample.store(u32::MAX / config.sample.max(1), Relaxed);
    }

    /// Says where to look up how many hits of the probe that opens the windows of `function` were
    /// missed. It must stay valid until no handler runs any more.
    pub(crate) fn set_missed(&self, function: Function, at: *const kernel::ffi::c_ulong) {
        self.missed[function as usize].store(at.cast_mut(), Relaxed);
    }

    #[inline]
    fn sampled(&self, page: Page) -> bool {
        // The golden ratio, as hash_32() has it: pages next to each other are far apart.
        let hash = (page.key() as u32).wrapping_mul(0x61c8_8647);
        hash <= self.sample.load(Relaxed)
    }

    /// Hits missed so far by the probe that opens the windows of `function`.
    #[inline]
    fn missed(&self, function: Function) -> u64 {
        self.missed_of(function as u8)
    }

    #[inline(always)]
    fn missed_of(&self, function: u8) -> u64 {
        let at = self.missed[function as usize % Function::ALL.len()].load(Relaxed);
        // SAFETY: By what `set_missed` asks for. A statistic that the kernel writes without a lock.
        unsafe { at.read_volatile() as u64 }
    }

    /// Is `return_to`, where a wake returns to, in `function`?
    #[inline]
    fn inside(&self, function: Function, return_to: usize) -> bool {
        if self.inside[function as usize].load(Relaxed) == return_to {
            return true;
        }
        self.outside[function as usize].load(Relaxed) != return_to
            && self.learn_inside(function, return_to)
    }

    #[cold]
    fn learn_inside(&self, function: Function, return_to: usize) -> bool {
        let inside = is_in(function.symbol().as_bytes(), return_to);
        let known = if inside { &self.inside } else { &self.outside };
        known[function as usize].store(return_to, Relaxed);
        inside
    }
}

/// Is this address of code in the function of that name? Any context (kernel/kallsyms.c, 6.12).
#[cold]
fn is_in(function: &[u8], address: usize) -> bool {
    let mut symbol = Line::new();
    // SAFETY: Printed as a symbol.
    unsafe { symbol.put_pointer(c_str!("%ps"), address as *const c_void) };
    symbol.as_bytes() == function
}

impl Shared {
    /// Is something to be looked at on this page?
    #[inline]
    fn looks_at(&self, page: Page) -> bool {
        if !self.detecting.load(Relaxed) {
            return false;
        }
        if !self.knobs.sampled(page) {
            self.stats.count(Counter::SampledOut);
            return false;
        }
        true
    }

    #[inline(always)]
    fn open_window(&self, page: Page, bit: Bit, function: Function, caller: usize, row: usize) {
        let here = windows::here();
        self.windows.open(
            page,
            bit,
            here.context,
            Opened {
                when_ns: windows::now(),
                caller: caller as u64,
                epoch: self.knobs.missed(function),
                row: row as u32,
                function: function as u8,
                cpu: here.cpu as u16,
            },
        );
    }

    /// Can it be that the window is not that of this wake, but an older one of this context and page,
    /// because the probe that should have opened this wake's window was skipped?
    #[inline]
    fn doubtful(&self, window: &Closed<'_>) -> bool {
        window.opened.epoch != self.knobs.missed_of(window.opened.function)
    }

    /// Is the wake made by the function that has opened the window?
    ///
    /// One function alone wakes for `PG_writeback`, and one for `PG_private_2`. For `PG_locked` it is
    /// `folio_end_read()` or `folio_unlock()`, and the latter mostly opens no windows: its wake
    /// must not take what an end of read has left behind. Both jump to `folio_wake_bit()` as the last
    /// thing they do, so that it returns to their caller, which the window has; or they call it.
    #[inline]
    fn woken_by_opener(&self, window: &Closed<'_>, regs: &Regs) -> bool {
        const END_READ: u8 = Function::EndRead as u8;
        const UNLOCK: u8 = Function::Unlock as u8;
        let function = match window.opened.function {
            END_READ => Function::EndRead,
            UNLOCK => Function::Unlock,
            _ => return true,
        };
        let return_to = regs.return_address();
        return_to as u64 == window.opened.caller || self.knobs.inside(function, return_to)
    }
}

/// At the entry of `__folio_end_writeback(struct folio *)` (mm/page-writeback.c, 6.12).
pub(crate) struct EndOfWriteback(pub(crate) Arc<Shared>);

impl kprobe::Handler for EndOfWriteback {
    #[inline(always)]
    fn entry(&self, regs: &Regs) {
        let shared = &*self.0;
        // SAFETY: The function's argument is a folio.
        let folio = unsafe { Page::from_addr(regs.arg0()) };
        if !shared.looks_at(folio) {
            return;
        }
        shared.stats.count(Counter::EndWriteback);
        let caller = shared.callers.of_caller(regs);
        let row = shared.callers.row(Function::EndWriteback, caller);
        match verdict::end_of_writeback(folio.writeback(), || folio.holders()) {
            End::Held(spare) => {
                if let Some(row) = shared.callers.this_cpu(row) {
                    row.audit(spare);
                }
            }
            End::Unreferenced(spare) => {
                if let Some(row) = shared.callers.this_cpu(row) {
                    row.audit(spare);
                }
                // SAFETY: Takes numbers. Any context.
                unsafe {
                    bindings::ww_trace_end_unreferenced(
                        folio.pfn() as _,
                        folio.refcount(),
                        spare,
                        caller as _,
                    );
                }
                let ip = regs.ip();
                shared
                    .reporter
                    .report(Verdict::Unreferenced, Site::EndOfWriteback, folio, ip);
            }
            End::NotWriteback => {
                let ip = regs.ip();
                shared
                    .reporter
                    .report(Verdict::NotWriteback, Site::EndOfWriteback, folio, ip);
            }
        }
        if shared.knobs.writeback.load(Relaxed) {
            shared.open_window(folio, Bit::Writeback, Function::EndWriteback, caller, row);
        }
    }
}

/// At the entry of `folio_end_read(struct folio *, bool)`, `folio_end_private_2(struct folio *)` or
/// `folio_unlock(struct folio *)` (mm/filemap.c, 6.12), which clear a bit and then wake. The first
/// and the last have no reference of their own.
pub(crate) struct EndOfBit {
    pub(crate) shared: Arc<Shared>,
    pub(crate) function: Function,
}

impl kprobe::Handler for EndOfBit {
    #[inline(always)]
    fn entry(&self, regs: &Regs) {
        let shared = &*self.shared;
        // SAFETY: The function's first argument is a folio.
        let folio = unsafe { Page::from_addr(regs.arg0()) };
        if !shared.looks_at(folio) {
            return;
        }
        let caller = regs.return_address();
        let row = shared.callers.row(self.function, caller);
        if self.function == Function::EndRead && shared.knobs.audit_read.load(Relaxed) {
            if let Some(row) = shared.callers.this_cpu(row) {
                row.audit(verdict::spare(|| folio.holders()));
            }
        }
        let bit = match self.function {
            Function::Private2 => Bit::Private2,
            _ => Bit::Locked,
        };
        shared.open_window(folio, bit, self.function, caller, row);
    }
}

/// At the entry of `__folio_start_writeback(struct folio *, bool)` (mm/page-writeback.c, 6.12).
pub(crate) struct Start(pub(crate) Arc<Shared>);

impl kprobe::Handler for Start {
    #[inline(always)]
    fn entry(&self, regs: &Regs) {
        let shared = &*self.0;
        // SAFETY: The function's first argument is a folio.
        let folio = unsafe { Page::from_addr(regs.arg0()) };
        if !shared.looks_at(folio) {
            return;
        }
        if !folio.locked() {
            let ip = regs.ip();
            shared
                .reporter
                .report(Verdict::UnlockedStart, Site::Start, folio, ip);
        }
        shared.windows.started(folio);
    }
}

/// At the entry of `folio_wake_bit(struct folio *, int)` (mm/filemap.c, 6.12).
pub(crate) struct Wake(pub(crate) Arc<Shared>);

impl kprobe::Handler for Wake {
    #[inline(always)]
    fn entry(&self, regs: &Regs) {
        let shared = &*self.0;
        // SAFETY: The function's first argument is a folio, owned or not.
        let page = unsafe { Page::from_addr(regs.arg0()) };
        let flag = regs.arg1() as u32;
        // First the delay: what is to be judged is the page that gets the wake.
        if shared.amplify.is_on() {
            shared.delay_wake(page, flag);
        }
        if !shared.looks_at(page) {
            return;
        }
        let bit = match flag {
            bindings::pageflags_PG_writeback => Some(Bit::Writeback),
            bindings::pageflags_PG_locked => Some(Bit::Locked),
            bindings::pageflags_PG_private_2 => Some(Bit::Private2),
            _ => None,
        };
        let stats = shared.stats.here();
        stats.count(Counter::Wake);
        shared.victims.wake_begins();
        let owner = if page.is_held() {
            None
        } else {
            Some(page.owner())
        };
        let window = match bit {
            Some(bit) => match shared.windows.wake(page, bit) {
                Some(window) if shared.woken_by_opener(&window, regs) => Some(window),
                _ => None,
            },
            None => None,
        };
        let past = match &window {
            Some(window) => self.ended(window, page, flag, stats),
            None => {
                // Locked pages are woken by folio_unlock() too, which is mostly not looked at.
                if bit == Some(Bit::Writeback) && shared.knobs.writeback.load(Relaxed) {
                    stats.count(Counter::WakesWithoutWindow);
                }
                Past::default()
            }
        };
        if owner.is_some() || past.freed {
            shared.judge(owner, past, page, flag, regs, window);
        }
    }
}

impl Wake {
    /// Counts what a window that ends here has to tell.
    #[inline(always)]
    fn ended(&self, window: &Closed<'_>, page: Page, flag: u32, stats: Here<'_>) -> Past {
        let shared = &*self.0;
        if shared.doubtful(window) {
            stats.count(Counter::WindowsDoubted);
            return Past::default();
        }
        let length = windows::now().saturating_sub(window.opened.when_ns);
        stats.count(Counter::WindowsWoken);
        if let Some(row) = shared.callers.this_cpu(window.opened.row as usize) {
            row.length(length);
        }
        if crate::windows::window_traced() {
            // SAFETY: Takes numbers. Any context.
            unsafe {
                bindings::ww_trace_window(page.pfn() as _, flag, length, window.opened.caller as _);
            }
        }
        let past = Past {
            freed: window.has(Mark::Freed),
            allocated: window.has(Mark::Allocated),
        };
        if window.superseded && !past.freed {
            stats.count(Counter::SecondWriteback);
        }
        past
    }
}

impl Shared {
    /// The rare case: the page was freed, or looks as if nobody held it.
    #[cold]
    #[inline(never)]
    fn judge(
        &self,
        owner: Option<Owner>,
        past: Past,
        page: Page,
        flag: u32,
        regs: &Regs,
        window: Option<Closed<'_>>,
    ) {
        match verdict::wake(&owner.unwrap_or(page.owner()), past) {
            verdict::Wake::Owned => {}
            verdict::Wake::Frozen => self.stats.count(Counter::FrozenWake),
            verdict::Wake::Leaked(verdict) => self.leaked(verdict, page, flag, regs, window),
        }
    }

    #[cold]
    #[inline(never)]
    fn delay_wake(&self, page: Page, flag: u32) {
        if let Some(us) = self
            .amplify
            .wanted(Place::BeforeWake, delay_bit(flag), page)
        {
            self.amplify.delay(page, us);
        }
    }

    #[cold]
    #[inline(never)]
    fn leaked(
        &self,
        verdict: Verdict,
        page: Page,
        flag: u32,
        regs: &Regs,
        window: Option<Closed<'_>>,
    ) {
        let window = window.as_ref().map(Closed::window);
        let now = windows::now();
        let since = window
            .as_ref()
            .map_or(0, |window| now.saturating_sub(window.opened.when_ns));
        let caller = window
            .as_ref()
            .map_or(regs.return_address() as u64, |window| window.opened.caller);
        // SAFETY: Takes numbers. Any context.
        unsafe {
            bindings::ww_trace_wake_leak(
                verdict as u32,
                page.pfn() as _,
                flag,
                page.refcount(),
                since,
                caller as _,
            );
        }
        let number = self
            .reporter
            .report_leak(verdict, Site::Wake(flag), page, regs.ip(), window);
        if let Some(number) = number {
            self.victims.expect(page, flag, number);
        }
    }
}

/// At the entry of `wake_page_function(wait_queue_entry_t *, unsigned, int, void *)` (mm/filemap.c,
/// 6.12), called for each waiter in the page's hash bucket with the queue's lock held.
pub(crate) struct Victim(pub(crate) Arc<Shared>);

impl kprobe::Handler for Victim {
    #[inline(always)]
    fn entry(&self, regs: &Regs) {
        let shared = &*self.0;
        if let Some(number) = shared.victims.expected() {
            // SAFETY: The function's first argument is a waiter, which its queue's lock keeps.
            let Some(victim) = (unsafe { shared.victims.woken(regs.arg0()) }) else {
                return;
            };
            shared.stats.count(Counter::Victims);
            if !shared.reporter.add_victim(number, victim) {
                shared.stats.count(Counter::VictimsLate);
            }
        }
    }
}

fn delay_bit(flag: u32) -> DelayBit {
    match flag {
        bindings::pageflags_PG_writeback => DelayBit::Writeback,
        bindings::pageflags_PG_locked => DelayBit::Locked,
        _ => DelayBit::Any,
    }
}

/// At the entry or the return of `__folio_end_writeback()`, while a delay is asked for there.
pub(crate) struct AroundClear(pub(crate) Arc<Shared>);

/// A page to hold, and for how many microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    folio: Page,
    us: u32,
}

impl return_probe::Handler for AroundClear {
    type Carried = Held;

    /// Chooses here: after the clear the folio may have left its file.
    fn entry(&self, regs: &Regs) -> Option<Held> {
        // SAFETY: The function's argument is a folio.
        let folio = unsafe { Page::from_addr(regs.arg0()) };
        let amplify = &self.0.amplify;
        if let Some(us) = amplify.wanted(Place::BeforeClear, DelayBit::Writeback, folio) {
            amplify.delay(folio, us);
            return None;
        }
        let us = amplify.wanted(Place::AfterClear, DelayBit::Writeback, folio)?;
        Some(Held { folio, us })
    }

    fn exit(&self, held: &Held, return_to: usize) {
        let shared = &*self.0;
        shared.amplify.delay(held.folio, held.us);
        if !shared.looks_at(held.folio) {
            return;
        }
        // The caller looks at the folio's PG_waiters next. On a tail page that look is the BUG
        // itself (with DEBUG_VM_PGFLAGS), and folio_wake_bit() is not reached: say it now. A page
        // that is free has no PG_waiters, so no wake comes of it.
        if let verdict::Wake::Leaked(verdict @ Verdict::Tail) =
            verdict::wake(&held.folio.owner(), Past::default())
        {
            let window = shared.windows.look(held.folio, Bit::Writeback);
            shared
                .reporter
                .report_leak(verdict, Site::AfterClear, held.folio, return_to, window);
        }
    }
}

/// At the return of `__wake_up_locked_key(struct wait_queue_head *, unsigned int, void *)`
/// (kernel/sched/wait.c, 6.12) in `folio_wake_bit()`, while a delay is asked for there.
pub(crate) struct AfterWake {
    pub(crate) shared: Arc<Shared>,
    /// The name of `folio_wake_bit()` here: others call the function too.
    pub(crate) wake: &'static CStr,
}

impl return_probe::Handler for AfterWake {
    type Carried = Held;

    fn entry(&self, regs: &Regs) -> Option<Held> {
        if !is_in(crate::compat::c_bytes(self.wake), regs.return_address()) {
            return None;
        }
        let mut flag = 0;
        // SAFETY: `folio_wake_bit()` has a `wait_page_key` on its stack for this call.
        let folio = unsafe { bindings::ww_key_folio(regs.arg2() as *const c_void, &mut flag) };
        // SAFETY: The function was called with it as a folio, owned or not.
        let folio = unsafe { Page::from_addr(folio as usize) };
        let us = self
            .shared
            .amplify
            .wanted(Place::AfterWake, delay_bit(flag as u32), folio)?;
        Some(Held { folio, us })
    }

    fn exit(&self, held: &Held, _return_to: usize) {
        self.shared.amplify.delay(held.folio, held.us);
    }
}
