// SPDX-License-Identifier: GPL-2.0

//! The probes: what is looked at, and when. What it means is [`crate::detect`]'s to say.
//!
//! ```text
//! folio_end_writeback()
//!   __folio_end_writeback()          <- EndOfWriteback: does anybody hold the folio?
//!     clears PG_writeback
//!                                    <- AfterClear, only while a delay is asked for
//!   folio_wake_bit()                 <- Wake: does anybody own the page?
//! ```

use crate::{
    amplify::Amplify,
    bindings,
    detect::{
        amplify::{Bit, Place},
        verdict::{self, End},
    },
    hook::{kprobe, return_probe, Regs},
    page::Page,
    report::{Reporter, Site},
    stats::{Counter, Stats},
};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kernel::sync::Arc;

/// What the handlers share.
pub(crate) struct Shared {
    /// Are findings looked for? Handlers may run for a delay's sake alone.
    pub(crate) detecting: AtomicBool,
    pub(crate) stats: Arc<Stats>,
    pub(crate) amplify: Arc<Amplify>,
    pub(crate) reporter: Arc<Reporter>,
}

/// At the entry of `__folio_end_writeback(struct folio *)` (mm/page-writeback.c, 6.12).
pub(crate) struct EndOfWriteback(pub(crate) Arc<Shared>);

impl kprobe::Handler for EndOfWriteback {
    fn entry(&self, regs: &Regs) {
        let shared = &*self.0;
        if !shared.detecting.load(Relaxed) {
            return;
        }
        // SAFETY: The function's argument is a folio.
        let folio = unsafe { Page::from_addr(regs.arg0()) };
        shared.stats.count(Counter::EndWriteback);
        if let End::Open(verdict) = verdict::end_of_writeback(folio.writeback(), || folio.holders())
        {
            shared
                .reporter
                .report(verdict, Site::EndOfWriteback, folio, regs.ip());
        }
    }
}

/// At the entry of `folio_wake_bit(struct folio *, int)` (mm/filemap.c, 6.12).
pub(crate) struct Wake(pub(crate) Arc<Shared>);

impl kprobe::Handler for Wake {
    fn entry(&self, regs: &Regs) {
        let shared = &*self.0;
        // SAFETY: The function's first argument is a folio, owned or not.
        let page = unsafe { Page::from_addr(regs.arg0()) };
        let flag = regs.arg1() as u32;
        let bit = match flag {
            bindings::pageflags_PG_writeback => Bit::Writeback,
            bindings::pageflags_PG_locked => Bit::Locked,
            _ => Bit::Any,
        };
        // First the delay: what is to be judged is the page that gets the wake.
        if let Some(us) = shared.amplify.wanted(Place::BeforeWake, bit, page) {
            shared.amplify.delay(page, us);
        }
        if !shared.detecting.load(Relaxed) {
            return;
        }
        shared.stats.count(Counter::Wake);
        match verdict::wake(&page.owner()) {
            verdict::Wake::Owned => {}
            verdict::Wake::Frozen => shared.stats.count(Counter::FrozenWake),
            verdict::Wake::Leaked(verdict) => {
                shared
                    .reporter
                    .report(verdict, Site::Wake(flag), page, regs.ip());
            }
        }
    }
}

/// At the return of `__folio_end_writeback()`, while a delay is asked for there.
pub(crate) struct AfterClear(pub(crate) Arc<Shared>);

/// A page to hold, and for how many microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    folio: Page,
    us: u32,
}

impl return_probe::Handler for AfterClear {
    type Carried = Held;

    /// Chooses here: after the clear the folio may have left its file.
    fn entry(&self, regs: &Regs) -> Option<Held> {
        // SAFETY: The function's argument is a folio.
        let folio = unsafe { Page::from_addr(regs.arg0()) };
        let us = self
            .0
            .amplify
            .wanted(Place::AfterClear, Bit::Writeback, folio)?;
        Some(Held { folio, us })
    }

    fn exit(&self, held: &Held, return_to: usize) {
        let shared = &*self.0;
        shared.amplify.delay(held.folio, held.us);
        if !shared.detecting.load(Relaxed) {
            return;
        }
        // The caller looks at the folio's PG_waiters next. On a tail page that look is the BUG
        // itself (with DEBUG_VM_PGFLAGS), and folio_wake_bit() is not reached: say it now. A page
        // that is free has no PG_waiters, so no wake comes of it.
        if let verdict::Wake::Leaked(verdict @ verdict::Verdict::Tail) =
            verdict::wake(&held.folio.owner())
        {
            shared
                .reporter
                .report(verdict, Site::AfterClear, held.folio, return_to);
        }
    }
}
