// SPDX-License-Identifier: GPL-2.0

//! An allocation of several pages is found by the windows of those among them that were freed.

use super::*;

fn allocate(table: &Windows, pfn: u64, order: u32, id: u32) -> Marked {
    table.mark_range(pfn, order, Mark::Allocated, || event(id))
}

/// The page of the window is the second of four.
#[test]
fn an_allocation_finds_the_freed_page() {
    all(|| {
        let table = windows();
        let (freed, allocated) = (Flag::new(), Flag::new());
        open(&table, 5, 1, 1);
        let other = table.spawn({
            let (freed, allocated) = (freed.clone(), allocated.clone());
            move |table| {
                if freed.is_up() {
                    let marked = allocate(table, 4, 2, 2);
                    assert_eq!(allocate(table, 8, 2, 3), Marked::default(), "not in it");
                    allocated.raise();
                    marked.windows
                } else {
                    0
                }
            }
        });
        assert_eq!(mark(&table, 5, Mark::Freed, 1).windows, 1);
        freed.raise();
        let before = allocated.is_up();
        let window = wake(&table, 5, WRITEBACK, 1).expect("it is open");
        let seen = marker(&window, Mark::Allocated);
        assert!(!before || seen == Some(2));
        assert!(matches!(seen, None | Some(0 | 2)));
        assert_eq!(marker(&window, Mark::Freed), Some(1));
        assert_eq!(other.join().unwrap(), u32::from(seen.is_some()));
    });
}

/// Page 6 was freed in a window, which is closed. The allocation has it, too.
#[test]
fn a_window_that_is_closed_hides_no_open_one() {
    all(|| {
        let table = windows();
        open(&table, 6, 1, 1);
        assert_eq!(mark(&table, 6, Mark::Freed, 1).windows, 1);
        assert!(wake(&table, 6, WRITEBACK, 1).is_some());
        open(&table, 5, 1, 2);
        let freed = Flag::new();
        let other = table.spawn({
            let freed = freed.clone();
            move |table| {
                let marked = mark(table, 5, Mark::Freed, 2);
                freed.raise();
                marked.windows
            }
        });
        let before = freed.is_up();
        let marked = allocate(&table, 4, 2, 3);
        assert!(!before || marked.windows == 1);
        let window = wake(&table, 5, WRITEBACK, 1).expect("it is open");
        let seen = marker(&window, Mark::Allocated);
        assert_eq!(seen, (marked.windows == 1).then_some(3));
        assert_eq!(
            other.join().unwrap(),
            u32::from(marker(&window, Mark::Freed).is_some())
        );
    });
}

/// Of two windows whose pages were freed, by two CPUs at once, an allocation of both finds one at least.
#[test]
fn two_frees_at_once_are_both_remembered() {
    all(|| {
        let table = windows();
        open(&table, 5, 1, 1);
        open(&table, 6, 2, 2);
        let other = table.spawn(|table| {
            assert_eq!(mark(table, 5, Mark::Freed, 1).windows, 1);
        });
        assert_eq!(mark(&table, 6, Mark::Freed, 2).windows, 1);
        other.join().unwrap();
        assert_eq!(allocate(&table, 4, 1, 3).windows, 1, "page 5");
        assert_eq!(allocate(&table, 6, 1, 4).windows, 1, "page 6");
        for (context, pfn) in [(1, 5), (2, 6)] {
            let window = wake(&table, pfn, WRITEBACK, context).expect("it is open");
            assert_eq!(marker(&window, Mark::Freed), Some(context as u32));
            assert_eq!(marker(&window, Mark::Allocated), Some(context as u32 + 2));
        }
    });
}
