// SPDX-License-Identifier: GPL-2.0

//! The report buffer. That nobody touches an entry while another writes it, loom sees by itself.

use super::*;
use crate::ring::{Ring, Slot};
use std::sync::Mutex;

/// As pushed: the number it was told, and how often it was amended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    by: u32,
    amended: u32,
}

type Reports = Ring<Entry, Vec<Slot<Entry>>>;

fn ring(slots: usize) -> Shared<Reports> {
    let empty = Entry { by: 0, amended: 0 };
    Shared::new(Ring::new((0..slots).map(|_| Slot::new(empty)).collect()))
}

/// Pushes an entry of `by`.
fn push(ring: &Reports, by: u32) -> Option<(u64, u32)> {
    let number = ring.push(|entry| *entry = Entry { by, amended: 0 })?;
    Some((number, by))
}

/// What is printed, and by whom. Only one thread at a time runs in a model.
type Shown = Shared<Mutex<Vec<(u64, Entry)>>>;

fn shown() -> Shown {
    Shared::new(Mutex::new(Vec::new()))
}

fn print(ring: &Reports, to: &Mutex<Vec<(u64, Entry)>>) {
    ring.print(|number, &entry| {
        to.lock().unwrap().push((number, entry));
        true
    });
}

fn read(ring: &Reports) -> Vec<(u64, Entry)> {
    let mut all = Vec::new();
    ring.read(|number, &entry| all.push((number, entry)));
    assert!(all.windows(2).all(|w| w[0].0 < w[1].0), "oldest first");
    all
}

/// Each of what was pushed, once.
fn assert_all(shown: &[(u64, Entry)], pushed: impl IntoIterator<Item = Option<(u64, u32)>>) {
    let mut shown: Vec<_> = shown.iter().map(|(n, entry)| (*n, entry.by)).collect();
    let mut pushed: Vec<_> = pushed.into_iter().flatten().collect();
    shown.sort_unstable();
    pushed.sort_unstable();
    assert_eq!(shown, pushed);
}

/// Two push, a third prints; the buffer has room for one.
#[test]
fn an_entry_is_printed_once_or_dropped() {
    all(|| {
        let (ring, shown) = (ring(1), shown());
        let writers = [1, 2].map(|by| ring.spawn(move |ring| push(ring, by)));
        print(&ring, &shown);
        let pushed = writers.map(|writer| writer.join().unwrap());
        assert!(pushed.iter().any(Option::is_some), "there was room");
        print(&ring, &shown);
        assert_all(&shown.lock().unwrap(), pushed);
        assert_eq!(read(&ring).len(), 1, "the last one is kept");
    });
}

/// Two print what a third goes on pushing.
#[test]
fn two_that_print_share_the_work() {
    up_to(3, || {
        let (ring, shown) = (ring(2), shown());
        let first = [push(&ring, 1), push(&ring, 2)];
        let printer = ring.spawn({
            let shown = shown.clone();
            move |ring| print(ring, &shown)
        });
        let writer = ring.spawn(|ring| push(ring, 3));
        print(&ring, &shown);
        printer.join().unwrap();
        let third = writer.join().unwrap();
        print(&ring, &shown);
        assert_all(&shown.lock().unwrap(), first.into_iter().chain([third]));
    });
}

/// The slot's next entry is pushed as soon as the first one is printed: what was to be added to that must
/// not get into this one.
#[test]
fn amend_adds_to_no_other_entry() {
    all(|| {
        let (ring, shown) = (ring(1), shown());
        let (number, _) = push(&ring, 1).expect("there is room");
        let printer = ring.spawn({
            let shown = shown.clone();
            move |ring| {
                print(ring, &shown);
                push(ring, 2)
            }
        });
        let amended = ring.amend(number, |entry| {
            assert_eq!(entry.by, 1, "another one");
            entry.amended += 1;
        });
        let second = printer.join().unwrap();
        print(&ring, &shown);
        let shown = shown.lock().unwrap();
        assert_all(&shown, [Some((number, 1)), second]);
        assert!(shown
            .iter()
            .all(|(_, entry)| entry.amended == 0 || (entry.by == 1 && amended)));
        let kept = read(&ring);
        assert!(kept
            .iter()
            .all(|(_, e)| e.amended == u32::from(e.by == 1 && amended)));
    });
}

