// SPDX-License-Identifier: GPL-2.0

//! Call sites: who ends writeback, on whose references, and how long the windows are.
//!
//! Which row a call site has is found in [`Sites`], one for all CPUs; what is counted is in
//! [`Rows`], one for each CPU, which only that CPU writes; an interrupt may, in the middle of a task's.

use super::verdict::Verdict;
use crate::sync::{
    AtomicU32, AtomicU64, Count,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// Call sites there is room for.
pub(crate) const SITES: usize = 128;
/// Places that are looked at before a call site is given up.
const PROBES: usize = 16;
/// Lengths of windows: the k-th counts those of 2^k to 2^(k+1) - 1 ns. The last one has the rest.
pub(crate) const LENGTHS: usize = 36;

/// Which function was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// `folio_end_writeback()`.
    EndWriteback,
    /// `folio_end_read()`.
    EndRead,
    /// `folio_end_private_2()`.
    Private2,
    /// `folio_unlock()`.
    Unlock,
}

impl Function {
    /// All of them; `as usize` of each is its place.
    pub(crate) const ALL: [Function; 4] = [
        Function::EndWriteback,
        Function::EndRead,
        Function::Private2,
        Function::Unlock,
    ];

    /// The name in files and configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Function::EndWriteback => "end_writeback",
            Function::EndRead => "end_read",
            Function::Private2 => "private_2",
            Function::Unlock => "unlock",
        }
    }
}

/// In a place: nobody may put a call site there. No call site's, which have a [`Function`] in front.
const CLOSED: u64 = u64::MAX;

/// The call sites seen so far. Lock-free; entries are removed all together: see [`Sites::close`].
pub(crate) struct Sites {
    keys: [AtomicU64; SITES],
}

impl Sites {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            keys: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The row of the call of `function` from `caller`, if it is known and easily found.
    #[inline(always)]
    pub(crate) fn known(&self, function: Function, caller: u64) -> Option<usize> {
        let key = key(function, caller);
        let row = first(key) % SITES;
        (self.keys[row].load(Relaxed) == key).then_some(row)
    }

    /// The row of the call of `function` from `caller`; `None` if there is no room for it.
    pub(crate) fn row(&self, function: Function, caller: u64) -> Option<usize> {
        let key = key(function, caller);
        let first = first(key);
        for probe in 0..PROBES {
            let row = first.wrapping_add(probe) % SITES;
            let place = self.keys.get(row)?;
            let found = match place.load(Relaxed) {
                0 => match place.compare_exchange(0, key, AcqRel, Acquire) {
                    Ok(_) => key,
                    Err(other) => other,
                },
                found => found,
            };
            if found == key {
                return Some(row);
            }
        }
        None
    }

    /// Forgets all call sites; until [`Self::open`], no call has a row.
    ///
    /// In between whoever has been given a row must be done with it, and what is counted there be reset.
    /// Else the next call site in that row would be blamed for what the last one has done.
    pub(crate) fn close(&self) {
        for key in &self.keys {
            key.store(CLOSED, Relaxed);
        }
    }

    /// There is room again.
    pub(crate) fn open(&self) {
        for key in &self.keys {
            key.store(0, Relaxed);
        }
    }

    /// The call site of a row.
    pub(crate) fn site(&self, row: usize) -> Option<(Function, u64)> {
        let key = self.keys.get(row)?.load(Relaxed);
        if key == 0 || key == CLOSED {
            return None;
        }
        let function = Function::ALL.get((key >> 60) as usize)?;
        // Addresses of kernel text have all of the upper bits set.
        Some((*function, key | (0xf << 60)))
    }
}

/// The place that is looked at first, modulo [`SITES`].
#[inline(always)]
fn first(key: u64) -> usize {
    (key.wrapping_mul(0x61c8_8646_80b5_83eb) >> 40) as usize
}

#[inline(always)]
fn key(function: Function, caller: u64) -> u64 {
    ((function as u64) << 60) | (caller & !(0xf << 60))
}

