// SPDX-License-Identifier: GPL-2.0

//! What is this wake, what is this end of writeback?

use crate::detect::holders::Holders;
use crate::detect::verdict::{end_of_writeback, End, Owner, Past, Verdict, Wake, AUDIT_READS};
use proptest::prelude::*;

/// A wake of which nothing is known but the page.
fn wake(owner: &Owner) -> Wake {
    crate::detect::verdict::wake(owner, Past::default())
}

const OWNED: Owner = Owner {
    tail: false,
    refcount: 1,
    flags: 0,
    flags_left: false,
    buddy: false,
};

#[test]
fn a_page_that_somebody_holds_is_owned() {
    assert_eq!(wake(&OWNED), Wake::Owned);
}

#[test]
fn a_freed_page_has_no_flags_left() {
    let freed = Owner {
        refcount: 0,
        ..OWNED
    };
    assert_eq!(wake(&freed), Wake::Leaked(Verdict::ZeroRef));
}

/// `shrink_folio_list()` unlocks a page whose refcount `__remove_mapping()` has frozen.
#[test]
fn a_frozen_page_is_no_finding() {
    let frozen = Owner {
        refcount: 0,
        flags_left: true,
        ..OWNED
    };
    assert_eq!(wake(&frozen), Wake::Frozen);
}

/// `mm_page_free` comes before the flags are cleared; and they stay where the allocator refuses the page as
/// bad. Either way nobody has allocated it.
#[test]
fn what_was_freed_and_not_allocated_is_not_reused() {
    let freed = Past {
        freed: true,
        allocated: false,
    };
    for flags_left in [false, true] {
        let owner = Owner {
            refcount: 0,
            flags_left,
            ..OWNED
        };
        let verdict = crate::detect::verdict::wake(&owner, freed);
        assert_eq!(verdict, Wake::Leaked(Verdict::ZeroRef), "{flags_left}");
    }
}

/// The names in rust/trace.h, which trace events print.
#[test]
fn trace_events_have_the_verdicts_numbers() {
    let header = include_str!("../../../rust/trace.h");
    for verdict in [Verdict::ZeroRef, Verdict::Tail, Verdict::Reused] {
        let name = verdict.name().to_uppercase().replace('-', "_");
        let number = header
            .lines()
            .find_map(|line| line.strip_prefix(&format!("#define WW_VERDICT_{name}")))
            .expect("is there");
        assert_eq!(number.trim(), (verdict as u32).to_string(), "{name}");
    }
}

/// Free page reporting sets a flag on pages of the buddy allocator.
#[test]
fn a_page_of_the_buddy_allocator_is_free_whatever_its_flags() {
    let reported = Owner {
        refcount: 0,
        flags_left: true,
        buddy: true,
        ..OWNED
    };
    assert_eq!(wake(&reported), Wake::Leaked(Verdict::ZeroRef));
}

/// The race between `get` and the mapping that counts: refcount and mapcount are two words.
#[test]
fn a_deficit_that_goes_away_is_no_finding() {
    for seen_bad in 0..AUDIT_READS {
        let mut asked = 0;
        let verdict = end_of_writeback(true, || {
            asked += 1;
            Holders {
                refcount: 2,
                pages: 1,
                page_cache: true,
                mapcount: i32::from(asked <= seen_bad),
                ..Holders::default()
            }
        });
        assert_eq!(verdict, End::Held(1), "after {seen_bad} bad reads");
    }
}

#[test]
fn a_deficit_that_stays_is_one() {
    let only_the_cache = Holders {
        refcount: 1,
        pages: 1,
        page_cache: true,
        ..Holders::default()
    };
    assert_eq!(
        end_of_writeback(true, || only_the_cache),
        End::Unreferenced(only_the_cache)
    );
}

/// What comes with the verdict is a reading that made it, and none that was not judged.
#[test]
fn the_sum_is_the_one_that_was_judged() {
    let mut asked = 0;
    let verdict = end_of_writeback(true, || {
        asked += 1;
        // Somebody looks the page up as soon as nobody asks any more.
        Holders {
            refcount: 1 + i32::from(asked > AUDIT_READS),
            pages: 1,
            page_cache: true,
            ..Holders::default()
        }
    });
    let End::Unreferenced(judged) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!((judged.refcount, judged.spare()), (1, 0));
}

#[test]
fn the_end_of_no_writeback_is_said_first() {
    assert_eq!(end_of_writeback(false, || unreachable!()), End::Unbalanced);
}

proptest! {
    /// Every look of a page, with every past: what is freed in its window is never all right, and
    /// without a past nothing is `reused`.
    #[test]
    fn the_past_decides(tail: bool, refcount in 0..3i32, flags_left: bool, buddy: bool,
                        freed: bool, allocated: bool) {
        let owner = Owner { tail, refcount, flags: 0, flags_left, buddy };
        let verdict = crate::detect::verdict::wake(&owner, Past { freed, allocated });
        let expected = match (tail, freed, allocated, refcount == 0) {
            (true, ..) => Wake::Leaked(Verdict::Tail),
            (_, _, true, _) | (_, true, _, false) => Wake::Leaked(Verdict::Reused),
            (_, true, _, true) => Wake::Leaked(Verdict::ZeroRef),
            (_, false, _, true) if !flags_left || buddy => Wake::Leaked(Verdict::ZeroRef),
            (_, false, _, true) => Wake::Frozen,
            _ => Wake::Owned,
        };
        prop_assert_eq!(verdict, expected);
    }

    #[test]
    fn a_tail_is_a_tail_whatever_else(refcount: i32, flags_left: bool, buddy: bool) {
        let owner = Owner { tail: true, refcount, flags: 0, flags_left, buddy };
        prop_assert_eq!(wake(&owner), Wake::Leaked(Verdict::Tail));
    }

    #[test]
    fn no_report_while_there_is_a_reference(
        refcount in any::<i32>().prop_filter("held", |&r| r != 0),
        flags_left: bool,
        buddy: bool,
    ) {
        prop_assert_eq!(wake(&Owner { tail: false, refcount, flags: 0, flags_left, buddy }), Wake::Owned);
    }

    /// A finding means that every read showed a deficit; anything else is silence.
    #[test]
    fn a_finding_needs_every_read(reads in prop::collection::vec(-2..3i32, AUDIT_READS)) {
        let mut left = reads.iter();
        let verdict = end_of_writeback(true, || Holders {
            refcount: *left.next().expect("asked no more often than said"),
            ..Holders::default()
        });
        prop_assert_eq!(matches!(verdict, End::Held(1..)), reads.iter().any(|&spare| spare > 0));
    }
}
