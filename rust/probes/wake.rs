// SPDX-License-Identifier: GPL-2.0

//! The judging of a wake: whose window does it end, what has become of the page, and who is woken?

use super::{Now, Shared};
use crate::{
    bindings,
    detect::{
        callers::Function,
        origin::{Call, Origin},
        symbol::Range,
        verdict::{self, Owner, Past, Verdict},
        window::{Bit, Closed, Mark},
    },
    hook::{Entry, Handler},
    page::Page,
    report::{Site, Told},
    stats::{Counter, Here},
    windows,
};
use core::{ffi::c_void, sync::atomic::Ordering::Relaxed};
use kernel::sync::Arc;

/// At the entry of `folio_wake_bit(struct folio *, int)` (mm/filemap.c, 6.12).
pub(crate) struct Wake(pub(crate) Arc<Shared>);

impl Handler for Wake {
    #[inline(always)]
    fn entered(&self, at: Entry<'_>) {
        let shared = &*self.0;
        // SAFETY: The function's first argument is a folio, owned or not.
        let page = unsafe { Page::from_addr(at.arg::<0>()) };
        let flag = at.arg::<1>() as u32;
        // First the delay: what is to be judged is the page that gets the wake.
        if shared.amplify.is_on() {
            shared.delay_wake(page, flag);
        }
        shared.woken(page, flag, at);
    }
}

impl Shared {
    /// A wake of the page for that bit of its flags, at the entry of a function that `at` is of.
    #[inline(always)]
    fn woken(&self, page: Page, flag: u32, at: Entry<'_>) {
        let shared = self;
        // Before it is asked whether this wake is looked at: it is another one.
        shared.victims.wake_begins();
        let Some(now) = shared.looks_at(page) else {
            return;
        };
        let bit = match flag {
            bindings::pageflags_PG_writeback => Some(Bit::Writeback),
            bindings::pageflags_PG_locked => Some(Bit::Locked),
            bindings::pageflags_PG_private_2 => Some(Bit::Private2),
            _ => None,
        };
        let stats = shared.stats.here();
        stats.count(Counter::Wake);
        let owner = if page.is_held() {
            None
        } else {
            Some(page.owner())
        };
        let mut window = bit.and_then(|bit| shared.windows.wake(page, bit, at.context()));
        let none = window.is_none();
        if let Some(there) = &window {
            let not_its_own = match shared.origin(there, at) {
                Origin::Own if !shared.doubtful(there) => None,
                Origin::Foreign => Some(Counter::WindowsForeign),
                Origin::Own | Origin::Hidden => Some(Counter::WindowsDoubted),
            };
            if let Some(counter) = not_its_own {
                stats.count(counter);
                window = None;
            }
        }
        let past = match &window {
            Some(window) => shared.ended(window, page, flag, stats),
            None => {
                // Locked pages are woken by folio_unlock() too, which is mostly not looked at.
                if none && bit == Some(Bit::Writeback) && now.writeback() {
                    stats.count(Counter::WakesWithoutWindow);
                    shared.learn();
                }
                Past::default()
            }
        };
        if owner.is_some() || past.freed {
            shared.judge(owner, past, page, flag, at, window);
        }
    }
}

impl Shared {
    /// A wake for `PG_writeback`, and no window. Most likely nobody waited when writeback ended, and somebody did
    /// when the kernel looked for waiters: that is a moment on a kernel that clears and looks in one atomic step
    /// (`folio_xor_flags_has_waiters()`, 6.12), and may be long on another one. From now on every end has its
    /// window.
    #[cold]
    #[inline(never)]
    fn learn(&self) {
        if !self.knobs.now().always() {
            self.knobs.now.fetch_or(Now::LATE_WAITERS, Relaxed);
            self.reporter.tell(Told::LateWaiters);
        }
    }
}