/// What one CPU knows of one call site. All-zero is a new one. What each call counts comes first: it has the row's
/// address.
#[repr(C)]
pub(crate) struct Row {
    calls: AtomicU64,
    none: AtomicU64,
    /// How far below `i32::MAX` the least spare references were.
    below: AtomicU32,
    /// How far above `i32::MIN` the most were.
    above: AtomicU32,
    /// The same of the last call: mostly it is as this one.
    last: AtomicU32,
    /// Each goes back to 0 after 2^32. More would be too large: per-CPU memory comes in pieces of 32 KiB at most
    /// (`PCPU_MIN_UNIT_SIZE`, include/linux/percpu.h, 6.12).
    lengths: [AtomicU32; LENGTHS],
}

/// The rows of one CPU.
pub(crate) type Rows = [Row; SITES];

impl Row {
    /// A new one. The module has its rows zeroed by the kernel.
    #[allow(dead_code)]
    pub(crate) fn new() -> Self {
        Self {
            calls: AtomicU64::new(0),
            none: AtomicU64::new(0),
            below: AtomicU32::new(0),
            above: AtomicU32::new(0),
            last: AtomicU32::new(0),
            lengths: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Counts a call with that many spare references. On the row's own CPU, with preemption disabled.
    #[inline]
    pub(crate) fn audit(&self, spare: i32) {
        // Before the call is counted: a row without calls is not shown.
        let above = spare.wrapping_sub(i32::MIN) as u32;
        if self.last.load(Relaxed) != above {
            self.extremes(spare, above);
        }
        self.calls.one_more();
        if spare <= 0 {
            self.none.one_more();
        }
    }

    /// Another number than the last call had. An interrupt may come in the middle: whatever `last` is then, both
    /// extremes have been told what each call has.
    #[inline(never)]
    fn extremes(&self, spare: i32, above: u32) {
        raise(&self.below, i32::MAX.wrapping_sub(spare) as u32);
        raise(&self.above, above);
        self.last.store(above, Relaxed);
    }

    /// Counts a window that has ended in a wake. On the row's own CPU, with preemption disabled.
    #[inline]
    pub(crate) fn length(&self, ns: u64) {
        let place = (ns.checked_ilog2().unwrap_or(0) as usize).min(LENGTHS - 1);
        if let Some(count) = self.lengths.get(place) {
            count.one_more();
        }
    }

    /// Forgets everything. A count that is made meanwhile may or may not stay.
    pub(crate) fn reset(&self) {
        self.last.store(0, Relaxed);
        self.calls.store(0, Relaxed);
        self.none.store(0, Relaxed);
        self.below.store(0, Relaxed);
        self.above.store(0, Relaxed);
        for count in &self.lengths {
            count.store(0, Relaxed);
        }
    }
}

/// Makes `cell` at least `value`, which it mostly is.
#[inline(always)]
fn raise(cell: &AtomicU32, value: u32) {
    if cell.load(Relaxed) < value {
        cell.fetch_max(value, Relaxed);
    }
}

/// What all CPUs know of a call site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Calls that were audited.
    pub(crate) calls: u64,
    /// Those of them with no spare reference.
    pub(crate) none: u64,
    /// The least spare references seen; makes sense if there were calls.
    pub(crate) least: i32,
    /// The most.
    pub(crate) most: i32,
    /// Windows that ended in a wake, by the logarithm of their length in ns.
    pub(crate) lengths: [u64; LENGTHS],
}

impl Sum {
    /// Of the rows that belong to one call site.
    pub(crate) fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        let mut sum = Self {
            calls: 0,
            none: 0,
            least: i32::MAX,
            most: i32::MIN,
            lengths: [0; LENGTHS],
        };
        for row in rows {
            let calls = row.calls.load(Relaxed);
            if calls != 0 {
                let least = i32::MAX.wrapping_sub(row.below.load(Relaxed) as i32);
                let most = i32::MIN.wrapping_add(row.above.load(Relaxed) as i32);
                sum.least = sum.least.min(least);
                sum.most = sum.most.max(most);
            }
            sum.calls = sum.calls.wrapping_add(calls);
            sum.none = sum.none.wrapping_add(row.none.load(Relaxed));
            for (sum, count) in sum.lengths.iter_mut().zip(&row.lengths) {
                *sum = sum.wrapping_add(count.load(Relaxed).into());
            }
        }
        sum
    }

    /// Is the race open here? No race is needed to tell, and none need have been lost.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.none {
            0 => "held",
            _ => Verdict::Unreferenced.name(),
        }
    }

    /// Windows that ended in a wake.
    pub(crate) fn windows(&self) -> u64 {
        self.lengths.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }
}
