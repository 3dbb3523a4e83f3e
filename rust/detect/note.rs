// SPDX-License-Identifier: GPL-2.0

//! Who has done something to a page in its window.
//!
//! A note is written after the mark that it belongs to, by somebody who may be slow, when the window may be
//! long gone and the place have another one. So it says which window it is of, and a sequence
//! word of its own guards it.

use super::word::{Generation, Place};
use crate::sync::{
    fence, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    STACK,
};

/// Who did something, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Nanoseconds of the clock that the table is used with.
    pub(crate) when_ns: u64,
    /// The task that was current.
    pub(crate) pid: i32,
    pub(crate) cpu: u16,
    /// Task, softirq or hardirq, in the caller's numbers.
    pub(crate) context: u16,
    /// The task's `comm`.
    pub(crate) comm: [u8; 16],
    /// Return addresses, the innermost first; zeroes after the last.
    pub(crate) stack: [usize; STACK],
}

/// What is known of an event. The representation is for debuggers, which read the discriminant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Trace {
    /// It did not happen.
    #[default]
    None,
    /// It did happen; who did it was still being written down, or could not be.
    Unknown,
    /// It did happen.
    Known(Event),
}

/// A mark's details.
pub(super) struct Note {
    /// 0, or the window's generation and one of the two below.
    state: AtomicU64,
    when_ns: AtomicU64,
    /// `pid`, `cpu`, `context`.
    who: AtomicU64,
    comm: [AtomicU64; 2],
    stack: [AtomicU64; STACK],
}

const WRITING: u64 = 1;
const WRITTEN: u64 = 2;
/// Where in `state` the generation begins.
const SHIFT: u32 = 46;

impl Note {
    pub(super) fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            when_ns: AtomicU64::new(0),
            who: AtomicU64::new(0),
            comm: [AtomicU64::new(0), AtomicU64::new(0)],
            stack: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Writes it for the window of that generation in `place`. `false`, and nothing is written, if somebody
    /// else is at it, or it is a later window's.
    ///
    /// Of two generations nobody can tell which came first, since they come again. But who has written a note
    /// has seen the word of its window: so who has seen that note, and after it a word of his own window, is
    /// not late. If the note is written after he has looked, he does not get it.
    pub(super) fn write(&self, place: &Place, generation: Generation, event: &Event) -> bool {
        let state = self.state.load(Acquire);
        // A slow one of an earlier window is at it, or this is the slow one.
        if state & WRITING != 0 || place.load(Relaxed).generation() != generation {
            return false;
        }
        let generation = generation.number() << SHIFT;
        if self
            .state
            .compare_exchange(state, generation | WRITING, Acquire, Relaxed)
            .is_err()
        {
            return false;
        }
        fence(Release);
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = event.comm;
        let comm = [
            u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        ];
        self.when_ns.store(event.when_ns, Relaxed);
        let who = (u64::from(event.pid as u32) << 32)
            | (u64::from(event.cpu) << 16)
            | u64::from(event.context);
        self.who.store(who, Relaxed);
        self.comm[0].store(comm[0], Relaxed);
        self.comm[1].store(comm[1], Relaxed);
        for (to, from) in self.stack.iter().zip(event.stack) {
            to.store(from as u64, Relaxed);
        }
        self.state.store(generation | WRITTEN, Release);
        true
    }

    /// What was written for the window of that generation, if it is all there.
    pub(super) fn read(&self, generation: Generation) -> Option<Event> {
        let written = (generation.number() << SHIFT) | WRITTEN;
        if self.state.load(Acquire) != written {
            return None;
        }
        let who = self.who.load(Relaxed);
        let mut comm = [0; 16];
        for (to, from) in comm.chunks_exact_mut(8).zip(&self.comm) {
            to.copy_from_slice(&from.load(Relaxed).to_le_bytes());
        }
        let mut stack = [0; STACK];
        for (to, from) in stack.iter_mut().zip(&self.stack) {
            *to = from.load(Relaxed) as usize;
        }
        let event = Event {
            when_ns: self.when_ns.load(Relaxed),
            pid: (who >> 32) as i32,
            cpu: (who >> 16) as u16,
            context: who as u16,
            comm,
            stack,
        };
        fence(Acquire);
        (self.state.load(Relaxed) == written).then_some(event)
    }
}
