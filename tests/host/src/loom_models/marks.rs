// SPDX-License-Identifier: GPL-2.0

//! A wake sees what has happened to its page in its window, all of it and nothing else.

use super::*;

/// The bit is cleared after the window was opened, and so the page can be freed, and
/// after that be allocated and written to.
#[test]
fn what_happens_in_the_window_is_seen() {
    up_to(6, || {
        let table = windows();
        let (cleared, freed, started) = (Flag::new(), Flag::new(), Flag::new());
        let other = table.spawn({
            let (cleared, freed, started) = (cleared.clone(), freed.clone(), started.clone());
            move |table| {
                if cleared.is_up() {
                    let one = Marked {
                        windows: 1,
                        ..Marked::default()
                    };
                    let free = mark(table, 7, Mark::Freed, 1);
                    freed.raise();
                    let start = mark(table, 7, Mark::Started, 2);
                    started.raise();
                    assert!(free == one || free == Marked::default());
                    assert!(start == one || start == Marked::default());
                }
            }
        });
        open(&table, 7, 1, 1);
        cleared.raise();
        let all = started.is_up();
        let first = freed.is_up();
        let window = wake(&table, 7, WRITEBACK, 1).expect("it is open");
        assert_eq!(id(&window), 1);
        let (free, start) = (marker(&window, Mark::Freed), marker(&window, Mark::Started));
        assert!(matches!(free, None | Some(0 | 1)));
        assert!(matches!(start, None | Some(0 | 2)));
        assert!(free.is_some() || start.is_none(), "out of order");
        assert!(!first || free == Some(1));
        assert!(!all || start == Some(2));
        other.join().unwrap();
    });
}

/// Three marks come between a wake's look and its closing of the window, and it still closes it.
#[test]
fn a_wake_outlasts_the_marks() {
    up_to(6, || {
        let table = windows();
        open(&table, 7, 1, 1);
        let other = table.spawn(|table| {
            let mut seen = 0;
            for what in [Mark::Freed, Mark::Allocated, Mark::Started] {
                let marked = table.mark(7, what, || event(1));
                assert_eq!(marked.dropped, 0);
                seen += marked.windows;
            }
            seen
        });
        let window = wake(&table, 7, WRITEBACK, 1).expect("it is open");
        let seen = window.marks.iter().filter(|m| **m != Trace::None).count();
        assert_eq!(other.join().unwrap(), seen as u32);
        assert_eq!(table.open_windows(), (0, 0));
    });
}

/// A free that comes first is that of an earlier life.
#[test]
fn what_happened_before_the_window_is_not_seen() {
    all(|| {
        let table = windows();
        let freed = Flag::new();
        let other = table.spawn({
            let freed = freed.clone();
            move |table| {
                let marked = mark(table, 7, Mark::Freed, 1);
                freed.raise();
                marked
            }
        });
        let before = freed.is_up();
        open(&table, 7, 1, 1);
        let window = wake(&table, 7, WRITEBACK, 1).expect("it is open");
        let free = marker(&window, Mark::Freed);
        assert!(!before || free.is_none());
        let marked = other.join().unwrap();
        assert_eq!(marked.windows, u32::from(free.is_some()));
        assert_eq!(marked.dropped, 0);
    });
}

/// The way is used by one context after the other, for the same page. Two frees meet them: each leaves
/// its mark on the windows that it says, and its name on no other.
#[test]
fn a_mark_does_not_reach_the_next_window() {
    up_to(3, || {
        let table = windows();
        open(&table, 7, 2, 1);
        let others = [1, 2].map(|id| table.spawn(move |table| mark(table, 7, Mark::Freed, id)));
        let first = wake(&table, 7, WRITEBACK, 2).expect("it is open");
        open(&table, 7, 1, 2);
        let second = wake(&table, 7, WRITEBACK, 1).expect("it is open");
        assert_eq!((id(&first), id(&second)), (1, 2));

        let marked = others.map(|other| other.join().unwrap());
        let free = [first, second].map(|window| marker(&window, Mark::Freed));
        let windows: u32 = marked.iter().map(|m| m.windows).sum();
        assert_eq!(windows as usize, free.iter().flatten().count());
        assert!(free.iter().flatten().all(|id| match *id {
            0 => true,
            id => marked[id as usize - 1].windows > 0,
        }));
        // Each free has marked one window at most.
        assert!(free[0] != free[1] || matches!(free[0], None | Some(0)));
    });
}

/// The same, when the late one is still writing down who it is.
#[test]
fn a_late_note_does_not_become_the_next_windows() {
    all(|| {
        let table = windows();
        open(&table, 7, 2, 1);
        let late = table.spawn(|table| mark(table, 7, Mark::Freed, 1));
        wake(&table, 7, WRITEBACK, 2).expect("it is open");
        open(&table, 8, 1, 2);
        let marked = mark(&table, 8, Mark::Freed, 2);
        let window = wake(&table, 8, WRITEBACK, 1).expect("it is open");
        assert_eq!(marked.windows, 1);
        assert!(marked.unknown <= 1);
        let by = if marked.unknown == 0 { 2 } else { 0 };
        assert_eq!(marker(&window, Mark::Freed), Some(by));
        late.join().unwrap();
    });
}

/// Both pages are in one bucket.
#[test]
fn another_pages_marks_are_not_seen() {
    all(|| {
        let table = windows();
        open(&table, 8, 2, 1);
        let other = table.spawn(|table| {
            let marked = mark(table, 8, Mark::Freed, 1);
            let window = wake(&table, 8, WRITEBACK, 2).expect("it is open");
            assert_eq!(id(&window), 1);
            assert_eq!(marked.windows, 1);
            assert_eq!(marker(&window, Mark::Freed), Some(1));
        });
        open(&table, 7, 1, 2);
        let window = wake(&table, 7, WRITEBACK, 1).expect("it is open");
        assert_eq!(id(&window), 2);
        assert_eq!(window.marks, [Trace::None; Mark::COUNT]);
        other.join().unwrap();
    });
}

/// Two contexts have the page open; who frees it tells both.
#[test]
fn every_window_of_the_page_is_marked() {
    all(|| {
        let table = windows();
        open(&table, 7, 1, 1);
        let second = Flag::new();
        let free = table.spawn({
            let second = second.clone();
            move |table| {
                let both = second.is_up();
                let marked = mark(table, 7, Mark::Freed, 1);
                assert_eq!(marked.dropped + marked.unknown, 0);
                assert!(!both || marked.windows == 2);
                marked.windows
            }
        });
        open(&table, 7, 2, 2);
        second.raise();
        let marks = free.join().unwrap();
        let seen = [1, 2].map(|context| {
            let window = wake(&table, 7, WRITEBACK, context).expect("it is open");
            assert_eq!(id(&window), context);
            u32::from(marker(&window, Mark::Freed) == Some(1))
        });
        assert_eq!(seen.iter().sum::<u32>(), marks);
        assert_eq!(seen[0], 1, "it was open before");
    });
}
