// SPDX-License-Identifier: GPL-2.0

//! A read-only look at a page that perhaps nobody holds.
//!
//! Every word is read once, without a lock and without a reference, and without the kernel's accessors, which
//! assert what such a page need not be. What the words point at may be gone, so pointers in them are
//! followed with `copy_from_kernel_nofault()` only, as `dump_mapping()` (fs/inode.c, 6.12) does.
//!
//! The memory map itself goes with memory hot-remove alone, which frees it without waiting for anybody
//! (`section_deactivate()`, mm/sparse.c, 6.12). So a page is looked at only in a handler that a function was
//! entered or left with it: the kernel's own next access would fault as this one does. Nothing here may be
//! called later, for a report that is printed for instance, but for what is computed of the address.

use crate::{
    bindings, compat,
    detect::{
        amplify::PageId,
        holders::{caches, is_file, Holders},
        verdict::Owner,
    },
};
use core::{
    mem::{size_of, MaybeUninit},
    ptr::addr_of,
};

const HEAD: usize = 1 << bindings::pageflags_PG_head;
pub(crate) const LOCKED: usize = 1 << bindings::pageflags_PG_locked;
const PRIVATE: usize = 1 << bindings::pageflags_PG_private;
const SWAP_BACKED: usize = 1 << bindings::pageflags_PG_swapbacked;
const SWAP_CACHE: usize = 1 << bindings::pageflags_PG_swapcache;
pub(crate) const WAITERS: usize = 1 << bindings::pageflags_PG_waiters;
pub(crate) const WRITEBACK: usize = 1 << bindings::pageflags_PG_writeback;

/// A page, or the folio it is the head of.
///
/// # Invariants
///
/// Points at a `struct page` of the memory map.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page(*const bindings::page);

// SAFETY: A page can be looked at from anywhere.
unsafe impl Send for Page {}
// SAFETY: As above; it is never written through.
unsafe impl Sync for Page {}

impl Page {
    /// # Safety
    ///
    /// `addr` must be the address of a `struct page` or `struct folio`, as the kernel passes it.
    pub(crate) unsafe fn from_addr(addr: usize) -> Self {
        // INVARIANT: By the safety requirements.
        Self(addr as *const bindings::page)
    }

    /// The address of its `struct page`. Print it hashed (`%p`).
    pub(crate) fn addr(self) -> usize {
        self.0 as usize
    }

    /// Is it one of the `1 << order` pages from `first` on?
    pub(crate) fn is_in(self, first: Page, order: u32) -> bool {
        let bytes = size_of::<bindings::page>().wrapping_shl(order);
        self.addr().wrapping_sub(first.addr()) < bytes
    }

    /// All flags, the zone's bits among them.
    pub(crate) fn flags(self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { compat::page_flags(self.0) }
    }

    /// `page->_refcount`.
    pub(crate) fn refcount(self) -> i32 {
        // SAFETY: By the type invariant.
        unsafe { compat::page_refcount(self.0) }
    }

    fn mapping(self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { compat::folio_mapping(self.0) }
    }

    /// Is it no tail, and held? The usual case, for which [`Self::owner`] need not be asked.
    #[inline(always)]
    pub(crate) fn is_held(self) -> bool {
        // SAFETY: By the type invariant.
        let tail = unsafe { compat::page_compound_head(self.0) } & 1 != 0;
        !tail && self.refcount() != 0
    }

    /// Who owns it, for [`crate::detect::verdict::wake`].
    #[cold]
    pub(crate) fn owner(self) -> Owner {
        // SAFETY: By the type invariant.
        let tail = unsafe { compat::page_compound_head(self.0) } & 1 != 0;
        // Before the flags: a page that is freed between the two reads is seen as freed.
        let refcount = self.refcount();
        let free = refcount == 0 && !tail;
        let flags = self.flags();
        Owner {
            tail,
            refcount,
            flags,
            // SAFETY: Takes a number.
            flags_left: free && unsafe { bindings::ww_flags_left(flags as _) },
            // SAFETY: By the type invariant; reads one word.
            buddy: free && unsafe { bindings::ww_page_buddy(self.0) },
        }
    }

    /// Who is known to hold it. Makes sense for a head page only; of any other, the numbers are
    /// whatever its words say.
    ///
    /// The flags and the mapcount are read before the refcount, the mapcount once more after it,
    /// and the smaller one counts: a mapping that comes or goes between two reads cannot make a
    /// spare reference disappear from the sum.
    #[inline(always)]
    pub(crate) fn holders(self) -> Holders {
        let flags = self.flags();
        if flags & HEAD == 0 {
            self.holders_by(flags, true)
        } else {
            self.holders_of_large(flags)
        }
    }

