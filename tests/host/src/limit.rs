// SPDX-License-Identifier: GPL-2.0

//! How many reports a second.

use crate::detect::limit::Limiter;
use proptest::prelude::*;
use std::collections::HashMap;

const SECOND: u64 = 1_000_000_000;

#[test]
fn the_first_of_each_second_pass() {
    let limiter = Limiter::new(2);
    let passed: Vec<bool> = [0, 1, 2, SECOND - 1, SECOND, SECOND, SECOND]
        .into_iter()
        .map(|now| limiter.pass(now))
        .collect();
    assert_eq!(passed, [true, true, false, false, true, true, false]);
}

proptest! {
    /// Against the obvious implementation, for clocks that only go forward.
    #[test]
    fn as_a_map_would(limit in 1..20u32, steps in prop::collection::vec(0..SECOND, 0..200)) {
        let limiter = Limiter::new(limit);
        let mut passed: HashMap<u64, u32> = HashMap::new();
        let mut now = 0;
        for step in steps {
            now += step / 7;
            let count = passed.entry(now / SECOND).or_default();
            prop_assert_eq!(limiter.pass(now), *count < limit);
            *count = limit.min(*count + 1);
        }
    }
}
