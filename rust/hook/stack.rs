// SPDX-License-Identifier: GPL-2.0

//! Who has called a probed function, read from the stack, whatever other tracers have put there.
//!
//! A return address is a word at a *slot* of the stack: at a function's entry, the one that the stack
//! pointer shows. `unwind.c` says what replaces it, and finds what was there before.

use super::{symbol, Entry};
use crate::bindings;
use kernel::c_str;

/// The trampolines that a slot may hold instead of a return address.
pub(crate) struct Trampolines {
    /// Of kretprobes, and of fprobes before 6.14; 0 if this kernel has none.
    rethook: usize,
    /// Of the function graph tracer; 0 if this kernel has none.
    graph: usize,
}

impl Trampolines {
    /// Looks them up. May sleep.
    pub(crate) fn find() -> Self {
        let address = |name| symbol::address(name).unwrap_or(0);
        Self {
            rethook: address(c_str!("arch_rethook_trampoline")),
            graph: address(c_str!("return_to_handler")),
        }
    }

    /// Is `word` what a tracer has put in the place of a return address?
    #[inline]
    fn replaced(&self, word: usize) -> bool {
        word == self.rethook || word == self.graph
    }

    /// The return address at `slot`; `None` if tracers hide it. For handlers. Slow if there is a tracer.
    ///
    /// # Safety
    ///
    /// `slot` must be a word of the current stack, at or above the stack pointer of the probed
    /// function.
    #[inline]
    pub(crate) unsafe fn return_address(&self, slot: usize) -> Option<usize> {
        // SAFETY: By the safety requirements.
        let word = unsafe { (slot as *const usize).read_volatile() };
        if self.replaced(word) {
            // SAFETY: As above.
            unsafe { self.behind(slot) }
        } else {
            Some(word)
        }
    }

    /// # Safety
    ///
    /// As for [`Self::return_address`].
    #[cold]
    #[inline(never)]
    unsafe fn behind(&self, slot: usize) -> Option<usize> {
        // SAFETY: By the safety requirements. Any context; what it writes there it takes back.
        let address =
            unsafe { bindings::ww_return_address(slot as _, self.rethook as _, self.graph as _) };
        match address as usize {
            0 => None,
            address => Some(address),
        }
    }

    /// Where the return addresses of the frames above are, for a probe at a function's entry: that of its
    /// caller first. As many as there are, up to `N`. For handlers; slow.
    #[cold]
    pub(crate) fn slots<const N: usize>(&self, at: Entry<'_>) -> ([usize; N], usize) {
        let mut slots = [0; N];
        // SAFETY: At its entry a function's return address is where the stack pointer shows.
        let Some(return_to) = (unsafe { self.return_address(at.sp()) }) else {
            return (slots, 0);
        };
        // SAFETY: Reads the current stack, and there is room for `N`. Any context.
        let found = unsafe {
            bindings::ww_return_slots(
                at.as_raw(),
                return_to as _,
                slots.as_mut_ptr().cast(),
                N as u32,
            )
        };
        (slots, found as usize)
    }
}

impl Entry<'_> {
    /// The word at the stack pointer. At a function's entry: its return address, or what a tracer has put
    /// there.
    #[inline]
    pub(crate) fn top(&self) -> usize {
        // SAFETY: The stack pointer of a probe's hit shows a word of the current stack.
        unsafe { (self.sp() as *const usize).read_volatile() }
    }
}
