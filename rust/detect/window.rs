// SPDX-License-Identifier: GPL-2.0

//! Windows: from the clearing of a page bit to the wake for it, and what has happened to the page
//! in between.
//!
//! A window belongs to a page, a bit and a *context*, one flow of execution: the one that clears the
//! bit is the one that wakes. So a page may have several windows at a time, and a wake finds
//! its own, whatever another context has done with the page's next life.
//!
//! The table is keyed by page frame: a bucket of [`WAYS`] windows each, whose words share a cache
//! line. No lock, no allocation, no loop that another CPU could prolong: who finds a window busy
//! or a bucket full drops what he wanted to note, and it is counted. Any context, hardirq in the
//! middle of an operation on the same CPU included.
//!
//! A window is one 64-bit word and details behind it. The word has the page, the marks and a
//! generation, so that every change is one compare-and-exchange and a late marker can't
//! mark the next window in the same place:
//!
//! ```text
//!   Empty --open--> BUSY --> open --mark--> open|FREED --mark--> open|FREED|ALLOCATED
//!                            open... --wake, retire--> Empty     (generation + 1 with each open)
//!                            open... --open, by another page--> BUSY  (the oldest goes: overwritten)
//! ```
//!
//! Most ends of writeback have no waiter, so no wake closes their windows. The next window of the
//! same context retires them, since a context has only one at a time.
//!
//! Nothing here is the kernel's: `tests/host` compiles, tests and model-checks the same file.

use crate::sync::{
    fence, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use core::ops::Deref;

/// Windows that may be open in one bucket.
pub(crate) const WAYS: usize = 4;
/// Places that remember which page a context has opened its last window on.
pub(crate) const CONTEXTS: usize = 256;
/// Freed pages with an open window that are looked for in an allocation of a higher order.
const FREED_PAGES: usize = 8;
/// How often an operation tries again when a mark comes in between: there are three marks, so it
/// can't happen more often.
const TRIES: usize = 4;

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

    fn flag(self) -> u64 {
        match self {
            Mark::Freed => FREED,
            Mark::Allocated => ALLOCATED,
            Mark::Started => STARTED,
        }
    }

    /// May an open window get this mark?
    fn fits(self, word: u64) -> bool {
        word & (BUSY | self.flag()) == 0
            && word & BIT != 0
            && (self == Mark::Freed || word & FREED != 0)
    }
}

/// Who did something, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Nanoseconds of the clock that the table is used with.
    pub(crate) when_ns: u64,
    /// The task that was current.
    pub(crate) pid: i32,
    /// The CPU.
    pub(crate) cpu: u16,
    /// Task, softirq, hardirq or nmi, in the caller's numbers.
    pub(crate) context: u16,
    /// The task's `comm`.
    pub(crate) comm: [u8; 16],
    /// A handle for the stack, 0 if there is none.
    pub(crate) stack: u32,
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

/// What is noted when a window is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// When, in nanoseconds.
    pub(crate) when_ns: u64,
    /// The address that called the function that clears the bit.
    pub(crate) caller: u64,
    /// Something that is the same at the wake, or else the window isn't to be believed.
    pub(crate) epoch: u64,
    /// The caller's row, in the terms of who opens.
    pub(crate) row: u32,
    /// The function that opened it, in the terms of who opens.
    pub(crate) function: u8,
    /// The CPU.
    pub(crate) cpu: u16,
}

/// A window as its wake finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) opened: Opened,
    /// By [`Mark`].
    pub(crate) marks: [Trace; Mark::COUNT],
    /// Another context has opened a window of the same page and bit since: the page was written
    /// and is done a second time already.
    pub(crate) superseded: bool,
}

impl Window {
    /// What is known of `mark`.
    pub(crate) fn mark(&self, mark: Mark) -> Trace {
        self.marks.get(mark as usize).copied().unwrap_or_default()
    }
}

/// What became of [`Table::open`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The window is open. Else it was dropped, since others were at the bucket.
    pub(crate) open: bool,
    /// Another context's window had to go for it.
    pub(crate) overwrote: bool,
    /// The context's last window had not been woken and is closed now.
    pub(crate) retired: bool,
}

