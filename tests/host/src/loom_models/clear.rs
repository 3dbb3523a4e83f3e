// SPDX-License-Identifier: GPL-2.0

//! All windows are closed while others are at them.

use super::*;
use crate::detect::window::WAYS;

/// Nothing is left behind that would take room: all ways can be used.
fn assert_empty(table: &Windows) {
    assert_eq!(table.open_windows(), (0, 0));
    for n in 1..=WAYS as u64 {
        let outcome = table.open(n << 20, WRITEBACK, 100 + n, opened(n));
        assert!(outcome.fate == Fate::Open);
    }
}

/// A window is cleared, or found by its wake, and with all that it had.
#[test]
fn a_window_is_cleared_or_woken() {
    up_to(4, || {
        let table = windows();
        let cleared = Flag::new();
        open(&table, 7, 2, 1);
        let other = table.spawn({
            let cleared = cleared.clone();
            move |table| {
                table.clear();
                cleared.raise();
            }
        });
        let before = cleared.is_up();
        open(&table, 7, 1, 2);
        let marked = mark(&table, 7, Mark::Freed, 1);
        let window = wake(&table, 7, WRITEBACK, 1);
        if let Some(window) = &window {
            assert_eq!(id(window), 2);
            assert_eq!(marker(window, Mark::Freed), Some(1));
        }
        if before {
            assert!(window.is_some(), "opened after it");
            assert!(!window.unwrap().superseded);
            assert_eq!(marked.windows, 1);
        }
        other.join().unwrap();
        assert!(wake(&table, 7, WRITEBACK, 2).is_none());
        assert_empty(&table);
    });
}

/// A mark finds the window open and closed for all that it does with it. The next window has none of it.
#[test]
fn a_mark_on_a_cleared_window_is_gone() {
    all(|| {
        let table = windows();
        open(&table, 7, 1, 1);
        let free = table.spawn(|table| mark(table, 7, Mark::Freed, 1));
        table.clear();
        assert!(wake(&table, 7, WRITEBACK, 1).is_none());
        open(&table, 7, 1, 2);
        let window = wake(&table, 7, WRITEBACK, 1).expect("it is open");
        let seen = marker(&window, Mark::Freed);
        let marked = free.join().unwrap();
        assert!(seen.is_none() || marked.windows == 1);
        assert_eq!(marked.dropped, 0);
        assert_empty(&table);
    });
}

/// With all else at the same time.
#[test]
fn three_at_once() {
    up_to(3, || {
        let table = windows();
        open(&table, 7, 1, 1);
        let free = table.spawn(|table| mark(table, 7, Mark::Freed, 1).windows);
        let clear = table.spawn(|table| table.clear());
        let window = wake(&table, 7, WRITEBACK, 1);
        let seen = window.as_ref().and_then(|window| {
            assert_eq!(id(window), 1);
            marker(window, Mark::Freed)
        });
        clear.join().unwrap();
        let marks = free.join().unwrap();
        assert!(seen.is_none() || marks == 1);
        assert!(window.is_none() || seen.is_some() == (marks == 1));
        assert_empty(&table);
    });
}
