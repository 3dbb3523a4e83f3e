// SPDX-License-Identifier: GPL-2.0

//! Where windows are held open, if that is asked for.

use super::Shared;
use crate::{
    bindings,
    detect::{
        amplify::{Bit as DelayBit, Place},
        symbol::Range,
        verdict::{self, Past, Verdict},
        window::Bit,
    },
    hook::{return_probe, Entry},
    page::Page,
    report::Site,
};
use core::ffi::c_void;
use kernel::sync::Arc;

impl Shared {
    /// At the entry of the wake.
    #[cold]
    #[inline(never)]
    pub(super) fn delay_wake(&self, page: Page, flag: u32) {
        if let Some(us) = self
            .amplify
            .wanted(Place::BeforeWake, delay_bit(flag), page)
        {
            self.amplify.delay(page, us);
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
#[derive(Clone)]
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
    fn entered(&self, at: Entry<'_>) -> Option<Held> {
        // SAFETY: The function's argument is a folio.
        let folio = unsafe { Page::from_addr(at.arg::<0>()) };
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
        if shared.looks_at(held.folio).is_none() {
            return;
        }
        // The caller looks at the folio's PG_waiters next. On a tail page that look is the BUG
        // itself (with DEBUG_VM_PGFLAGS), and folio_wake_bit() is not reached: say it now. A page
        // that is free has no PG_waiters, so no wake comes of it.
        let owner = held.folio.owner();
        if let verdict::Wake::Leaked(verdict @ Verdict::Tail) =
            verdict::wake(&owner, Past::default())
        {
            let window = shared.windows.look(held.folio, Bit::Writeback);
            shared.reporter.report_leak(
                verdict,
                Site::AfterClear,
                held.folio,
                owner.into(),
                return_to,
                window.as_ref(),
            );
        }
    }
}

/// At the return of `__wake_up_locked_key(struct wait_queue_head *, unsigned int, void *)`
/// (kernel/sched/wait.c, 6.12) in `folio_wake_bit()`, while a delay is asked for there.
#[derive(Clone)]
pub(crate) struct AfterWake {
    pub(crate) shared: Arc<Shared>,
    /// `folio_wait_table[]`: others call the function too.
    pub(crate) queues: Range,
}

impl return_probe::Handler for AfterWake {
    type Carried = Held;

    fn entered(&self, at: Entry<'_>) -> Option<Held> {
        if !self.queues.has(at.arg::<0>()) {
            return None;
        }
        let mut flag = 0;
        // SAFETY: `folio_wake_bit()` has a `wait_page_key` on its stack for this call.
        let folio = unsafe { bindings::ww_key_folio(at.arg::<2>() as *const c_void, &mut flag) };
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
