// SPDX-License-Identifier: GPL-2.0

//! One file a scenario.

pub mod bystander;
pub mod crew;
mod feeder;
mod line;
pub mod live;
pub mod load;
pub mod order0;
pub mod read_race;
pub mod reclaim;
pub mod same_page;
pub mod soak;
pub mod states;
pub mod stress;
pub mod sync;
pub mod tail;
pub mod victim;
pub mod waits;
pub mod write_race;

use std::time::Duration;

/// For messages.
fn ms(d: Duration) -> String {
    format!("{:.1} ms", d.as_secs_f64() * 1e3)
}

/// A small generator (xorshift64*): the same work for the same seed.
pub struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Zero is the one state it never leaves.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which must not be 0.
    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}