/// What became of [`Table::mark`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marked {
    /// Windows that have got the mark.
    pub(crate) windows: u32,
    /// Those of them for which it isn't known who did it.
    pub(crate) unknown: u32,
    /// Windows that should have got it, but did not stay still.
    pub(crate) dropped: u32,
}

/// A mark's details: a sequence word of its own guards them, because who marks may be slow, and
/// the window long gone.
struct Note {
    /// 0, or the window's generation and one of the two below.
    state: AtomicU64,
    when_ns: AtomicU64,
    /// `pid`, `cpu`, `context`.
    who: AtomicU64,
    comm: [AtomicU64; 2],
    stack: AtomicU64,
}

const WRITING: u64 = 1;
const WRITTEN: u64 = 2;

impl Note {
    fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            when_ns: AtomicU64::new(0),
            who: AtomicU64::new(0),
            comm: [AtomicU64::new(0), AtomicU64::new(0)],
            stack: AtomicU64::new(0),
        }
    }

    fn write(&self, generation: u64, event: &Event) -> bool {
        let state = self.state.load(Relaxed);
        // A slow one of an earlier window is at it, or this is the slow one.
        if state & WRITING != 0
            || (generation.wrapping_sub(state & GENERATION) as i64) < 0
            || self
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
        self.stack.store(u64::from(event.stack), Relaxed);
        self.state.store(generation | WRITTEN, Release);
        true
    }

    fn read(&self, generation: u64) -> Option<Event> {
        if self.state.load(Acquire) != generation | WRITTEN {
            return None;
        }
        let who = self.who.load(Relaxed);
        let mut comm = [0; 16];
        for (to, from) in comm.chunks_exact_mut(8).zip(&self.comm) {
            to.copy_from_slice(&from.load(Relaxed).to_le_bytes());
        }
        let event = Event {
            when_ns: self.when_ns.load(Relaxed),
            pid: (who >> 32) as i32,
            cpu: (who >> 16) as u16,
            context: who as u16,
            comm,
            stack: self.stack.load(Relaxed) as u32,
        };
        fence(Acquire);
        (self.state.load(Relaxed) == generation | WRITTEN).then_some(event)
    }
}

/// What is behind a window's word; valid while that is open and stays the same.
struct Details {
    context: AtomicU64,
    when_ns: AtomicU64,
    caller: AtomicU64,
    epoch: AtomicU64,
    /// `row`, `function`, `cpu`.
    place: AtomicU64,
    notes: [Note; Mark::COUNT],
}

/// A bucket of the table. Its first cache line is all that a page which has no window costs.
#[repr(align(64))]
pub(crate) struct Bucket {
    words: [AtomicU64; WAYS],
    details: [Details; WAYS],
}

impl Bucket {
    /// One without a window.
    pub(crate) fn new() -> Self {
        Self {
            words: core::array::from_fn(|_| AtomicU64::new(0)),
            details: core::array::from_fn(|_| Details {
                context: AtomicU64::new(0),
                when_ns: AtomicU64::new(0),
                caller: AtomicU64::new(0),
                epoch: AtomicU64::new(0),
                place: AtomicU64::new(0),
                notes: core::array::from_fn(|_| Note::new()),
            }),
        }
    }

    #[inline]
    fn ways(&self) -> impl Iterator<Item = (&AtomicU64, &Details)> {
        self.words.iter().zip(&self.details)
    }
}

/// The table, over buckets that somebody has allocated: a power of two of them, at most 2^14.
pub(crate) struct Table<S: Deref<Target = [Bucket]>> {
    buckets: S,
    /// The last window of a context, by a hash of it: see [`pack`].
    last: [AtomicU64; CONTEXTS],
    /// Pages, plus one, that were freed while they had an open window: the places where an
    /// allocation of a higher order looks. Hints: what is stale is removed by who finds it.
    freed: [AtomicU64; FREED_PAGES],
    freed_next: AtomicU64,
}

impl<S: Deref<Target = [Bucket]>> Table<S> {
    /// Without a window.
    pub(crate) fn new(buckets: S) -> Self {
        Self {
            buckets,
            last: core::array::from_fn(|_| AtomicU64::new(0)),
            freed: core::array::from_fn(|_| AtomicU64::new(0)),
            freed_next: AtomicU64::new(0),
        }
    }

