// SPDX-License-Identifier: GPL-2.0

//! The ends and starts of what has a bit: who holds the folio? A window opens.

use super::Shared;
use crate::{
    bindings,
    callers::Site,
    detect::{
        callers::Function,
        verdict::{self, End, Verdict},
        window::{Bit, Opened},
    },
    hook::{Entry, Handler},
    page::{self, Page},
    percpu,
    report::{self, Judged},
    stats::Counter,
    windows,
};
use kernel::sync::Arc;

impl Shared {
    /// What ends here has not begun.
    #[cold]
    #[inline(never)]
    fn unbalanced(&self, folio: Page, site: report::Site, flags: usize, at: Entry<'_>) {
        self.reporter.report(
            Verdict::Unbalanced,
            site,
            folio,
            Judged::flags(flags),
            at.ip(),
        );
    }

    /// Who keeps the folio of a read that ends, until its wake? Nobody, as a rule: readahead gives its reference
    /// away before (`readahead_folio()`, include/linux/pagemap.h, 6.12). So it is counted and no finding.
    ///
    /// One look is enough, where the end of writeback takes several: nobody maps what is being read.
    #[inline(always)]
    fn audit_read(&self, folio: Page, flags: usize, site: Site) {
        let spare = folio.holders_of_read(flags).spare();
        if spare <= 0 {
            self.stats.count(Counter::UnreferencedReads);
        }
        if let Some(row) = self.callers.this_cpu(site.row) {
            row.audit(spare);
        }
    }

    #[inline(always)]
    fn open_window(&self, page: Page, bit: Bit, function: Function, site: Site, at: Entry<'_>) {
        self.windows.open(
            page,
            bit,
            at.context(),
            Opened {
                when_ns: windows::now(),
                caller: site.caller as u64,
                slot: at.sp() as u32,
                epoch: self.knobs.missed(function),
                row: site.row as u8,
                function: function as u8,
                cpu: percpu::cpu() as u16,
            },
        );
    }
}

/// At the entry of `__folio_end_writeback(struct folio *)` (mm/page-writeback.c, 6.12).
pub(crate) struct EndOfWriteback(pub(crate) Arc<Shared>);

impl Handler for EndOfWriteback {
    #[inline(always)]
    fn entered(&self, at: Entry<'_>) {
        let shared = &*self.0;
        // SAFETY: The function's argument is a folio.
        let folio = unsafe { Page::from_addr(at.arg::<0>()) };
        let Some(now) = shared.looks_at(folio) else {
            return;
        };
        shared.stats.count(Counter::EndWriteback);
        let site = shared.callers.site_of_caller(Function::EndWriteback, at);
        let flags = folio.flags();
        match verdict::end_of_writeback(flags & page::WRITEBACK != 0, || folio.holders()) {
            End::Held(spare) => {
                if let Some(row) = shared.callers.this_cpu(site.row) {
                    row.audit(spare);
                }
            }
            End::Unreferenced(holders) => {
                let spare = holders.spare();
                if let Some(row) = shared.callers.this_cpu(site.row) {
                    row.audit(spare);
                }
                // SAFETY: Takes numbers. Any context.
                unsafe {
                    bindings::ww_trace_end_unreferenced(
                        folio.pfn() as _,
                        holders.refcount,
                        spare,
                        site.caller as _,
                    );
                }
                shared.reporter.report(
                    Verdict::Unreferenced,
                    report::Site::EndOfWriteback,
                    folio,
                    holders.into(),
                    at.ip(),
                );
            }
            End::Unbalanced => {
                shared.unbalanced(folio, report::Site::EndOfWriteback, flags, at);
            }
        }
        if now.writeback() {
            // Where clear and look are one, nobody who comes later is woken by this.
            if flags & page::WAITERS != 0 || now.always() {
                shared.open_window(folio, Bit::Writeback, Function::EndWriteback, site, at);
            } else {
                shared.windows.none(at.context());
            }
        }
    }
}

/// At the entry of `folio_end_read(struct folio *, bool)`, `folio_end_private_2(struct folio *)` or
/// `folio_unlock(struct folio *)` (mm/filemap.c, 6.12), which clear a bit and then wake. The first
/// and the last have no reference of their own.
pub(crate) struct EndOfBit<const FUNCTION: usize>(pub(crate) Arc<Shared>);

pub(crate) type EndOfRead = EndOfBit<{ Function::EndRead as usize }>;
pub(crate) type EndOfPrivate2 = EndOfBit<{ Function::Private2 as usize }>;
pub(crate) type Unlock = EndOfBit<{ Function::Unlock as usize }>;

impl<const FUNCTION: usize> Handler for EndOfBit<FUNCTION> {
    #[inline(always)]
    fn entered(&self, at: Entry<'_>) {
        let shared = &*self.0;
        let function = const { Function::ALL[FUNCTION] };
        // SAFETY: The function's first argument is a folio.
        let folio = unsafe { Page::from_addr(at.arg::<0>()) };
        let Some(now) = shared.looks_at(folio) else {
            return;
        };
        let flags = folio.flags();
        let site = shared.callers.site(function, at);
        if function == Function::EndRead && now.audits_reads() {
            shared.audit_read(folio, flags, site);
        }
        let (bit, flag) = match function {
            Function::Private2 => (Bit::Private2, bindings::pageflags_PG_private_2),
            _ => (Bit::Locked, bindings::pageflags_PG_locked),
        };
        // Whoever ends it has begun it, so nobody else may clear it: no race is needed to tell.
        if flags & (1 << flag) == 0 {
            shared.unbalanced(folio, report::Site::End(flag), flags, at);
        }
        shared.open_window(folio, bit, function, site, at);
    }
}

/// At the entry of `__folio_start_writeback(struct folio *, bool)` (mm/page-writeback.c, 6.12).
pub(crate) struct Start(pub(crate) Arc<Shared>);

impl Handler for Start {
    #[inline(always)]
    fn entered(&self, at: Entry<'_>) {
        let shared = &*self.0;
        // SAFETY: The function's first argument is a folio.
        let folio = unsafe { Page::from_addr(at.arg::<0>()) };
        if shared.looks_at(folio).is_none() {
            return;
        }
        let flags = folio.flags();
        if flags & page::LOCKED == 0 {
            shared.reporter.report(
                Verdict::UnlockedStart,
                report::Site::Start,
                folio,
                Judged::flags(flags),
                at.ip(),
            );
        }
        shared.windows.started(folio);
    }
}
