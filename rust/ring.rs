// SPDX-License-Identifier: GPL-2.0

//! The report buffer: the last findings, written by handlers, printed and read by tasks.
//!
//! Writers may be in any context, on any CPU, and never wait: a slot that is not theirs to take is
//! a dropped report, which the caller counts. A slot's state is its lock:
//!
//! ```text
//!   Empty --push--> Busy --> Ready --print--> Showing --> Kept --push--> Busy ...
//!                                              Showing --> Ready, if the log has not taken it
//!                            Ready --read---> Showing --> Ready
//!                            Kept  --read---> Busy    --> Kept
//!                            Ready, Kept --amend--> Busy --> Ready, Kept
//!                            Ready, Showing --last print--> Last
//! ```
//!
//! An entry that nobody has seen whole is `Ready` or `Showing`: that is what a panic has to print. The other
//! CPUs are stopped by then, in the middle of anything; but one that does not answer may go on for a
//! while. So what is printed then is `Last`, which no state follows.
//!
//! Nothing here is the kernel's: `tests/host` compiles and tests the same file.

use crate::sync::{
    AtomicU32, AtomicU64, Cell,
    Ordering::{Acquire, Relaxed, Release},
};
use core::ops::Deref;

const EMPTY: u32 = 0;
const BUSY: u32 = 1;
const READY: u32 = 2;
const SHOWING: u32 = 3;
const KEPT: u32 = 4;
const LAST: u32 = 5;

/// A place for one `T`.
///
/// # Invariants
///
/// Only who has brought `state` to `BUSY` or `SHOWING` writes `number` or touches `value`, until they put another
/// state there; `number` may be read by anybody, and is believed under that lock alone. In `SHOWING` they only
/// read, and so does who has brought it from there, or from `READY`, to `LAST`, where it stays.
pub(crate) struct Slot<T> {
    state: AtomicU32,
    number: AtomicU64,
    value: Cell<T>,
}

impl<T> Slot<T> {
    /// An empty one; `value` is whatever, for the space.
    pub(crate) fn new(value: T) -> Self {
        Self {
            state: AtomicU32::new(EMPTY),
            number: AtomicU64::new(0),
            value: Cell::new(value),
        }
    }

    fn lock(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Acquire, Relaxed)
            .is_ok()
    }

    fn unlock(&self, to: u32) {
        self.state.store(to, Release);
    }

    /// As [`Self::unlock`] from `SHOWING`, which need not be the state any more.
    fn shown(&self, to: u32) {
        let _ = self.state.compare_exchange(SHOWING, to, Release, Relaxed);
    }
}

// SAFETY: By the type invariant the value is written by one thread at a time, and then read by none.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

/// The buffer, over slots that somebody has allocated (at least one).
pub(crate) struct Ring<T, S: Deref<Target = [Slot<T>]>> {
    slots: S,
    next: AtomicU64,
}

impl<T: Copy, S: Deref<Target = [Slot<T>]>> Ring<T, S> {
    /// An empty buffer.
    pub(crate) fn new(slots: S) -> Self {
        Self {
            slots,
            next: AtomicU64::new(0),
        }
    }

    /// Writes an entry in place of the oldest one, and says its number. Any context.
    ///
    /// `None`, and nothing is written, if that one isn't printed yet, or somebody is at it.
    pub(crate) fn push(&self, fill: impl FnOnce(&mut T)) -> Option<u64> {
        let number = self.next.fetch_add(1, Relaxed);
        let slot = self.slot(number)?;
        if !slot.lock(EMPTY, BUSY) && !slot.lock(KEPT, BUSY) {
            return None;
        }
        // SAFETY: The slot is `BUSY`, by this thread.
        slot.value.with_mut(|value| fill(unsafe { &mut *value }));
        slot.number.store(number, Relaxed);
        slot.unlock(READY);
        Some(number)
    }