    /// Opens a window of `bit` on the folio at `pfn`, and closes the context's last one. For a handler
    /// at the entry of the function that clears the bit.
    ///
    /// `context` is any number but 0 that tells flows of execution apart.
    #[inline]
    pub(crate) fn open(&self, pfn: u64, bit: Bit, context: u64, opened: Opened) -> Outcome {
        let mut outcome = Outcome::default();
        let (first, bucket) = match self.bucket(pfn) {
            Some(found) => found,
            None => return outcome,
        };
        // Its own first: the place may be the one that is wanted.
        let last = self.last.get(hash(context, CONTEXTS));
        if let Some(last) = last {
            outcome.retired = self.retire(last.load(Relaxed), context);
        }
        // If that place was another context's by then, an older window of this very page may be
        // left. The wake must not find it.
        outcome.retired |= retire_same(bucket, pfn, bit, context);
        for _ in 0..TRIES {
            let Some((way, word, details, old)) = place(bucket, opened.when_ns) else {
                return outcome;
            };
            let generation = (old & GENERATION).wrapping_add(1 << GENERATION_SHIFT);
            if word
                .compare_exchange(old, generation | BUSY, Acquire, Relaxed)
                .is_err()
            {
                continue;
            }
            fence(Release);
            details.context.store(context, Relaxed);
            details.when_ns.store(opened.when_ns, Relaxed);
            details.caller.store(opened.caller, Relaxed);
            details.epoch.store(opened.epoch, Relaxed);
            let place = (u64::from(opened.row) << 32)
                | (u64::from(opened.function) << 16)
                | u64::from(opened.cpu);
            details.place.store(place, Relaxed);
            word.store(generation | page_and_bit(pfn, bit), Release);
            outcome.open = true;
            outcome.overwrote = old & BIT != 0;
            if let Some(last) = last {
                last.store(pack(context, (first + way) as u64, generation), Relaxed);
            }
            return outcome;
        }
        outcome
    }

    /// Notes that `mark` has happened to the folio at `pfn`; `event` is asked only if it has an open
    /// window. For tracepoints on every page that is freed or allocated.
    #[inline]
    pub(crate) fn mark(&self, pfn: u64, mark: Mark, event: impl FnOnce() -> Event) -> Marked {
        let Some((_, bucket)) = self.bucket(pfn) else {
            return Marked::default();
        };
        let wanted = |word: u64| word & PFN == pfn & PFN && mark.fits(word);
        if !bucket.words.iter().any(|word| wanted(word.load(Relaxed))) {
            return Marked::default();
        }
        self.mark_bucket(bucket, pfn, mark, event)
    }

    /// As [`Self::mark`], for an allocation of `1 << order` pages from `pfn` on.
    #[inline]
    pub(crate) fn mark_range(
        &self,
        pfn: u64,
        order: u32,
        mark: Mark,
        event: impl Fn() -> Event,
    ) -> Marked {
        if order == 0 {
            return self.mark(pfn, mark, event);
        }
        for place in &self.freed {
            let page = place.load(Relaxed);
            if page == 0 || (page.wrapping_sub(1).wrapping_sub(pfn)) >> order != 0 {
                continue;
            }
            let marked = self.mark(page - 1, mark, &event);
            if marked != Marked::default() {
                // One is enough for the story.
                return marked;
            }
            let _ = place.compare_exchange(page, 0, Relaxed, Relaxed);
        }
        Marked::default()
    }

    /// Closes the window of this context, page and bit, and says what was known of it. For a
    /// handler at the entry of the wake.
    #[inline]
    pub(crate) fn wake(&self, pfn: u64, bit: Bit, context: u64) -> Option<Window> {
        self.find(pfn, bit, context, true)
    }

    /// As [`Self::wake`], and the window stays open.
    pub(crate) fn look(&self, pfn: u64, bit: Bit, context: u64) -> Option<Window> {
        self.find(pfn, bit, context, false)
    }