/// Two add to it, as it is being read: each has added once, or is told.
#[test]
fn what_is_amended_is_printed() {
    all(|| {
        let (ring, shown) = (ring(1), shown());
        let (number, _) = push(&ring, 1).expect("there is room");
        let add = move |ring: &Reports| u32::from(ring.amend(number, |entry| entry.amended += 1));
        let other = ring.spawn(add);
        let reader = ring.spawn(|ring| read(ring));
        let added = add(&ring) + other.join().unwrap();
        for (n, entry) in reader.join().unwrap() {
            assert!(n == number && entry.by == 1 && entry.amended <= added);
        }
        print(&ring, &shown);
        let entry = Entry {
            by: 1,
            amended: added,
        };
        assert_eq!(*shown.lock().unwrap(), [(number, entry)]);
    });
}

/// Who reads takes nothing away from who prints, and is not told of one thing twice.
#[test]
fn reading_disturbs_nothing() {
    up_to(3, || {
        let (ring, shown) = (ring(2), shown());
        let first = push(&ring, 1);
        let writer = ring.spawn(|ring| push(ring, 2));
        let printer = ring.spawn({
            let shown = shown.clone();
            move |ring| print(ring, &shown)
        });
        let seen = read(&ring);
        printer.join().unwrap();
        let second = writer.join().unwrap();
        assert!(second.is_some(), "there was room");
        for (number, entry) in seen {
            assert!([first, second].contains(&Some((number, entry.by))));
        }
        print(&ring, &shown);
        assert_all(&shown.lock().unwrap(), [first, second]);
        assert_all(&read(&ring), [first, second]);
    });
}

/// What was not printed is not forgotten.
#[test]
fn forgetting_takes_what_was_printed() {
    up_to(5, || {
        let (ring, shown) = (ring(1), shown());
        let first = push(&ring, 1);
        print(&ring, &shown);
        let writer = ring.spawn(|ring| push(ring, 2));
        let reader = ring.spawn(|ring| read(ring));
        ring.forget();
        for (number, entry) in reader.join().unwrap() {
            let known = [first, Some((1, 2))];
            assert!(known.contains(&Some((number, entry.by))));
        }
        let second = writer.join().unwrap();
        print(&ring, &shown);
        assert_all(&shown.lock().unwrap(), [first, second]);
        ring.forget();
        assert_eq!(read(&ring), []);
        assert!(push(&ring, 3).is_some());
    });
}

/// A panic stops the other CPUs: the one that was printing does not come to the end, others push
/// and stay where they are.
#[test]
fn the_last_print_has_what_nobody_has_seen() {
    all(|| {
        let ring = ring(2);
        let first = push(&ring, 1);
        let pushed = Flag::new();
        let writer = ring.spawn({
            let pushed = pushed.clone();
            move |ring| {
                let second = push(ring, 2);
                pushed.raise();
                second
            }
        });
        let mut last = Vec::new();
        let mut before = false;
        let mut once = true;
        ring.print(|number, &entry| {
            if std::mem::take(&mut once) {
                assert_eq!(Some((number, entry.by)), first);
                before = pushed.is_up();
                ring.print_last(|number, &entry| last.push((number, entry)));
            }
            true
        });
        let second = writer.join().unwrap();
        assert!(last.len() == 1 || last.len() == 2);
        assert!(!before || last.len() == 2);
        assert_all(&last, [first, second].into_iter().take(last.len()));
        assert!(last.windows(2).all(|w| w[0].0 < w[1].0), "oldest first");
    });
}

/// One that a panic can't stop goes on: what it was printing is whole in the last print all the same, and
/// nothing is written over it.
#[test]
fn the_last_print_needs_nobody_to_stop() {
    up_to(4, || {
        let (ring, shown) = (ring(1), shown());
        let first = push(&ring, 1);
        let other = ring.spawn({
            let shown = shown.clone();
            move |ring| {
                print(ring, &shown);
                push(ring, 2)
            }
        });
        let mut last = Vec::new();
        ring.print_last(|number, &entry| last.push((number, entry)));
        let second = other.join().unwrap();
        for (number, entry) in &last {
            assert!([first, second].contains(&Some((*number, entry.by))), "torn");
        }
        let seen = shown.lock().unwrap();
        let first = first.map(|(number, _)| number);
        assert!(seen
            .iter()
            .chain(&last)
            .any(|(number, _)| Some(*number) == first));
    });
}
