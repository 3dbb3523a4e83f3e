// SPDX-License-Identifier: GPL-2.0

//! What is this wake, what is this end of writeback?

use crate::detect::verdict::{
    end_of_writeback, wake, End, Holders, Owner, Verdict, Wake, AUDIT_READS,
};
use proptest::prelude::*;

const OWNED: Owner = Owner {
    tail: false,
    refcount: 1,
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
                cache: 1,
                mapcount: i32::from(asked <= seen_bad),
                private: false,
            }
        });
        assert_eq!(verdict, End::Held, "after {seen_bad} bad reads");
    }
}

#[test]
fn a_deficit_that_stays_is_one() {
    let only_the_cache = Holders {
        refcount: 1,
        cache: 1,
        ..Holders::default()
    };
    assert_eq!(
        end_of_writeback(true, || only_the_cache),
        End::Open(Verdict::Unreferenced)
    );
}

#[test]
fn the_end_of_no_writeback_is_said_first() {
    assert_eq!(
        end_of_writeback(false, || unreachable!()),
        End::Open(Verdict::NotWriteback)
    );
}

/// Each known holder takes its references off, a large folio one for every page.
#[test]
fn spare_references() {
    let holders = |refcount, cache, mapcount, private| {
        Holders {
            refcount,
            cache,
            mapcount,
            private,
        }
        .spare()
    };
    assert_eq!(holders(1, 1, 0, false), 0);
    assert_eq!(holders(2, 1, 0, true), 0);
    assert_eq!(holders(2, 1, 0, false), 1);
    assert_eq!(holders(512 + 3, 512, 3, false), 0);
    assert_eq!(holders(1, 0, 0, false), 1);
    assert_eq!(holders(0, 1, 0, false), -1);
}

proptest! {
    #[test]
    fn a_tail_is_a_tail_whatever_else(refcount: i32, flags_left: bool, buddy: bool) {
        let owner = Owner { tail: true, refcount, flags_left, buddy };
        prop_assert_eq!(wake(&owner), Wake::Leaked(Verdict::Tail));
    }

    #[test]
    fn no_report_while_there_is_a_reference(
        refcount in any::<i32>().prop_filter("held", |&r| r != 0),
        flags_left: bool,
        buddy: bool,
    ) {
        prop_assert_eq!(wake(&Owner { tail: false, refcount, flags_left, buddy }), Wake::Owned);
    }

    /// One more reference is one more spare one, at any size, without overflow.
    #[test]
    fn spare_counts_references(refcount in 0..i32::MAX, cache in 0..1 << 20, mapcount in 0..1 << 20,
                               private: bool) {
        let holders = Holders { refcount, cache, mapcount, private };
        let more = Holders { refcount: refcount.saturating_add(1), ..holders };
        prop_assert!(more.spare() >= holders.spare());
        prop_assert_eq!(
            i64::from(holders.spare()),
            i64::from(refcount) - i64::from(cache) - i64::from(mapcount) - i64::from(private)
        );
    }

    #[test]
    fn spare_never_overflows(refcount: i32, cache: i32, mapcount: i32, private: bool) {
        let _ = Holders { refcount, cache, mapcount, private }.spare();
    }

    /// A finding means that every read showed a deficit; anything else is silence.
    #[test]
    fn a_finding_needs_every_read(reads in prop::collection::vec(-2..3i32, AUDIT_READS)) {
        let mut left = reads.iter();
        let verdict = end_of_writeback(true, || Holders {
            refcount: *left.next().expect("asked no more often than said"),
            ..Holders::default()
        });
        prop_assert_eq!(verdict == End::Held, reads.iter().any(|&spare| spare > 0));
    }
}
