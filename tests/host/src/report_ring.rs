// SPDX-License-Identifier: GPL-2.0

//! The report buffer.

use crate::ring::{Ring, Slot};
use proptest::prelude::*;
use std::collections::VecDeque;

fn ring(slots: usize) -> Ring<u32, Vec<Slot<u32>>> {
    Ring::new((0..slots).map(|_| Slot::new(0)).collect())
}

fn printed(ring: &Ring<u32, Vec<Slot<u32>>>) -> Vec<(u64, u32)> {
    let mut all = Vec::new();
    ring.print(|number, &value| {
        all.push((number, value));
        true
    });
    all
}

fn kept(ring: &Ring<u32, Vec<Slot<u32>>>) -> Vec<(u64, u32)> {
    let mut all = Vec::new();
    ring.read(|number, &value| all.push((number, value)));
    all
}

#[test]
fn what_is_not_printed_is_not_overwritten() {
    let ring = ring(2);
    assert!(ring.push(|v| *v = 10).is_some());
    assert!(ring.push(|v| *v = 11).is_some());
    assert_eq!(ring.push(|v| *v = 12), None, "full");
    assert_eq!(printed(&ring), [(0, 10), (1, 11)]);
    assert_eq!(printed(&ring), [], "once");
    assert_eq!(kept(&ring), [(0, 10), (1, 11)], "and can be read again");
    assert!(ring.push(|v| *v = 13).is_some());
    assert_eq!(
        kept(&ring),
        [(0, 10), (3, 13)],
        "in place of what was in its slot"
    );
}

/// In a panic the log takes nothing of another CPU: that one is through with its entries before it is
/// stopped, and nobody has seen them.
#[test]
fn what_the_log_has_refused_is_shown_again() {
    let ring = ring(3);
    for n in 0..3 {
        assert!(ring.push(|v| *v = n).is_some());
    }
    let mut shown = 0;
    ring.print(|number, _| {
        shown += 1;
        number == 0
    });
    assert_eq!(
        shown, 2,
        "what is refused once is not tried again and again"
    );
    let mut last = Vec::new();
    ring.print_last(|number, &value| last.push((number, value)));
    assert_eq!(last, [(1, 1), (2, 2)]);
}

/// A panic stops the CPU that was printing.
#[test]
fn what_was_being_shown_is_shown_again() {
    let ring = ring(3);
    for n in 0..3 {
        assert!(ring.push(|v| *v = n).is_some());
    }
    let mut last = Vec::new();
    let mut once = true;
    ring.print(|_, _| {
        if std::mem::take(&mut once) {
            ring.print_last(|number, &value| last.push((number, value)));
        }
        true
    });
    assert_eq!(last, [(0, 0), (1, 1), (2, 2)]);
    last.clear();
    ring.print_last(|number, &value| last.push((number, value)));
    assert_eq!(last, [], "all have been seen");
    assert_eq!(ring.push(|_| unreachable!()), None, "in a panic");
}

#[test]
fn a_ring_without_slots_takes_nothing() {
    assert_eq!(ring(0).push(|_| unreachable!()), None);
}

/// Writers on two threads, a printer on a third: every entry is printed once, whole, or dropped.
#[test]
fn threads() {
    const EACH: u32 = 20_000;
    let ring =
        Ring::<[u32; 8], Vec<Slot<[u32; 8]>>>::new((0..4).map(|_| Slot::new([0; 8])).collect());
    let mut seen = Vec::new();
    let mut pushed = 0;
    std::thread::scope(|scope| {
        let writers: Vec<_> = [0, EACH]
            .map(|from| {
                let ring = &ring;
                scope.spawn(move || {
                    (from..from + EACH)
                        .filter(|&n| ring.push(|v| *v = [n; 8]).is_some())
                        .count()
                })
            })
            .into_iter()
            .collect();
        while !writers.iter().all(|w| w.is_finished()) {
            ring.print(|_, v| {
                seen.push(*v);
                true
            });
        }
        pushed = writers.into_iter().map(|w| w.join().unwrap()).sum();
    });
    ring.print(|_, v| {
        seen.push(*v);
        true
    });
    assert!(seen.iter().all(|v| v.iter().all(|n| *n == v[0])), "torn");
    assert_eq!(seen.len(), pushed);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), pushed, "printed twice");
}

/// A victim comes after its report was written.
#[test]
fn an_entry_is_amended_while_it_is_there() {
    let ring = ring(2);
    let first = ring.push(|v| *v = 10).expect("room");
    assert!(ring.amend(first, |v| *v += 1));
    assert_eq!(printed(&ring), [(0, 11)]);
    assert!(ring.amend(first, |v| *v += 1), "printed already, and kept");
    assert_eq!(kept(&ring), [(0, 12)]);
    assert!(ring.push(|v| *v = 20).is_some());
    assert!(ring.push(|v| *v = 30).is_some(), "in its place");
    assert!(!ring.amend(first, |_| unreachable!()));
    assert_eq!(kept(&ring), [(1, 20), (2, 30)]);
}

#[test]
fn what_was_printed_is_forgotten_and_the_rest_is_not() {
    let ring = ring(4);
    assert!(ring.push(|v| *v = 10).is_some());
    printed(&ring);
    assert!(ring.push(|v| *v = 11).is_some());
    ring.forget();
    assert_eq!(kept(&ring), [(1, 11)]);
    assert_eq!(printed(&ring), [(1, 11)]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push,
    Print,
    Read,
}

proptest! {
    /// Against a queue, one thread.
    #[test]
    fn as_a_queue_would(
        slots in 1..6usize,
        steps in prop::collection::vec(
            prop_oneof![Just(Step::Push), Just(Step::Print), Just(Step::Read)], 0..60),
    ) {
        let ring = ring(slots);
        // By slot: the entry in it, and whether it was printed.
        let mut model: Vec<Option<(u64, bool)>> = vec![None; slots];
        let mut next = 0u64;
        for step in steps {
            match step {
                Step::Push => {
                    let slot = &mut model[next as usize % slots];
                    let room = slot.is_none_or(|(_, printed)| printed);
                    prop_assert_eq!(ring.push(|v| *v = next as u32), room.then_some(next));
                    if room {
                        *slot = Some((next, false));
                    }
                    next += 1;
                }
                Step::Print => {
                    let mut waiting: VecDeque<u64> = model.iter().flatten()
                        .filter(|(_, printed)| !printed).map(|(n, _)| *n).collect();
                    waiting.make_contiguous().sort_unstable();
                    let numbers: Vec<u64> = printed(&ring).iter().map(|(n, _)| *n).collect();
                    prop_assert_eq!(numbers, Vec::from(waiting));
                    for slot in model.iter_mut().flatten() {
                        slot.1 = true;
                    }
                }
                Step::Read => {
                    let mut here: Vec<u64> = model.iter().flatten().map(|(n, _)| *n).collect();
                    let shown: Vec<u64> = kept(&ring).iter().map(|(n, _)| *n).collect();
                    here.sort_unstable();
                    prop_assert_eq!(shown, here);
                }
            }
        }
    }
}
