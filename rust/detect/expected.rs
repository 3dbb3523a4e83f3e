// SPDX-License-Identifier: GPL-2.0

//! The leaked wakes that are going on, on one CPU: whose victims are to be looked for.
//!
//! Between the handler of a wake and the walk over its waiters an interrupt may come, with a wake of its
//! own. So each kind of context has a note of its own. And a wake that isn't looked at, because its page is not
//! in the sample for instance, may come after one that has left its note: a note is for one page and bit.

use crate::sync::{AtomicU64, Count, Ordering::Relaxed};

/// The kinds of contexts that interrupt each other: task, softirq, hardirq. Nothing that is hooked runs in an NMI.
pub(crate) const KINDS: usize = 3;

/// A wake: of which page, and for which flag of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wake {
    pub(crate) page: u64,
    pub(crate) flag: u32,
}

/// What the kernel's `wake_page_function()` sees of a waiter whose page and bit are the wake's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    /// It wants to have the bit (`WQ_FLAG_EXCLUSIVE`).
    pub(crate) exclusive: bool,
    /// `WQ_FLAG_CUSTOM`.
    pub(crate) custom: bool,
    /// The bit is set, by somebody who comes after the one that the wake is of.
    pub(crate) set: bool,
}

impl Waiter {
    /// Is it woken? `leaves_shared` says that the kernel looks at the bit for those as well that only wait for it to
    /// be clear, as patches/6.12/read-waker-looks has it; `WQ_FLAG_CUSTOM` marks those that are woken all the same.
    pub(crate) fn is_woken(self, leaves_shared: bool) -> bool {
        !self.set || !(self.exclusive || leaves_shared && !self.custom)
    }
}

/// The notes of one CPU. All-zero is none.
#[derive(Default)]
pub(crate) struct Notes {
    /// How many there are.
    going_on: AtomicU64,
    notes: [Note; KINDS],
}

#[derive(Default)]
struct Note {
    /// Whose it is, 0 if there is none.
    context: AtomicU64,
    page: AtomicU64,
    flag: AtomicU64,
    number: AtomicU64,
}

impl Notes {
    /// Is there no note at all? Mostly so.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.going_on.load(Relaxed) == 0
    }

    /// A wake of `context`, which is of that kind, begins: its last one is over.
    pub(crate) fn begins(&self, kind: usize, context: u64) {
        let note = &self.notes[kind % KINDS];
        if note.context.load(Relaxed) == context {
            note.context.store(0, Relaxed);
            self.going_on.one_less();
        }
    }

    /// The wake that has begun is a finding, with that number.
    pub(crate) fn expect(&self, kind: usize, context: u64, wake: Wake, number: u64) {
        let note = &self.notes[kind % KINDS];
        if note.context.load(Relaxed) == 0 {
            self.going_on.one_more();
        }
        note.page.store(wake.page, Relaxed);
        note.flag.store(wake.flag.into(), Relaxed);
        note.number.store(number, Relaxed);
        note.context.store(context, Relaxed);
    }

    /// The number of the finding, if `wake`, which `context` is in, is one.
    pub(crate) fn expected(&self, kind: usize, context: u64, wake: Wake) -> Option<u64> {
        let note = &self.notes[kind % KINDS];
        (note.context.load(Relaxed) == context
            && note.page.load(Relaxed) == wake.page
            && note.flag.load(Relaxed) == wake.flag.into())
        .then(|| note.number.load(Relaxed))
    }
}
