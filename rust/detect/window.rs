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
//! A window is one [`Word`] and details behind it, in a place of a bucket:
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

use super::{
    note::Note,
    word::{Generation, Key, Place, Word},
};
pub(crate) use super::{
    note::{Event, Trace},
    word::{Bit, Mark},
};
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

/// The bits of a hash that choose a place are those from here on.
const HASH_SHIFT: u32 = 40;

/// What is noted when a window is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// When, in nanoseconds.
    pub(crate) when_ns: u64,
    /// The address that called the function that clears the bit.
    pub(crate) caller: u64,
    /// Something that is the same at the wake, or else the window isn't to be believed.
    pub(crate) epoch: u64,
    /// Where on the stack that address was: the lower half.
    pub(crate) slot: u32,
    /// The caller's row, in the terms of who opens.
    pub(crate) row: u8,
    /// The function that opened it, in the terms of who opens.
    pub(crate) function: u8,
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

/// What became of a window that was to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    /// It is open, and another context's window had to go for it.
    Overwrote,
    /// It is not, since others were at the bucket.
    Dropped,
}

/// What became of [`Table::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) fate: Fate,
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

/// What is behind a window's word; valid while that is open and stays the same.
struct Details {
    context: AtomicU64,
    when_ns: AtomicU64,
    caller: AtomicU64,
    epoch: AtomicU64,
    /// `slot`, `row`, `function`, `cpu`.
    place: AtomicU64,
    notes: [Note; Mark::COUNT],
}

impl Details {
    #[inline(always)]
    fn opened(&self) -> Opened {
        let place = self.place.load(Relaxed);
        Opened {
            when_ns: self.when_ns.load(Relaxed),
            caller: self.caller.load(Relaxed),
            epoch: self.epoch.load(Relaxed),
            slot: (place >> 32) as u32,
            row: (place >> 24) as u8,
            function: (place >> 16) as u8,
            cpu: place as u16,
        }
    }
}

/// A window that a wake has closed.
#[derive(Clone, Copy)]
pub(crate) struct Closed<'a> {
    pub(crate) opened: Opened,
    /// See [`Window`].
    pub(crate) superseded: bool,
    word: Word,
    details: &'a Details,
}

impl Closed<'_> {
    /// Has it got this mark?
    #[inline(always)]
    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.word.has(mark)
    }

    /// All that is known of it. A mark's details say whether they are still this window's.
    #[cold]
    pub(crate) fn window(&self) -> Window {
        Window {
            opened: self.opened,
            marks: traces(self.word, self.details),
            superseded: self.superseded,
        }
    }
}

/// A bucket of the table. Its first cache line is all that a page which has no window costs.
#[repr(align(64))]
pub(crate) struct Bucket {
    words: [Place; WAYS],
    details: [Details; WAYS],
}