    /// Closes all windows. Those being opened meanwhile may stay.
    pub(crate) fn clear(&self) {
        for word in self.buckets.iter().flat_map(|bucket| &bucket.words) {
            for _ in 0..TRIES {
                let old = word.load(Relaxed);
                if old & BUSY != 0 || close(word, old) {
                    break;
                }
            }
        }
        for page in &self.freed {
            page.store(0, Relaxed);
        }
    }

    /// How many windows are open, and how many of them on pages that were freed since.
    pub(crate) fn open_windows(&self) -> (usize, usize) {
        self.buckets
            .iter()
            .flat_map(|bucket| &bucket.words)
            .map(|word| word.load(Relaxed))
            .filter(|word| word & BIT != 0)
            .fold((0, 0), |(open, freed), word| {
                (open + 1, freed + usize::from(word & FREED != 0))
            })
    }

    /// How many windows there is room for.
    pub(crate) fn room(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// The bucket of a page, and the number of its first way.
    #[inline]
    fn bucket(&self, pfn: u64) -> Option<(usize, &Bucket)> {
        let index = hash(pfn, self.buckets.len());
        Some((index * WAYS, self.buckets.get(index)?))
    }

    #[cold]
    fn mark_bucket(
        &self,
        bucket: &Bucket,
        pfn: u64,
        mark: Mark,
        event: impl FnOnce() -> Event,
    ) -> Marked {
        let mut marked = Marked::default();
        let mut generations = [None; WAYS];
        // The evidence first, for all windows: details take their time.
        for (word, generation) in bucket.words.iter().zip(&mut generations) {
            let mut old = word.load(Relaxed);
            for tried in 0.. {
                if old & PFN != pfn & PFN || !mark.fits(old) {
                    break;
                }
                if tried == TRIES {
                    marked.dropped += 1;
                    break;
                }
                match word.compare_exchange(old, old | mark.flag(), AcqRel, Relaxed) {
                    Ok(_) => {
                        *generation = Some(old & GENERATION);
                        marked.windows += 1;
                        break;
                    }
                    Err(now) => old = now,
                }
            }
        }
        if marked.windows == 0 {
            return marked;
        }
        if mark == Mark::Freed {
            let next = self.freed_next.fetch_add(1, Relaxed) as usize % FREED_PAGES;
            if let Some(place) = self.freed.get(next) {
                place.store((pfn & PFN) + 1, Relaxed);
            }
        }
        let event = event();
        for ((_, details), generation) in bucket.ways().zip(generations) {
            let (Some(note), Some(generation)) = (details.notes.get(mark as usize), generation)
            else {
                continue;
            };
            if !note.write(generation, &event) {
                marked.unknown += 1;
            }
        }
        marked
    }

    #[inline]
    fn find(&self, pfn: u64, bit: Bit, context: u64, shut: bool) -> Option<Window> {
        let (_, bucket) = self.bucket(pfn)?;
        let mine = |word: u64| word & (PFN | BIT | BUSY) == page_and_bit(pfn, bit);
        for (word, details) in bucket.ways() {
            for _ in 0..TRIES {
                let old = word.load(Acquire);
                if !mine(old) || details.context.load(Relaxed) != context {
                    break;
                }
                let place = details.place.load(Relaxed);
                let mut window = Window {
                    opened: Opened {
                        when_ns: details.when_ns.load(Relaxed),
                        caller: details.caller.load(Relaxed),
                        epoch: details.epoch.load(Relaxed),
                        row: (place >> 32) as u32,
                        function: (place >> 16) as u8,
                        cpu: place as u16,
                    },
                    marks: [Trace::None; Mark::COUNT],
                    superseded: false,
                };
                if old & (FREED | ALLOCATED | STARTED) != 0 {
                    window.marks = traces(old, details);
                }
                // Nothing that was read belongs to another window if the word is still the same.
                fence(Acquire);
                if shut && !close(word, old) || !shut && word.load(Relaxed) != old {
                    continue;
                }
                let since = window.opened.when_ns;
                window.superseded = bucket.ways().any(|(other, details)| {
                    let then = other.load(Acquire);
                    if core::ptr::eq(other, word) || !mine(then) {
                        return false;
                    }
                    let later = details.when_ns.load(Relaxed) > since;
                    // As above; closed or marked meanwhile, it is the same window.
                    fence(Acquire);
                    later && (other.load(Relaxed) ^ then) & GENERATION == 0
                });
                return Some(window);
            }
        }
        None
    }

    /// Closes a window that its context has left behind.
    #[inline]
    fn retire(&self, last: u64, context: u64) -> bool {
        let Some((way, generation)) = unpack(last, context) else {
            return false;
        };
        let Some(word) = self
            .buckets
            .get(way / WAYS)
            .and_then(|bucket| bucket.words.get(way % WAYS))
        else {
            return false;
        };
        for _ in 0..TRIES {
            let old = word.load(Relaxed);
            if old & GENERATION != generation || old & BUSY != 0 || old & BIT == 0 {
                return false;
            }
            if close(word, old) {
                return true;
            }
        }
        false
    }
}

#[inline]
fn page_and_bit(pfn: u64, bit: Bit) -> u64 {
    (pfn & PFN) | ((bit as u64) << BIT_SHIFT)
}

/// Closes windows of this context, page and bit that were left behind.
#[inline]
fn retire_same(bucket: &Bucket, pfn: u64, bit: Bit, context: u64) -> bool {
    let mut retired = false;
    for (word, details) in bucket.ways() {
        for _ in 0..TRIES {
            let old = word.load(Acquire);
            if old & (PFN | BIT | BUSY) != page_and_bit(pfn, bit)
                || details.context.load(Relaxed) != context
            {
                break;
            }
            // If the word is the same after all, so was the context.
            if close(word, old) {
                retired = true;
                break;
            }
        }
    }
    retired
}

/// What is known of the marks in `word`.
#[cold]
fn traces(word: u64, details: &Details) -> [Trace; Mark::COUNT] {
    let mut traces = [Trace::None; Mark::COUNT];
    let marks = [Mark::Freed, Mark::Allocated, Mark::Started];
    for ((trace, note), mark) in traces.iter_mut().zip(&details.notes).zip(marks) {
        if word & mark.flag() != 0 {
            *trace = note
                .read(word & GENERATION)
                .map_or(Trace::Unknown, Trace::Known);
        }
    }
    traces
}

/// Closes the window if its word is still `old`.
#[inline]
fn close(word: &AtomicU64, old: u64) -> bool {
    word.compare_exchange(old, old & GENERATION, Release, Relaxed)
        .is_ok()
}

/// A way for a new window: an empty one, or the one that was opened first. The number of the way
/// and the word that made it the choice come along: if that has changed, so may have the choice.
#[inline]
fn place(bucket: &Bucket, now: u64) -> Option<(usize, &AtomicU64, &Details, u64)> {
    let mut oldest = None;
    let mut age = 0;
    for (way, (word, details)) in bucket.ways().enumerate() {
        let old = word.load(Acquire);
        if old & (BIT | BUSY) == 0 {
            return Some((way, word, details, old));
        }
        // The clocks of two CPUs may differ a little.
        let since = now.saturating_sub(details.when_ns.load(Relaxed));
        if old & BUSY == 0 && (oldest.is_none() || since > age) {
            oldest = Some((way, word, details, old));
            age = since;
        }
    }
    oldest
}

/// In 64 bits: 30 of the context, 16 for the way, 18 of its generation. A context whose bits are
/// another's by chance can close that one's window: it is then missed, never believed wrongly.
fn pack(context: u64, way: u64, generation: u64) -> u64 {
    (mix(context) >> 34 << 34) | (way << 18) | (generation >> GENERATION_SHIFT)
}

/// The way and the generation, if it is of this context.
fn unpack(last: u64, context: u64) -> Option<(usize, u64)> {
    if last == 0 || last >> 34 != mix(context) >> 34 {
        return None;
    }
    Some((
        (last >> 18 & 0xffff) as usize,
        (last & 0x3_ffff) << GENERATION_SHIFT,
    ))
}

/// `hash_64()` of include/linux/hash.h: multiplication by the golden ratio.
#[inline]
fn mix(value: u64) -> u64 {
    value.wrapping_mul(0x61c8_8646_80b5_83eb)
}

/// One of `room` places, a power of two.
#[inline]
fn hash(value: u64, room: usize) -> usize {
    (mix(value) >> 40) as usize & room.wrapping_sub(1)
}