impl Shared {
    /// Counts what a window that ends here has to tell.
    #[inline(always)]
    fn ended(&self, window: &Closed<'_>, page: Page, flag: u32, stats: Here<'_>) -> Past {
        let shared = self;
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
    /// Can it be that the window is not that of this wake, but an older one of this context and page,
    /// because the probe that should have opened this wake's window was skipped?
    #[inline]
    fn doubtful(&self, window: &Closed<'_>) -> bool {
        window.opened.epoch != self.knobs.missed_of(window.opened.function)
    }

    /// Is the wake made by the call that has opened the window?
    ///
    /// One function alone wakes for `PG_writeback`, and one for `PG_private_2`. For `PG_locked` it is
    /// `folio_end_read()` or `folio_unlock()`, and the latter mostly opens no windows: its wake
    /// must not take what an end of read has left behind. Both jump to `folio_wake_bit()` as the last
    /// thing they do, so that it returns to their caller, from the same place on the stack.
    #[inline]
    fn origin(&self, window: &Closed<'_>, at: Entry<'_>) -> Origin {
        const END_READ: u8 = Function::EndRead as u8;
        const UNLOCK: u8 = Function::Unlock as u8;
        let function = match window.opened.function {
            END_READ => Function::EndRead,
            UNLOCK => Function::Unlock,
            _ => return Origin::Own,
        };
        let call = Call {
            slot: window.opened.slot,
            caller: window.opened.caller,
        };
        if call.slot == at.sp() as u32 && call.caller == at.top() as u64 {
            return Origin::Own;
        }
        self.callers.origin(call, at, self.knobs.range(function))
    }

    /// The rare case: the page was freed, or looks as if nobody held it.
    #[cold]
    #[inline(never)]
    fn judge(
        &self,
        owner: Option<Owner>,
        past: Past,
        page: Page,
        flag: u32,
        at: Entry<'_>,
        window: Option<Closed<'_>>,
    ) {
        let owner = owner.unwrap_or_else(|| page.owner());
        match verdict::wake(&owner, past) {
            verdict::Wake::Owned => {}
            verdict::Wake::Frozen => self.stats.count(Counter::FrozenWake),
            verdict::Wake::Leaked(verdict) => self.leaked(verdict, owner, page, flag, at, window),
        }
    }

    #[cold]
    #[inline(never)]
    fn leaked(
        &self,
        verdict: Verdict,
        owner: Owner,
        page: Page,
        flag: u32,
        at: Entry<'_>,
        window: Option<Closed<'_>>,
    ) {
        let window = window.as_ref().map(Closed::window);
        let now = windows::now();
        let since = window
            .as_ref()
            .map_or(0, |window| now.saturating_sub(window.opened.when_ns));
        let caller = window.as_ref().map_or_else(
            || self.callers.return_address(at).unwrap_or(0) as u64,
            |window| window.opened.caller,
        );
        // SAFETY: Takes numbers. Any context.
        unsafe {
            bindings::ww_trace_wake_leak(
                verdict as u32,
                page.pfn() as _,
                flag,
                owner.refcount,
                since,
                caller as _,
            );
        }
        let number = self.reporter.report_leak(
            verdict,
            Site::Wake(flag),
            page,
            owner.into(),
            at.ip(),
            window.as_ref(),
        );
        if let Some(number) = number {
            self.victims.expect(page, flag, number);
        }
    }
}

/// At the entry of `__wake_up_locked_key(struct wait_queue_head *, unsigned int, void *)`
/// (kernel/sched/wait.c, 6.12), by which all wakes of pages come, if they have waiters or not: those that come
/// past `folio_wake_bit()`, because a compiler has made it a part of its caller. The queue's lock is held.
pub(crate) struct PastWake {
    pub(crate) shared: Arc<Shared>,
    /// Where the code of `folio_wake_bit()` is; nowhere if this kernel has none.
    pub(crate) wake: Range,
    /// `folio_wait_table[]`: others have queues, too.
    pub(crate) queues: Range,
}

impl Handler for PastWake {
    #[inline(always)]
    fn entered(&self, at: Entry<'_>) {
        // Looked at there.
        if self.wake.has(at.top()) || !self.queues.has(at.arg::<0>()) {
            return;
        }
        self.wake(at);
    }
}

impl PastWake {
    #[cold]
    #[inline(never)]
    fn wake(&self, at: Entry<'_>) {
        let shared = &*self.shared;
        if self.wake.size != 0 {
            match shared.callers.return_address(at) {
                Some(caller) if !self.wake.has(caller) => shared.reporter.tell(Told::Past),
                // Or other tracers hide it; then it most likely came by the way that most come.
                _ => return,
            }
        }
        let mut flag = 0;
        // SAFETY: Who wakes a queue of pages has a `wait_page_key` on its stack for this call.
        let page = unsafe { bindings::ww_key_folio(at.arg::<2>() as *const c_void, &mut flag) };
        // SAFETY: Its folio, owned or not.
        let page = unsafe { Page::from_addr(page as usize) };
        shared.stats.count(Counter::WakesPast);
        shared.woken(page, flag as u32, at);
    }
}

/// At the entry of `wake_page_function(wait_queue_entry_t *, unsigned, int, void *)` (mm/filemap.c,
/// 6.12), called for each waiter in the page's hash bucket with the queue's lock held.
pub(crate) struct Victim(pub(crate) Arc<Shared>);

impl Handler for Victim {
    #[inline(always)]
    fn entered(&self, at: Entry<'_>) {
        let shared = &*self.0;
        if !shared.victims.is_empty() {
            shared.passed(at);
        }
    }
}

impl Shared {
    /// A leaked wake goes on here, and comes past this waiter.
    #[cold]
    #[inline(never)]
    fn passed(&self, at: Entry<'_>) {
        let shared = self;
        // SAFETY: The function's first argument is a waiter, which its queue's lock keeps; the last one
        // is what `folio_wake_bit()` has its waiters woken with.
        let Some((number, victim)) =
            (unsafe { shared.victims.woken(at.arg::<0>(), at.arg::<3>()) })
        else {
            return;
        };
        shared.stats.count(Counter::Victims);
        if !shared.reporter.add_victim(number, victim) {
            shared.stats.count(Counter::VictimsLate);
        }
    }
}