    /// The same of a folio whose read ends, by flags that were read before: nobody maps it meanwhile, so one look
    /// at its mapcount is enough.
    #[inline(always)]
    pub(crate) fn holders_of_read(self, flags: usize) -> Holders {
        if flags & HEAD == 0 {
            self.holders_by(flags, false)
        } else {
            self.holders_of_large(flags)
        }
    }

    #[inline(never)]
    fn holders_of_large(self, flags: usize) -> Holders {
        self.holders_by(flags, true)
    }

    #[inline(always)]
    fn holders_by(self, flags: usize, is_mapped: bool) -> Holders {
        let (page_cache, swap_cache) = caches(
            self.mapping(),
            flags & SWAP_BACKED != 0,
            flags & SWAP_CACHE != 0,
        );
        let before = self.mapcount_less_1(flags);
        let refcount = self.refcount();
        let after = match is_mapped {
            true => self.mapcount_less_1(flags),
            false => before,
        };
        Holders {
            refcount,
            flags,
            pages: self.pages(flags),
            page_cache,
            swap_cache,
            // Below -1 it is a page type.
            mapcount: before.min(after).max(-1).wrapping_add(1),
            private: flags & PRIVATE != 0,
        }
    }

    /// `folio_mapcount()` without its assertions, by flags that were read before; one less, as the kernel keeps it,
    /// or what else a page of its own keeps there.
    #[inline(always)]
    fn mapcount_less_1(self, flags: usize) -> i32 {
        if flags & HEAD == 0 {
            // SAFETY: By the type invariant.
            return unsafe { compat::page_raw_mapcount(self.0) };
        }
        // SAFETY: A head is never the last of its part of the memory map; reads a word of the next page.
        unsafe { bindings::ww_folio_large_mapcount(self.0.cast()) }.wrapping_sub(1)
    }

    /// `folio_nr_pages()` without its assertions, by flags that were read before.
    #[inline(always)]
    fn pages(self, flags: usize) -> i32 {
        if flags & HEAD == 0 {
            return 1;
        }
        // SAFETY: As above. The lowest byte of that page's flags is the order.
        let order = unsafe { compat::page_flags(self.0.wrapping_add(1)) } & 0xff;
        // It need not be a head any more by now.
        1i32.checked_shl(order as u32).unwrap_or(1).max(1)
    }

    /// The file and the place in it that the folio belongs to; `None` if it belongs to none, or
    /// not any more. Slow: for reports, and for delays that ask for a page.
    pub(crate) fn id(self) -> Option<PageId> {
        let mapping = self.mapping();
        if !is_file(mapping) {
            return None;
        }
        let mapping = mapping as *const bindings::address_space;
        // SAFETY: Here and below only an address is computed; `read` copes with a bad one.
        let host = read(unsafe { addr_of!((*mapping).host) })?;
        if host.is_null() {
            return None;
        }
        // SAFETY: See above.
        let (sb, ino) = unsafe { (addr_of!((*host).i_sb), addr_of!((*host).i_ino)) };
        let sb = read(sb)?;
        Some(PageId {
            // SAFETY: See above.
            dev: read(unsafe { addr_of!((*sb).s_dev) })?,
            ino: read(ino)? as u64,
            // SAFETY: By the type invariant.
            index: unsafe { compat::folio_index(self.0) },
            pages: self.pages(self.flags()) as u64,
        })
    }

    /// A number of its own, in steps of one from page to page of a block, as page frame numbers are;
    /// cheaper, and for tables only.
    #[inline(always)]
    pub(crate) fn key(self) -> u64 {
        (self.addr() / size_of::<bindings::page>()) as u64
    }

    /// Its page frame number. Without `CONFIG_SPARSEMEM_VMEMMAP` this reads its flags.
    pub(crate) fn pfn(self) -> usize {
        // SAFETY: By the type invariant.
        unsafe { bindings::ww_page_to_pfn(self.0) as usize }
    }
}

/// Reads what may not be mapped. Any context.
fn read<T: Copy>(from: *const T) -> Option<T> {
    let mut to = MaybeUninit::<T>::uninit();
    // SAFETY: `to` has room; a bad source is an error code (mm/maccess.c, 6.12). All users read
    // pointers and integers, for which any bytes are a value.
    unsafe {
        (bindings::copy_from_kernel_nofault(to.as_mut_ptr().cast(), from.cast(), size_of::<T>())
            == 0)
            .then(|| to.assume_init())
    }
}
