// SPDX-License-Identifier: GPL-2.0

//! The verdicts: what is this wake, what is this end of writeback?
//!
//! Sources relied on (6.12): `folio_wake_bit()` and `folio_end_writeback()` in
//! mm/filemap.c, `free_pages_prepare()` in mm/page_alloc.c, `__remove_mapping()` in
//! mm/vmscan.c.

use super::holders::Holders;

/// What wakewatch reports. The names are those of the documentation and of the headlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A wake on a page whose refcount is 0 because it was freed.
    ZeroRef,
    /// A wake on a tail page.
    Tail,
    /// A wake on a page that was freed and allocated again since its bit was cleared, whatever its
    /// refcount is now.
    Reused,
    /// Writeback ends and nobody but the page's known holders keeps it: the race is open.
    Unreferenced,
    /// A bit is ended that is not set: writeback of a page that is not under writeback, the read of one that is
    /// not locked, and so on.
    Unbalanced,
    /// Writeback starts on a folio that is not locked.
    UnlockedStart,
}

impl Verdict {
    /// How many verdicts there are; `as usize` of each is below it.
    pub(crate) const COUNT: usize = 6;

    /// The name in headlines and documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::ZeroRef => "zero-ref",
            Verdict::Tail => "tail",
            Verdict::Reused => "reused",
            Verdict::Unreferenced => "unreferenced",
            Verdict::Unbalanced => "unbalanced",
            Verdict::UnlockedStart => "unlocked-start",
        }
    }
}

/// The words of a page that say whether anybody owns it, as read when it is woken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owner {
    /// `page->compound_head & 1`.
    pub(crate) tail: bool,
    /// `page->_refcount`.
    pub(crate) refcount: i32,
    /// `page->flags`.
    pub(crate) flags: usize,
    /// Some flag of `PAGE_FLAGS_CHECK_AT_PREP` is set in them.
    pub(crate) flags_left: bool,
    /// `PageBuddy()`: it is on a list of the buddy allocator.
    pub(crate) buddy: bool,
}

/// What [`wake`] makes of a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Somebody holds the page. All is well as far as can be seen from here.
    Owned,
    /// The refcount is 0 for a moment only: reclaim, migration or a split has frozen it and
    /// owns the page. Not a finding.
    Frozen,
    /// Nobody owns the page any more.
    Leaked(Verdict),
}

/// What has happened to the page in the window that the wake ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// It was freed.
    pub(crate) freed: bool,
    /// After that, it was allocated.
    pub(crate) allocated: bool,
}

/// Judges a wake, the same way for every bit: by the state of the page it is delivered to, and by
/// what has happened to the page since the bit was cleared.
///
/// A refcount of 0 alone proves nothing: `shrink_folio_list()` calls `folio_unlock()` while
/// `__remove_mapping()` holds the refcount frozen at 0. But `free_pages_prepare()` clears every
/// flag below the zone's bits, and a frozen page that is woken still has some (`PG_waiters`, to
/// begin with, which is why it is woken). A page of the buddy allocator is free whatever its
/// flags (free page reporting sets one there).
///
/// A page that was freed in its window and is held now has been allocated again, whether that was seen or
/// not: several pages can be allocated at once without an event for each. With a refcount of 0 it is free,
/// whatever its flags: `mm_page_free`, which tells of it, comes before they are cleared, and on a page that
/// the allocator refuses as bad they stay. Nobody has it. (One that was allocated unseen, and is frozen now,
/// is told as free: it can't be told apart.)
pub(crate) fn wake(owner: &Owner, past: Past) -> Wake {
    let unheld = owner.refcount == 0;
    if owner.tail {
        Wake::Leaked(Verdict::Tail)
    } else if past.allocated || (past.freed && !unheld) {
        Wake::Leaked(Verdict::Reused)
    } else if unheld && (past.freed || !owner.flags_left || owner.buddy) {
        Wake::Leaked(Verdict::ZeroRef)
    } else if unheld {
        Wake::Frozen
    } else {
        Wake::Owned
    }
}

/// What [`end_of_writeback`] makes of an end of writeback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody holds that many references across the clear and the wake.
    Held(i32),
    /// None does, or fewer than none as counted here.
    Unreferenced(Holders),
    /// It isn't under writeback.
    Unbalanced,
}

/// Judges the entry of `__folio_end_writeback()`.
///
/// `holders` is asked again, up to [`AUDIT_READS`] times, while it shows no spare reference:
/// refcount and mapcount are two words, and a fault or an unmap between the two reads can make a
/// sum that never was. Only a deficit that persists is a finding.
#[inline(always)]
pub(crate) fn end_of_writeback(writeback: bool, mut holders: impl FnMut() -> Holders) -> End {
    if !writeback {
        return End::Unbalanced;
    }
    match holders().spare() {
        spare @ 1.. => End::Held(spare),
        _ => {
            let last = settled(holders);
            match last.spare() {
                spare @ 1.. => End::Held(spare),
                _ => End::Unreferenced(last),
            }
        }
    }
}

/// Asks for the holders again while no reference is spare; see [`end_of_writeback`].
#[cold]
#[inline(never)]
fn settled(mut holders: impl FnMut() -> Holders) -> Holders {
    let mut last = holders();
    for _ in 2..AUDIT_READS {
        if last.spare() > 0 {
            break;
        }
        last = holders();
    }
    last
}

/// How often a missing spare reference must be seen in a row to be believed.
pub(crate) const AUDIT_READS: usize = 4;