impl Bucket {
    /// One without a window.
    pub(crate) fn new() -> Self {
        Self {
            words: core::array::from_fn(|_| Place::new()),
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

    /// The window of this context, page and bit, if there is one.
    #[inline(always)]
    fn find(&self, key: Key, context: u64) -> Option<(&Place, &Details, Word)> {
        for way in 0..WAYS {
            let old = self.words[way].load(Acquire);
            if old.is(key) && self.details[way].context.load(Relaxed) == context {
                return Some((&self.words[way], &self.details[way], old));
            }
        }
        None
    }

    /// Is there any window of this page and bit?
    #[inline(always)]
    fn has(&self, key: Key) -> bool {
        self.words.iter().any(|word| word.load(Acquire).is(key))
    }

    /// Is there one that was opened later than that?
    #[cold]
    #[inline(never)]
    fn superseded(&self, key: Key, since: u64) -> bool {
        self.ways().any(|(other, details)| {
            let then = other.load(Acquire);
            if !then.is(key) {
                return false;
            }
            let later = details.when_ns.load(Relaxed) > since;
            // Closed or marked meanwhile, it is the same window.
            fence(Acquire);
            later && other.load(Relaxed).generation() == then.generation()
        })
    }

    #[inline]
    fn ways(&self) -> impl Iterator<Item = (&Place, &Details)> {
        self.words.iter().zip(&self.details)
    }
}

/// The table, over `N` buckets that somebody has allocated: a power of two, at most 2^14.
///
/// `pfn` is any number that goes up by one from page to page of a block; of more than 40 bits, the
/// lower ones must be enough to tell pages apart.
pub(crate) struct Table<S: Deref<Target = [Bucket; N]>, const N: usize> {
    buckets: S,
    /// The last window of a context, by a hash of it: see [`pack`].
    last: [AtomicU64; CONTEXTS],
    /// Pages, plus one, that were freed while they had an open window: the places where an
    /// allocation of a higher order looks. Hints: what is stale is removed by who finds it.
    freed: [AtomicU64; FREED_PAGES],
    freed_next: AtomicU64,
}

impl<S: Deref<Target = [Bucket; N]>, const N: usize> Table<S, N> {
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
    #[inline(always)]
    pub(crate) fn open(&self, pfn: u64, bit: Bit, context: u64, opened: Opened) -> Outcome {
        let opening = Opening {
            context,
            mixed: mix(context),
            key: Key::new(pfn, bit),
            opened,
        };
        let last = self.last(opening.mixed);
        // Its own first: the place may be the one that is wanted.
        let retired = self.retire(last.load(Relaxed), opening.mixed);
        let (first, bucket) = self.bucket(pfn);
        let (way, old) = opening.empty(bucket);
        if way != WAYS && opening.take(last, bucket, first, way, old) {
            return Outcome {
                fate: Fate::Open,
                retired,
            };
        }
        let Outcome { fate, retired: own } = self.open_full(pfn, opening);
        Outcome {
            fate,
            retired: retired || own,
        }
    }

    /// As [`Self::open`], where a bucket is not as it mostly is: it has a window of the same context, page and bit,
    /// it is full, or others are at it.
    #[cold]
    #[inline(never)]
    fn open_full(&self, pfn: u64, opening: Opening) -> Outcome {
        let (first, bucket) = self.bucket(pfn);
        let last = self.last(opening.mixed);
        for _ in 0..TRIES {
            let Some((way, old, same)) = opening.place(bucket) else {
                break;
            };
            if opening.take(last, bucket, first, way, old) {
                let fate = match !same && old.is_open() {
                    true => Fate::Overwrote,
                    false => Fate::Open,
                };
                return Outcome {
                    fate,
                    retired: same,
                };
            }
        }
        Outcome {
            fate: Fate::Dropped,
            retired: false,
        }
    }

    /// Closes the context's last window, and opens none: for a handler at the entry of a function that clears a
    /// bit and wakes nobody. Was there one?
    #[inline(always)]
    pub(crate) fn none(&self, context: u64) -> bool {
        let mixed = mix(context);
        let last = self.last(mixed);
        let left = last.load(Relaxed);
        // Mostly this context has closed it itself, and said so.
        left != 0 && {
            let retired = self.retire(left, mixed);
            if (left ^ mixed) >> 34 == 0 {
                last.store(0, Relaxed);
            }
            retired
        }
    }

    /// May there be an open window of the page? For tracepoints on every page that is freed or
    /// allocated: nearly always there is none.
    #[inline(always)]
    pub(crate) fn may_have(&self, pfn: u64) -> bool {
        let (_, bucket) = self.bucket(pfn);
        bucket
            .words
            .iter()
            .any(|word| word.load(Relaxed).is_of(pfn))
    }

    /// Notes that `mark` has happened to the folio at `pfn`; `event` is asked only if it has an open
    /// window.
    #[inline(always)]
    pub(crate) fn mark(&self, pfn: u64, mark: Mark, event: impl FnOnce() -> Event) -> Marked {
        self.mark_bucket(self.bucket(pfn).1, pfn, mark, event)
    }

    /// May one of `1 << order` pages from `pfn` on have an open window and be freed?
    #[inline(always)]
    pub(crate) fn may_have_freed(&self, pfn: u64, order: u32) -> bool {
        self.freed
            .iter()
            .any(|place| is_within(place.load(Relaxed), pfn, order))
    }

    /// As [`Self::mark`], for an allocation of `1 << order` pages from `pfn` on.
    pub(crate) fn mark_range(
        &self,
        pfn: u64,
        order: u32,
        mark: Mark,
        event: impl Fn() -> Event,
    ) -> Marked {
        let mut all = Marked::default();
        for place in &self.freed {
            let page = place.load(Relaxed);
            if !is_within(page, pfn, order) {
                continue;
            }
            let marked = self.mark(page - 1, mark, &event);
            if marked == Marked::default() {
                let _ = place.compare_exchange(page, 0, Relaxed, Relaxed);
            }
            all.windows += marked.windows;
            all.unknown += marked.unknown;
            all.dropped += marked.dropped;
        }
        all
    }

    /// Closes the window of this context, page and bit, and says what was known of it. For a
    /// handler at the entry of the wake.
    #[inline(always)]
    pub(crate) fn wake(&self, pfn: u64, bit: Bit, context: u64) -> Option<Closed<'_>> {
        let (_, bucket) = self.bucket(pfn);
        let key = Key::new(pfn, bit);
        // A mark may come in between, of which there are three; or the window goes.
        loop {
            let (word, details, old) = bucket.find(key, context)?;
            let opened = details.opened();
            // Nothing that was read belongs to another window if the word is still the same.
            fence(Acquire);
            if word.close(old) {
                return Some(Closed {
                    superseded: bucket.has(key) && bucket.superseded(key, opened.when_ns),
                    opened,
                    word: old,
                    details,
                });
            }
        }
    }

    /// As [`Self::wake`], and the window stays open.
    #[cold]
    pub(crate) fn look(&self, pfn: u64, bit: Bit, context: u64) -> Option<Window> {
        let (_, bucket) = self.bucket(pfn);
        let key = Key::new(pfn, bit);
        for _ in 0..TRIES {
            let (word, details, old) = bucket.find(key, context)?;
            let opened = details.opened();
            let window = Window {
                opened,
                marks: traces(old, details),
                superseded: bucket.superseded(key, opened.when_ns),
            };
            fence(Acquire);
            if word.load(Relaxed) == old {
                return Some(window);
            }
        }
        None
    }

    /// Closes all windows. Those being opened meanwhile may stay.
    pub(crate) fn clear(&self) {
        for word in self.buckets.iter().flat_map(|bucket| &bucket.words) {
            for _ in 0..TRIES {
                let old = word.load(Relaxed);
                if old.is_busy() || word.close(old) {
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
            .filter(|word| word.is_open())
            .fold((0, 0), |(open, freed), word| {
                (open + 1, freed + usize::from(word.has(Mark::Freed)))
            })
    }

    /// How many windows there is room for.
    pub(crate) fn room(&self) -> usize {
        N * WAYS
    }

    /// The bucket of a page, and the number of its first way.
    #[inline(always)]
    fn bucket(&self, pfn: u64) -> (usize, &Bucket) {
        let index = (mix(pfn) >> HASH_SHIFT) as usize % N;
        (index * WAYS, &self.buckets[index])
    }

    /// Where the last window of a context is remembered, by its hash.
    #[inline(always)]
    fn last(&self, mixed: u64) -> &AtomicU64 {
        &self.last[(mixed >> HASH_SHIFT) as usize % CONTEXTS]
    }

    #[inline(always)]
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
                if !old.is_of(pfn) || !old.takes(mark) {
                    break;
                }
                if tried == TRIES {
                    marked.dropped += 1;
                    break;
                }
                match word.replace(old, old.with(mark), AcqRel) {
                    Ok(()) => {
                        *generation = Some(old.generation());
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
                place.store(pfn.wrapping_add(1), Relaxed);
            }
        }
        let event = event();
        for ((word, details), generation) in bucket.ways().zip(generations) {
            let (Some(note), Some(generation)) = (details.notes.get(mark as usize), generation)
            else {
                continue;
            };
            if !note.write(word, generation, &event) {
                marked.unknown += 1;
            }
        }
        marked
    }

    /// Closes a window that its context has left behind.
    #[inline(always)]
    fn retire(&self, last: u64, mixed: u64) -> bool {
        let Some((way, generation)) = unpack(last, mixed) else {
            return false;
        };
        let word = &self.buckets[way / WAYS % N].words[way % WAYS];
        let old = word.load(Relaxed);
        old.is_open_since(generation) && (word.close(old) || retire_marked(word, generation))
    }
}

/// As [`Table::retire`], where a mark has come in between.
#[cold]
#[inline(never)]
fn retire_marked(word: &Place, generation: Generation) -> bool {
    for _ in 1..TRIES {
        let old = word.load(Relaxed);
        if !old.is_open_since(generation) {
            return false;
        }
        if word.close(old) {
            return true;
        }
    }
    false
}

/// Is `page`, a page plus one or 0, one of `1 << order` pages from `pfn` on?
#[inline(always)]
fn is_within(page: u64, pfn: u64, order: u32) -> bool {
    page != 0 && page.wrapping_sub(1).wrapping_sub(pfn).wrapping_shr(order) == 0
}

/// What is known of the marks in `word`.
#[cold]
fn traces(word: Word, details: &Details) -> [Trace; Mark::COUNT] {
    let mut traces = [Trace::None; Mark::COUNT];
    for ((trace, note), mark) in traces.iter_mut().zip(&details.notes).zip(Mark::ALL) {
        if word.has(mark) {
            *trace = note
                .read(word.generation())
                .map_or(Trace::Unknown, Trace::Known);
        }
    }
    traces
}

/// A window that is about to be opened.
#[derive(Clone, Copy)]
struct Opening {
    context: u64,
    /// Its hash.
    mixed: u64,
    key: Key,
    opened: Opened,
}

impl Opening {
    /// An empty way, and what it has; [`WAYS`] if there is none, or if the context has a window of that page and
    /// bit already. For the usual case: [`Self::place`] knows the others.
    #[inline(always)]
    fn empty(&self, bucket: &Bucket) -> (usize, Word) {
        let (mut empty, mut word) = (WAYS, Word::EMPTY);
        for way in (0..WAYS).rev() {
            let old = bucket.words[way].load(Acquire);
            if old.is_free() {
                (empty, word) = (way, old);
            } else if self.is_own(bucket, way, old) {
                return (WAYS, Word::EMPTY);
            }
        }
        (empty, word)
    }

    /// A way for a new window: one with a window of the same context, page and bit (a wake must not
    /// find two), an empty one, or the one that was opened first. The word that made it the choice comes
    /// along, since when that has changed so may have the choice, and whether it is the same window's.
    fn place(&self, bucket: &Bucket) -> Option<(usize, Word, bool)> {
        for way in (0..WAYS).rev() {
            let old = bucket.words[way].load(Acquire);
            if self.is_own(bucket, way, old) {
                return Some((way, old, true));
            }
        }
        let (way, word) = self.empty(bucket);
        if way != WAYS {
            return Some((way, word, false));
        }
        self.oldest(bucket)
    }

    /// Is there a window of the same context, page and bit?
    #[inline(always)]
    fn is_own(&self, bucket: &Bucket, way: usize, word: Word) -> bool {
        word.is(self.key) && bucket.details[way].context.load(Relaxed) == self.context
    }

    fn oldest(&self, bucket: &Bucket) -> Option<(usize, Word, bool)> {
        let mut oldest = None;
        let mut age = 0;
        for (way, (word, details)) in bucket.ways().enumerate() {
            let old = word.load(Acquire);
            if old.is_busy() {
                continue;
            }
            // The clocks of two CPUs may differ a little.
            let since = self
                .opened
                .when_ns
                .saturating_sub(details.when_ns.load(Relaxed));
            if oldest.is_none() || since > age {
                oldest = Some((way, old, false));
                age = since;
            }
        }
        oldest
    }

    /// Opens it in a way that has `old`, and remembers that in `last`; `false` if somebody else has come first.
    /// `first` is the number of the bucket's first way.
    #[inline(always)]
    fn take(&self, last: &AtomicU64, bucket: &Bucket, first: usize, way: usize, old: Word) -> bool {
        let (word, details) = (&bucket.words[way % WAYS], &bucket.details[way % WAYS]);
        let opening = old.opening();
        if word.replace(old, opening, Acquire).is_err() {
            return false;
        }
        fence(Release);
        let opened = &self.opened;
        details.context.store(self.context, Relaxed);
        details.when_ns.store(opened.when_ns, Relaxed);
        details.caller.store(opened.caller, Relaxed);
        details.epoch.store(opened.epoch, Relaxed);
        let place = (u64::from(opened.slot) << 32)
            | (u64::from(opened.row) << 24)
            | (u64::from(opened.function) << 16)
            | u64::from(opened.cpu);
        details.place.store(place, Relaxed);
        word.store(opening.open(self.key), Release);
        last.store(
            pack(self.mixed, (first | way) as u64, opening.generation()),
            Relaxed,
        );
        true
    }
}

/// In 64 bits: 30 of the context, 16 for the way, 18 of its generation. A context whose bits are
/// another's by chance can close that one's window: it is then missed, never believed wrongly.
#[inline]
fn pack(mixed: u64, way: u64, generation: Generation) -> u64 {
    (mixed >> 34 << 34) | (way << 18) | generation.number()
}

/// The way and the generation, if it is of this context.
#[inline]
fn unpack(last: u64, mixed: u64) -> Option<(usize, Generation)> {
    if last == 0 || (last ^ mixed) >> 34 != 0 {
        return None;
    }
    Some((
        ((last >> 18) & 0xffff) as usize,
        Generation::of(last & 0x3_ffff),
    ))
}

/// `hash_64()` of include/linux/hash.h: multiplication by the golden ratio.
#[inline]
fn mix(value: u64) -> u64 {
    value.wrapping_mul(0x61c8_8646_80b5_83eb)
}
