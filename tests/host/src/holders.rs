// SPDX-License-Identifier: GPL-2.0

//! Who is known to hold a folio, in every state in which one ends a writeback or a read.

use crate::detect::holders::{caches, Holders};
use proptest::prelude::*;

const NONE: usize = 0;
/// An `address_space`: aligned to at least four bytes.
const FILE: usize = 0xffff_8880_0123_4560;
const SHMEM: usize = FILE;
/// An `anon_vma`, and `PAGE_MAPPING_ANON`.
const ANONYMOUS: usize = FILE | 1;
/// A stable node, and `PAGE_MAPPING_KSM`.
const KSM: usize = FILE | 3;

/// A row of the table in rust/detect/holders.rs: the state; `mapping`, `PG_swapbacked` and
/// `PG_swapcache`; how many times the folio's pages are referenced by caches; whether it may be mapped;
/// whether it may have private data.
type Row = (&'static str, usize, bool, bool, i32, bool, bool);

const TABLE: &[Row] = &[
    ("page cache of a file", FILE, false, false, 1, true, true),
    ("the same, PG_checked", FILE, false, true, 1, true, true),
    ("page cache of shmem", SHMEM, true, false, 1, true, false),
    (
        "swap cache, anonymous",
        ANONYMOUS,
        true,
        true,
        1,
        true,
        false,
    ),
    ("swap cache, KSM", KSM, true, true, 1, true, false),
    (
        "swap cache, shmem or zswap",
        NONE,
        true,
        true,
        1,
        false,
        false,
    ),
    (
        "both, while shmem is moved",
        SHMEM,
        true,
        true,
        2,
        true,
        false,
    ),
    (
        "none: truncated, a bounce",
        NONE,
        false,
        false,
        0,
        true,
        true,
    ),
    (
        "none: the same, PG_checked",
        NONE,
        false,
        true,
        0,
        true,
        true,
    ),
    (
        "anonymous, in no cache",
        ANONYMOUS,
        true,
        false,
        0,
        true,
        false,
    ),
];

/// Small and large, not mapped, once and for each page, without and with private data.
#[test]
fn every_state_has_its_sum() {
    for &(state, mapping, swap_backed, swap_flag, caches_in, mapped, private) in TABLE {
        for pages in [1, 4, 512] {
            for mapcount in if mapped { vec![0, 1, pages] } else { vec![0] } {
                for private in if private {
                    vec![false, true]
                } else {
                    vec![false]
                } {
                    let (page_cache, swap_cache) = caches(mapping, swap_backed, swap_flag);
                    let known = caches_in * pages + mapcount + i32::from(private);
                    for spare in [-1, 0, 1, 2] {
                        let holders = Holders {
                            refcount: known + spare,
                            flags: 0,
                            pages,
                            page_cache,
                            swap_cache,
                            mapcount,
                            private,
                        };
                        assert_eq!(holders.spare(), spare, "{state}: {holders:?}");
                        assert_eq!(holders.cache(), caches_in * pages, "{state}");
                    }
                }
            }
        }
    }
}

proptest! {
    /// One more reference is one more spare one, at any size.
    #[test]
    fn spare_counts_references(refcount in 0..i32::MAX, pages in 0..1 << 20, page_cache: bool,
                               swap_cache: bool, mapcount in 0..1 << 20, private: bool) {
        let holders = Holders { refcount, flags: 0, pages, page_cache, swap_cache, mapcount, private };
        let more = Holders { refcount: refcount.saturating_add(1), ..holders };
        prop_assert!(more.spare() >= holders.spare());
        let cache = i64::from(pages) * (i64::from(page_cache) + i64::from(swap_cache));
        prop_assert_eq!(
            i64::from(holders.spare()),
            i64::from(refcount) - cache - i64::from(mapcount) - i64::from(private)
        );
    }

    /// Torn words make numbers without a sense, and nothing worse.
    #[test]
    fn spare_never_overflows(refcount: i32, pages: i32, page_cache: bool, swap_cache: bool,
                             mapcount: i32, private: bool) {
        let _ = Holders { refcount, flags: 0, pages, page_cache, swap_cache, mapcount, private }.spare();
    }
}
