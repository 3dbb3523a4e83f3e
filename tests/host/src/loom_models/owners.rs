// SPDX-License-Identifier: GPL-2.0

//! A window is found by the context that opened it last, whole, or not at all.

use super::*;
use crate::detect::window::WAYS;

/// Context 1 has the window that was opened first, of page 7; others have the rest.
fn full() -> Shared<Windows> {
    let table = windows();
    open(&table, 7, 1, 1);
    for n in 2..=WAYS as u64 {
        open(&table, n << 20, n, n);
    }
    table
}

/// The oldest window goes for another page's, while its own context looks at it.
#[test]
fn an_overwritten_window_is_found_whole_or_not() {
    up_to(4, || {
        let table = full();
        let other = table.spawn(|table| {
            let outcome = table.open(8, WRITEBACK, 9, opened(9));
            let window = wake(&table, 8, WRITEBACK, 9);
            assert_eq!(
                window.as_ref().map(id),
                (outcome.fate != Fate::Dropped).then_some(9)
            );
            outcome
        });
        let look = table.look(7, WRITEBACK, 1);
        let wake = wake(&table, 7, WRITEBACK, 1);
        for window in [&look, &wake].into_iter().flatten() {
            assert_eq!(id(window), 1);
        }
        assert!(look.is_some() || wake.is_none());
        let outcome = other.join().unwrap();
        assert!(outcome.fate != Fate::Dropped);
        assert_eq!(outcome.fate == Fate::Overwrote, wake.is_none());
    });
}

/// It goes for one of the same page, so the page does not tell them apart; the page was freed in both.
#[test]
fn an_overwritten_window_of_the_same_page_is_not_mistaken() {
    up_to(3, || {
        let table = full();
        assert_eq!(mark(&table, 7, Mark::Freed, 1).windows, 1);
        let other = table.spawn(|table| {
            let outcome = table.open(7, WRITEBACK, 9, opened(9));
            assert_eq!(mark(table, 7, Mark::Freed, 2).windows, 1);
            let window = wake(&table, 7, WRITEBACK, 9).expect("there is room");
            assert_eq!((id(&window), window.superseded), (9, false));
            assert_eq!(marker(&window, Mark::Freed), Some(2));
            outcome
        });
        let look = table.look(7, WRITEBACK, 1);
        let wake = wake(&table, 7, WRITEBACK, 1);
        for window in [&look, &wake].into_iter().flatten() {
            assert_eq!(id(window), 1);
        }
        if let Some(window) = &look {
            assert_eq!(marker(window, Mark::Freed), Some(1));
        }
        // Its place is free when the note is read: who freed the page may be lost by then, but is
        // not mistaken.
        if let Some(window) = &wake {
            assert!(matches!(marker(window, Mark::Freed), Some(0 | 1)));
        }
        assert!(look.is_some() || wake.is_none());
        assert_eq!(
            other.join().unwrap().fate == Fate::Overwrote,
            wake.is_none()
        );
    });
}

/// What is overwritten is the oldest window, never one that was opened just now.
#[test]
fn the_oldest_goes() {
    up_to(4, || {
        let table = full();
        let other = table.spawn(|table| {
            let outcome = table.open(8, WRITEBACK, 9, opened(9));
            (outcome, wake(&table, 8, WRITEBACK, 9).is_some())
        });
        // Its own last one goes in any case.
        let outcome = table.open(6, WRITEBACK, 1, opened(10));
        let found = wake(&table, 6, WRITEBACK, 1);
        assert_eq!(
            found.as_ref().map(id),
            (outcome.fate != Fate::Dropped).then_some(10)
        );
        let (others, found) = other.join().unwrap();
        assert_eq!(found, others.fate != Fate::Dropped);
        // One of the five may have gone, unless another made way in time.
        let gone =
            u32::from(outcome.fate == Fate::Overwrote) + u32::from(others.fate == Fate::Overwrote);
        let left = table.open_windows().0;
        let stale = u32::from(!outcome.retired);
        assert_eq!(left as u32 + gone - stale, WAYS as u32 - 1);
    });
}