    /// Adds to entry `number` what was not known when it was written. Any context.
    ///
    /// `false`, and nothing is written, if it is gone, or somebody is at it.
    pub(crate) fn amend(&self, number: u64, fill: impl FnOnce(&mut T)) -> bool {
        let Some(slot) = self.slot(number) else {
            return false;
        };
        let was = if slot.lock(READY, BUSY) {
            READY
        } else if slot.lock(KEPT, BUSY) {
            KEPT
        } else {
            return false;
        };
        let same = slot.number.load(Relaxed) == number;
        if same {
            // SAFETY: The slot is `BUSY`, by this thread.
            slot.value.with_mut(|value| fill(unsafe { &mut *value }));
        }
        slot.unlock(was);
        same
    }

    /// Forgets the entries that have been printed.
    pub(crate) fn forget(&self) {
        for slot in self.slots.iter() {
            if slot.lock(KEPT, BUSY) {
                slot.unlock(EMPTY);
            }
        }
    }

    /// Shows the entries that nobody has seen, oldest first, and keeps them. Any context; two at
    /// the same time share the work. `show` says whether all of it was seen: if not, that is the end of
    /// it, and the entry is one that nobody has seen.
    pub(crate) fn print(&self, mut show: impl FnMut(u64, &T) -> bool) {
        while let Some((_, slot)) = self.oldest(&[READY], 0) {
            if slot.lock(READY, SHOWING) {
                let seen = slot.value.with(|value| {
                    // SAFETY: The slot is `SHOWING`, by this thread.
                    show(slot.number.load(Relaxed), unsafe { &*value })
                });
                slot.shown(if seen { KEPT } else { READY });
                if !seen {
                    return;
                }
            }
        }
    }

    /// As [`Self::print`], in a panic: an entry that another CPU was about to show when it was stopped
    /// comes once more, and whole. The slots are not used again.
    pub(crate) fn print_last(&self, mut show: impl FnMut(u64, &T)) {
        while let Some((_, slot)) = self.oldest(&[READY, SHOWING], 0) {
            if slot.lock(READY, LAST) || slot.lock(SHOWING, LAST) {
                slot.value.with(|value| {
                    // SAFETY: By the type invariant nobody writes what is `LAST`.
                    show(slot.number.load(Relaxed), unsafe { &*value })
                });
            }
        }
    }

    /// The slot of the `number`-th entry; none if there are no slots.
    fn slot(&self, number: u64) -> Option<&Slot<T>> {
        let index = number.checked_rem(self.slots.len() as u64)?;
        self.slots.get(index as usize)
    }

    /// The oldest entry in one of `states`, from number `from` on, and its number at the time.
    fn oldest(&self, states: &[u32], from: u64) -> Option<(u64, &Slot<T>)> {
        self.slots
            .iter()
            .filter(|slot| states.contains(&slot.state.load(Acquire)))
            .map(|slot| (slot.number.load(Relaxed), slot))
            .filter(|(number, _)| *number >= from)
            .min_by_key(|(number, _)| *number)
    }

    /// Shows what is in the buffer, oldest first, and changes nothing. Entries being written or
    /// printed meanwhile are left out.
    pub(crate) fn read(&self, mut show: impl FnMut(u64, &T)) {
        let mut from = 0;
        while let Some((number, slot)) = self.oldest(&[READY, KEPT], from) {
            from = number + 1;
            let was = if slot.lock(READY, SHOWING) {
                READY
            } else if slot.lock(KEPT, BUSY) {
                KEPT
            } else {
                continue;
            };
            // Whoever took the slot between the look and the lock has made it a later entry, which comes in its turn.
            let same = slot.number.load(Relaxed) == number;
            // SAFETY: The slot is `SHOWING` or `BUSY`, by this thread.
            let value = slot.value.with(|value| unsafe { *value });
            match was {
                KEPT => slot.unlock(KEPT),
                _ => slot.shown(READY),
            }
            if same {
                show(number, &value);
            }
        }
    }
}
