// SPDX-License-Identifier: GPL-2.0

//! The verdicts: what is this wake, what is this end of writeback?
//!
//! Sources relied on (6.12): `folio_wake_bit()` and `folio_end_writeback()` in
//! mm/filemap.c, `free_pages_prepare()` in mm/page_alloc.c, `__remove_mapping()` in
//! mm/vmscan.c.

/// What wakewatch reports. The names are those of the documentation and of the headlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A wake on a page whose refcount is 0 because it was freed.
    ZeroRef,
    /// A wake on a tail page.
    Tail,
    /// Writeback ends and nobody but the page's known holders keeps it: the race is open.
    Unreferenced,
    /// Writeback ends on a page that is not under writeback.
    NotWriteback,
}

impl Verdict {
    /// How many verdicts there are; `as usize` of each is below it.
    pub(crate) const COUNT: usize = 4;

    /// The name in headlines and documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verdict::ZeroRef => "zero-ref",
            Verdict::Tail => "tail",
            Verdict::Unreferenced => "unreferenced",
            Verdict::NotWriteback => "not-writeback",
        }
    }
}

/// The words of a page that say whether anybody owns it, as read when it is woken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// `page->compound_head & 1`.
    pub(crate) tail: bool,
    /// `page->_refcount`.
    pub(crate) refcount: i32,
    /// Some flag of `PAGE_FLAGS_CHECK_AT_PREP` is set.
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

/// Judges a wake by the state of the page it is delivered to; the same for every bit.
///
/// A refcount of 0 alone proves nothing: `shrink_folio_list()` calls `folio_unlock()` while
/// `__remove_mapping()` holds the refcount frozen at 0. But `free_pages_prepare()` clears every
/// flag below the zone's bits, and a frozen page that is woken still has some (`PG_waiters`, to
/// begin with, which is why it is woken). A page of the buddy allocator is free whatever its
/// flags (free page reporting sets one there).
pub(crate) fn wake(owner: &Owner) -> Wake {
    if owner.tail {
        Wake::Leaked(Verdict::Tail)
    } else if owner.refcount != 0 {
        Wake::Owned
    } else if owner.flags_left && !owner.buddy {
        Wake::Frozen
    } else {
        Wake::Leaked(Verdict::ZeroRef)
    }
}

/// Who is known to hold references on a folio whose writeback ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Holders {
    /// `folio_ref_count()`.
    pub(crate) refcount: i32,
    /// The pages of the folio if it sits in the page or swap cache (one reference each), else 0.
    pub(crate) cache: i32,
    /// `folio_mapcount()`: a reference for each mapping.
    pub(crate) mapcount: i32,
    /// `PG_private`: one reference for what is attached, buffer heads for instance.
    pub(crate) private: bool,
}

impl Holders {
    /// The references that none of the known holders accounts for: those that keep the page
    /// when the known ones let go, as truncation makes them.
    pub(crate) fn spare(&self) -> i32 {
        self.refcount
            .saturating_sub(self.cache)
            .saturating_sub(self.mapcount)
            .saturating_sub(i32::from(self.private))
    }
}

/// What [`end_of_writeback`] makes of an end of writeback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody holds a reference across the clear and the wake.
    Held,
    /// A finding.
    Open(Verdict),
}

/// Judges the entry of `__folio_end_writeback()`.
///
/// `holders` is asked again, up to [`AUDIT_READS`] times, while it shows no spare reference:
/// refcount and mapcount are two words, and a fault or an unmap between the two reads can make a
/// sum that never was. Only a deficit that persists is a finding.
pub(crate) fn end_of_writeback(writeback: bool, mut holders: impl FnMut() -> Holders) -> End {
    if !writeback {
        return End::Open(Verdict::NotWriteback);
    }
    for _ in 0..AUDIT_READS {
        if holders().spare() > 0 {
            return End::Held;
        }
    }
    End::Open(Verdict::Unreferenced)
}

/// How often a missing spare reference must be seen in a row to be believed.
pub(crate) const AUDIT_READS: usize = 4;
