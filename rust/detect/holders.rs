// SPDX-License-Identifier: GPL-2.0

//! Who is known to hold a folio: the states in which one ends a writeback or a read, and the
//! references that each accounts for.
//!
//! `n` is the number of the folio's pages, `m` its mapcount, `p` 1 with `PG_private` set. What the sum
//! leaves of the refcount is spare. Read in 6.12; `tests/host` holds [`caches`] and [`Holders`] to each row, and
//! tests/guest/states.sh reaches those marked `*` on a kernel with the bug and on one without.
//!
//! ```text
//!   the folio is in                  mapping    swapbacked  swapcache   known holders
//!   the page cache of a file *       file       no          (checked)   n + m + p
//!   the page cache of a device *     device     no          no          n + m + p
//!   the page cache of shmem          shmem      yes         no          n + m
//!   the swap cache, anonymous *      anonymous  yes         yes         n + m    (KSM as well)
//!   the swap cache, of shmem *       none       yes         yes         n
//!   the swap cache, of zswap         none       yes         yes         n
//!   both (shmem, while it is moved)  shmem      yes         yes         2n + m
//!   none: truncated, or a bounce *   none       no          (checked)   m + p
//! ```
//!
//! - Shmem is written out from the swap cache only: `shmem_delete_from_page_cache()` has cleared
//!   `mapping` by then. A folio that zswap writes back has none yet.
//! - `PG_swapcache` is `PG_owner_priv_1`, and that is `PG_checked` on a file's folio: it counts on a
//!   swap-backed one only, as `folio_test_swapcache()` has it.
//! - Truncation waits for writeback and for the lock, so what it has removed from its file does neither
//!   any more; in the table it is what a caller may have all the same.
//! - DAX and hugetlb don't come here: neither sets `PG_writeback` nor calls `folio_end_read()`.
//! - What is not in the sum is spare: isolation by reclaim, a per-CPU batch of the LRU, a pin, a lookup,
//!   the reference of a read or of an NFS request, and that of `PG_private_2` (which netfs takes
//!   and btrfs, that has another use for the bit, does not). Too many of those hide a deficit; none makes one.

/// Who is known to hold references on a folio, and how many it has, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holders {
    /// `folio_ref_count()`.
    pub(crate) refcount: i32,
    /// `folio->flags`, of which two of the fields below come.
    pub(crate) flags: usize,
    /// Its pages.
    pub(crate) pages: i32,
    /// It is in a page cache: a reference for each page.
    pub(crate) page_cache: bool,
    /// It is in the swap cache: the same.
    pub(crate) swap_cache: bool,
    /// `folio_mapcount()`: a reference for each mapping.
    pub(crate) mapcount: i32,
    /// `PG_private`: one reference for what is attached, buffer heads for instance.
    pub(crate) private: bool,
}

impl Holders {
    /// The references of the caches it is in.
    #[inline(always)]
    pub(crate) fn cache(&self) -> i32 {
        self.pages
            .wrapping_mul(i32::from(self.page_cache) + i32::from(self.swap_cache))
    }

    /// The references that none of the known holders accounts for: those that keep the page
    /// when the known ones let go, as truncation makes them.
    #[inline(always)]
    pub(crate) fn spare(&self) -> i32 {
        self.refcount
            .wrapping_sub(self.cache())
            .wrapping_sub(self.mapcount)
            .wrapping_sub(i32::from(self.private))
    }
}

/// `PAGE_MAPPING_FLAGS` (include/linux/page-flags.h, 6.12; `FOLIO_MAPPING_FLAGS` in 7.3): anonymous, movable or KSM.
const MAPPING_FLAGS: usize = 3;

/// Does `folio->mapping` point at a file's?
#[inline(always)]
pub(crate) fn is_file(mapping: usize) -> bool {
    mapping != 0 && mapping & MAPPING_FLAGS == 0
}

/// Whether a folio is in a page cache and in the swap cache, by `folio->mapping`, type bits and all, and
/// the flags `PG_swapbacked` and `PG_swapcache`.
#[inline(always)]
pub(crate) fn caches(mapping: usize, swap_backed: bool, swap_cache: bool) -> (bool, bool) {
    (is_file(mapping), swap_backed && swap_cache)
}
