// SPDX-License-Identifier: GPL-2.0

//! How many reports a second.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Lets `limit` events pass in every second, counted from the first one.
///
/// Lock-free, for any context. Two CPUs that open a new second at the same time can let one
/// second's worth more pass: a bound on noise, not an accounting.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// The second it is, in the upper 32 bits, and how many have passed in it.
    second_and_count: AtomicU64,
    limit: AtomicU32,
}

impl Limiter {
    /// Of `limit` events a second.
    pub(crate) const fn new(limit: u32) -> Self {
        Self {
            second_and_count: AtomicU64::new(u64::MAX),
            limit: AtomicU32::new(limit),
        }
    }

    /// Lets another number pass from now on.
    pub(crate) fn set(&self, limit: u32) {
        self.limit.store(limit, Relaxed);
    }

    /// May an event at `now_ns` nanoseconds pass?
    pub(crate) fn pass(&self, now_ns: u64) -> bool {
        let second = (now_ns / 1_000_000_000) & 0xffff_ffff;
        let old = self.second_and_count.load(Relaxed);
        let count = if old >> 32 == second {
            old & 0xffff_ffff
        } else {
            0
        };
        if count >= u64::from(self.limit.load(Relaxed)) {
            return false;
        }
        // A lost race means that another CPU's event took this place: ask no further, a
        // handler does not loop. The event counts as suppressed.
        self.second_and_count
            .compare_exchange(old, (second << 32) | (count + 1), Relaxed, Relaxed)
            .is_ok()
    }
}