/// There is room for both, so nobody has to go.
#[test]
fn two_that_find_room_do_not_take_the_same() {
    all(|| {
        let table = windows();
        let other = table.spawn(|table| {
            let outcome = table.open(7, WRITEBACK, 2, opened(1));
            assert!(outcome.fate == Fate::Open);
        });
        let outcome = table.open(8, WRITEBACK, 1, opened(2));
        assert!(outcome.fate == Fate::Open);
        other.join().unwrap();
        assert_eq!(wake(&table, 7, WRITEBACK, 2).as_ref().map(id), Some(1));
        assert_eq!(wake(&table, 8, WRITEBACK, 1).as_ref().map(id), Some(2));
    });
}

/// The last window of context 1 was not woken. Another context takes its way; whatever 1 retires then,
/// it isn't that.
#[test]
fn a_context_retires_its_own_window_only() {
    all(|| {
        let table = full();
        let other = table.spawn(|table| {
            open(table, 8, 9, 9);
        });
        let outcome = table.open(6, WRITEBACK, 1, opened(8));
        assert!(outcome.fate != Fate::Dropped);
        other.join().unwrap();
        assert_eq!(wake(&table, 8, WRITEBACK, 9).as_ref().map(id), Some(9));
        assert_eq!(wake(&table, 6, WRITEBACK, 1).as_ref().map(id), Some(8));
    });
}

/// Two contexts whose last windows are remembered in one place: see `pack()`.
const ALIKE: [u64; 2] = [1, 205];

/// The context's last window of the page was not woken, and isn't remembered. The wake
/// must find the next one.
#[test]
fn a_stale_window_is_not_found() {
    all(|| {
        let table = windows();
        open(&table, 7, ALIKE[0], 1);
        open(&table, 8, ALIKE[1], 2);
        let free = table.spawn(|table| mark(table, 7, Mark::Freed, 1));
        let outcome = table.open(7, WRITEBACK, ALIKE[0], opened(3));
        assert!(outcome.fate == Fate::Open && outcome.retired);
        let window = wake(&table, 7, WRITEBACK, ALIKE[0]).expect("it is open");
        assert_eq!(id(&window), 3);
        assert!(!window.superseded);
        assert!(
            wake(&table, 7, WRITEBACK, ALIKE[0]).is_none(),
            "the old one"
        );
        let marked = free.join().unwrap();
        assert!(marker(&window, Mark::Freed).is_none() || marked.windows > 0);
        assert!(marked.windows <= 1 || marker(&window, Mark::Freed).is_some());
    });
}

/// The two contexts above are such ones.
#[test]
fn contexts_that_are_alike() {
    all(|| {
        let table = windows();
        open(&table, 7, ALIKE[0], 1);
        open(&table, 8, ALIKE[1], 2);
        let outcome = table.open(9, WRITEBACK, ALIKE[0], opened(3));
        assert!(outcome.fate != Fate::Dropped && !outcome.retired);
    });
}

/// The page was written again, and that is done too, before the first wake.
#[test]
fn a_second_window_of_the_page_supersedes_the_first() {
    all(|| {
        let table = windows();
        open(&table, 7, 1, 1);
        let second = Flag::new();
        let other = table.spawn({
            let second = second.clone();
            move |table| {
                open(table, 7, 2, 2);
                second.raise();
            }
        });
        let before = second.is_up();
        let window = wake(&table, 7, WRITEBACK, 1).expect("it is open");
        assert!(!before || window.superseded);
        other.join().unwrap();
        let window = wake(&table, 7, WRITEBACK, 2).expect("it is open");
        assert!(!window.superseded, "by an earlier one");
    });
}

/// The page's other window is older. That its way is used for another page just now does not
/// make it younger.
#[test]
fn an_older_window_does_not_supersede() {
    all(|| {
        let table = windows();
        open(&table, 7, 2, 1);
        open(&table, 7, 1, 2);
        let other = table.spawn(|table| open(table, 8, 2, 3));
        let window = wake(&table, 7, WRITEBACK, 1).expect("it is open");
        assert!(!window.superseded);
        other.join().unwrap();
    });
}
