// SPDX-License-Identifier: GPL-2.0

//! Whose victims are looked for.

use crate::detect::expected::{Notes, Waiter, Wake, KINDS};
use proptest::prelude::*;

const TASK: (usize, u64) = (0, 0xffff_8880_0000_1000);
const SOFTIRQ: (usize, u64) = (1, 5);
const LEAKED: Wake = Wake {
    page: 0xffff_ea00_0000_0040,
    flag: 0,
};
const OTHER: Wake = Wake {
    page: 0xffff_ea00_0000_0080,
    flag: 0,
};

#[test]
fn the_victims_of_a_leaked_wake() {
    let notes = Notes::default();
    assert!(notes.is_empty());
    notes.begins(TASK.0, TASK.1);
    notes.expect(TASK.0, TASK.1, LEAKED, 7);
    assert!(!notes.is_empty());
    assert_eq!(notes.expected(TASK.0, TASK.1, LEAKED), Some(7));
    notes.begins(TASK.0, TASK.1);
    assert_eq!(notes.expected(TASK.0, TASK.1, LEAKED), None);
    assert!(notes.is_empty());
}

/// An interrupt between the handler of a wake and the lock of its queue.
#[test]
fn a_softirq_in_between_takes_nothing_away() {
    let notes = Notes::default();
    notes.begins(TASK.0, TASK.1);
    notes.expect(TASK.0, TASK.1, LEAKED, 7);
    notes.begins(SOFTIRQ.0, SOFTIRQ.1);
    notes.expect(SOFTIRQ.0, SOFTIRQ.1, OTHER, 8);
    assert_eq!(notes.expected(SOFTIRQ.0, SOFTIRQ.1, OTHER), Some(8));
    assert_eq!(notes.expected(SOFTIRQ.0, SOFTIRQ.1, LEAKED), None);
    assert_eq!(notes.expected(TASK.0, TASK.1, LEAKED), Some(7));
}

/// A wake of a page out of the sample, in the same bucket of the wait queues as a page whose leaked wake this
/// context has made before.
#[test]
fn a_wake_that_is_not_looked_at_has_no_victims() {
    let notes = Notes::default();
    notes.begins(TASK.0, TASK.1);
    notes.expect(TASK.0, TASK.1, LEAKED, 7);
    assert_eq!(notes.expected(TASK.0, TASK.1, OTHER), None);
    let other_bit = Wake { flag: 1, ..LEAKED };
    assert_eq!(notes.expected(TASK.0, TASK.1, other_bit), None);
}

/// Another task on this CPU.
#[test]
fn a_note_is_its_contexts() {
    let notes = Notes::default();
    notes.expect(TASK.0, TASK.1, LEAKED, 7);
    let other = TASK.1 + 0x40;
    assert_eq!(notes.expected(TASK.0, other, LEAKED), None);
    notes.begins(TASK.0, other);
    assert_eq!(notes.expected(TASK.0, TASK.1, LEAKED), Some(7));
}

/// Of those who are in the queue: who is woken though the bit is set?
#[test]
fn a_waiter_that_is_left_is_no_victim() {
    let waiter = |exclusive, custom| Waiter {
        exclusive,
        custom,
        set: true,
    };
    let (shared, lock, handoff) = (
        waiter(false, false),
        waiter(true, false),
        waiter(true, true),
    );
    let drops = waiter(false, true);
    for (waiter, as_it_ships, leaves_shared) in [
        (shared, true, false),
        (drops, true, true),
        (lock, false, false),
        (handoff, false, false),
    ] {
        assert_eq!(waiter.is_woken(false), as_it_ships, "{waiter:?}");
        assert_eq!(waiter.is_woken(true), leaves_shared, "{waiter:?}");
        let clear = Waiter {
            set: false,
            ..waiter
        };
        assert!(clear.is_woken(false) && clear.is_woken(true), "{waiter:?}");
    }
}

proptest! {
    /// Against a list, whatever is nested in what.
    #[test]
    fn as_a_list(steps in prop::collection::vec((0..KINDS, 1u64..3, 0u64..3, any::<bool>()), 0..40)) {
        let notes = Notes::default();
        let mut model: [Option<(u64, u64, u64)>; KINDS] = [None; KINDS];
        for (number, (kind, context, page, leaks)) in (0u64..).zip(steps) {
            let wake = Wake { page, flag: 0 };
            notes.begins(kind, context);
            if model[kind].is_some_and(|note| note.0 == context) {
                model[kind] = None;
            }
            if leaks {
                notes.expect(kind, context, wake, number);
                model[kind] = Some((context, page, number));
            }
            for (kind, note) in model.iter().enumerate() {
                for context in 1..3 {
                    for page in 0..3 {
                        let wanted = note.filter(|note| note.0 == context && note.1 == page);
                        let found = notes.expected(kind, context, Wake { page, flag: 0 });
                        prop_assert_eq!(found, wanted.map(|note| note.2));
                    }
                }
            }
            prop_assert_eq!(notes.is_empty(), model.iter().all(Option::is_none));
        }
    }
}
