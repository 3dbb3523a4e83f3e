// SPDX-License-Identifier: GPL-2.0

//! A window in one 64-bit word: the page, the bit, what has happened to the page, and a generation, so
//! that every change is one compare-and-exchange and a late one can't hit the next window in the
//! same place.
//!
//! ```text
//!   bits  0-39   the page
//!            40  busy: being opened
//!         41-43  freed, allocated, started
//!         44-45  the bit; 0 if no window is open
//!         46-63  the generation, one more with each open
//! ```

use crate::sync::{AtomicU64, Ordering};

const PFN_BITS: u32 = 40;
const PFN: u64 = (1 << PFN_BITS) - 1;
const BUSY: u64 = 1 << 40;
const FREED: u64 = 1 << 41;
const ALLOCATED: u64 = 1 << 42;
const STARTED: u64 = 1 << 43;
const BIT_SHIFT: u32 = 44;
const BIT: u64 = 3 << BIT_SHIFT;
const GENERATION_SHIFT: u32 = 46;
const GENERATION: u64 = u64::MAX << GENERATION_SHIFT;

/// Whose clearing opens a window and whose wake closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bit {
    /// `PG_writeback`.
    Writeback = 1,
    /// `PG_locked`.
    Locked = 2,
    /// `PG_private_2`.
    Private2 = 3,
}

/// What can happen to a page while it has an open window, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It was freed.
    Freed,
    /// It was allocated again, after that.
    Allocated,
    /// Writeback of it was started, after it was freed.
    Started,
}

impl Mark {
    /// How many there are; `as usize` of each is below it.
    pub(crate) const COUNT: usize = 3;
    /// All of them, by `as usize`.
    pub(super) const ALL: [Mark; Self::COUNT] = [Mark::Freed, Mark::Allocated, Mark::Started];

    #[inline(always)]
    fn flag(self) -> u64 {
        match self {
            Mark::Freed => FREED,
            Mark::Allocated => ALLOCATED,
            Mark::Started => STARTED,
        }
    }
}

/// Which window a place has, of those that it has one after the other. They come again after 2^18.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl Generation {
    /// As a number of 18 bits.
    #[inline(always)]
    pub(super) fn number(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    /// The other way round.
    #[inline(always)]
    pub(super) fn of(number: u64) -> Self {
        Self(number << GENERATION_SHIFT)
    }
}

/// What a window is looked for by: its page and bit.
#[derive(Clone, Copy)]
pub(super) struct Key(u64);

impl Key {
    #[inline(always)]
    pub(super) fn new(pfn: u64, bit: Bit) -> Self {
        Self((pfn & PFN) | ((bit as u64) << BIT_SHIFT))
    }
}

/// What is in a place of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    /// No window, and there has been none.
    pub(super) const EMPTY: Word = Word(0);

    /// Being opened: the next generation.
    #[inline(always)]
    pub(super) fn opening(self) -> Self {
        Self((self.0 & GENERATION).wrapping_add(1 << GENERATION_SHIFT) | BUSY)
    }

    /// Open: what [`Self::opening`] comes to.
    #[inline(always)]
    pub(super) fn open(self, key: Key) -> Self {
        Self((self.0 & GENERATION) | key.0)
    }

    /// The same, and closed.
    #[inline(always)]
    pub(super) fn closed(self) -> Self {
        Self(self.0 & GENERATION)
    }

    /// The same, and this has happened to the page.
    #[inline(always)]
    pub(super) fn with(self, mark: Mark) -> Self {
        Self(self.0 | mark.flag())
    }

    /// Has this happened to the page?
    #[inline(always)]
    pub(super) fn has(self, mark: Mark) -> bool {
        self.0 & mark.flag() != 0
    }

    /// May an open window get this mark?
    #[inline(always)]
    pub(super) fn takes(self, mark: Mark) -> bool {
        self.0 & (BUSY | mark.flag()) == 0
            && self.is_open()
            && (mark == Mark::Freed || self.0 & FREED != 0)
    }

    /// Is it an open window of this page and bit?
    #[inline(always)]
    pub(super) fn is(self, key: Key) -> bool {
        self.0 & (PFN | BIT | BUSY) == key.0
    }

    /// Is it of this page, if it is a window's at all?
    #[inline(always)]
    pub(super) fn is_of(self, pfn: u64) -> bool {
        (self.0 ^ pfn) & PFN == 0
    }

    /// Is it an open window?
    #[inline(always)]
    pub(super) fn is_open(self) -> bool {
        self.0 & BIT != 0
    }

    /// Is it an open window, and still that one? Whoever opens another there has taken the next generation, and
    /// its word has no bit until it is open.
    #[inline(always)]
    pub(super) fn is_open_since(self, generation: Generation) -> bool {
        self.0 & GENERATION == generation.0 && self.is_open()
    }

    /// Is somebody about to open a window there?
    #[inline(always)]
    pub(super) fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    /// Is there neither a window nor somebody who opens one?
    #[inline(always)]
    pub(super) fn is_free(self) -> bool {
        self.0 & (BIT | BUSY) == 0
    }

    #[inline(always)]
    pub(super) fn generation(self) -> Generation {
        Generation(self.0 & GENERATION)
    }
}

/// A place of the table.
pub(super) struct Place(AtomicU64);

impl Place {
    /// [`Word::EMPTY`].
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(Word::EMPTY.0))
    }

    #[inline(always)]
    pub(super) fn load(&self, order: Ordering) -> Word {
        Word(self.0.load(order))
    }

    #[inline(always)]
    pub(super) fn store(&self, word: Word, order: Ordering) {
        self.0.store(word.0, order);
    }

    /// Puts `new` there if there is still `old`, else says what there is. Whoever fails has learnt nothing
    /// but that.
    #[inline(always)]
    pub(super) fn replace(&self, old: Word, new: Word, order: Ordering) -> Result<(), Word> {
        match self
            .0
            .compare_exchange(old.0, new.0, order, Ordering::Relaxed)
        {
            Ok(_) => Ok(()),
            Err(now) => Err(Word(now)),
        }
    }

    /// Closes the window if there is still `old`.
    #[inline(always)]
    pub(super) fn close(&self, old: Word) -> bool {
        self.replace(old, old.closed(), Ordering::Release).is_ok()
    }
}
