// SPDX-License-Identifier: GPL-2.0

//! The window table against a model that remembers everything: one thread, few pages, contexts and
//! places, so that they collide. `loom_models` has what several threads can do.

use crate::detect::window::{Bit, Bucket, Event, Fate, Mark, Opened, Table, Trace, Window};
use proptest::prelude::*;
use std::collections::HashMap;

const BITS: [Bit; 3] = [Bit::Writeback, Bit::Locked, Bit::Private2];
const MARKS: [Mark; 3] = [Mark::Freed, Mark::Allocated, Mark::Started];

type Windows<const N: usize> = Table<Box<[Bucket; N]>, N>;

fn table<const N: usize>() -> Windows<N> {
    let buckets: Vec<Bucket> = (0..N).map(|_| Bucket::new()).collect();
    Table::new(buckets.try_into().ok().expect("as many"))
}

/// All that the table knows of the window that it closes.
fn wake<const N: usize>(table: &Windows<N>, pfn: u64, bit: Bit, context: u64) -> Option<Window> {
    table.wake(pfn, bit, context).map(|closed| {
        let window = closed.window();
        for mark in MARKS {
            assert_eq!(closed.has(mark), window.mark(mark) != Trace::None);
        }
        window
    })
}

/// An event that its number tells from all others, in every field.
fn event(number: u64) -> Event {
    Event {
        when_ns: number,
        pid: number as i32,
        cpu: number as u16,
        context: (number % 4) as u16,
        comm: [number as u8; 16],
        stack: core::array::from_fn(|depth| number as usize + depth),
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open(u64, usize, u64),
    None(u64),
    Mark(u64, usize),
    MarkRange(u64, u32),
    Wake(u64, usize, u64),
    Look(u64, usize, u64),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pfn = 0..6u64;
    let bit = 0..BITS.len();
    let context = 1..4u64;
    let step = prop_oneof![
        4 => (pfn.clone(), bit.clone(), context.clone()).prop_map(|(p, b, c)| Step::Open(p, b, c)),
        2 => context.clone().prop_map(Step::None),
        4 => (pfn.clone(), 0..MARKS.len()).prop_map(|(p, m)| Step::Mark(p, m)),
        1 => (pfn.clone(), 1..3u32).prop_map(|(p, o)| Step::MarkRange(p >> o << o, o)),
        3 => (pfn.clone(), bit.clone(), context.clone()).prop_map(|(p, b, c)| Step::Wake(p, b, c)),
        1 => (pfn, bit, context).prop_map(|(p, b, c)| Step::Look(p, b, c)),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..80)
}

type Key = (u64, usize, u64);

/// What must be found: all windows that are open, or may be.
#[derive(Default)]
struct Model {
    open: HashMap<Key, (u64, [Trace; 3])>,
}

impl Model {
    fn mark(&mut self, pfn: u64, mark: usize, number: u64) -> u32 {
        let mut marked = 0;
        for (key, (_, marks)) in &mut self.open {
            let fits = mark == 0 || marks[0] != Trace::None;
            if key.0 == pfn && fits && marks[mark] == Trace::None {
                marks[mark] = Trace::Known(event(number));
                marked += 1;
            }
        }
        marked
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// With room for all, the table finds what the model finds; without, it finds that or nothing.
    #[test]
    fn as_the_model_has_it(steps in steps(), roomy: bool) {
        // Pages are few and hashed: one bucket is too small for them, so is sometimes one of many.
        if roomy {
            compare::<1024>(steps)?;
        } else {
            compare::<1>(steps)?;
        }
    }
}

/// Keys are pages' addresses divided by their size: more bits than a window's word has room for.
const BASE: u64 = 0xffff_ea00_0000_0000 / 64;

fn compare<const N: usize>(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let table = table::<N>();
    let mut model = Model::default();
    // Something had to go: what is missing from now on may be that.
    let mut lost = false;
    for (number, step) in (1u64..).zip(steps) {
        match step {
            Step::Open(pfn, bit, context) => {
                let outcome = table.open(
                    BASE + pfn,
                    BITS[bit],
                    context,
                    Opened {
                        when_ns: number,
                        caller: number,
                        epoch: number,
                        slot: number as u32,
                        row: number as u8,
                        function: bit as u8,
                        cpu: context as u16,
                    },
                );
                prop_assert!(outcome.fate != Fate::Dropped, "nobody else is there");
                lost |= outcome.fate == Fate::Overwrote;
                // A context has one window at a time.
                model.open.retain(|key, _| key.2 != context);
                model
                    .open
                    .insert((pfn, bit, context), (number, [Trace::None; 3]));
            }
            Step::None(context) => {
                let retired = table.none(context);
                let open = model.open.len();
                model.open.retain(|key, _| key.2 != context);
                let had = model.open.len() < open;
                prop_assert!(retired == had || lost && !retired);
            }
            Step::Mark(pfn, mark) => {
                let marked = table.mark(BASE + pfn, MARKS[mark], || event(number));
                let wanted = model.mark(pfn, mark, number);
                prop_assert_eq!((marked.unknown, marked.dropped), (0, 0));
                prop_assert!(marked.windows == wanted || lost && marked.windows < wanted);
            }
            Step::MarkRange(pfn, order) => {
                // One of the pages that are freed, if any is: which one is not said.
                let marked = table.mark_range(BASE + pfn, order, Mark::Allocated, || event(number));
                let mut found = 0;
                for page in pfn..pfn + (1 << order) {
                    for ((p, bit, context), (_, marks)) in &mut model.open {
                        let seen = table.look(BASE + *p, BITS[*bit], *context);
                        let now = seen.map_or(Trace::None, |w| w.mark(Mark::Allocated));
                        if *p == page && now == Trace::Known(event(number)) {
                            prop_assert!(marks[0] != Trace::None, "it was not freed");
                            marks[1] = now;
                            found += 1;
                        }
                    }
                }
                prop_assert_eq!(marked.windows, found);
            }
            Step::Wake(pfn, bit, context) | Step::Look(pfn, bit, context) => {
                let key = (pfn, bit, context);
                let (found, wanted) = if matches!(step, Step::Wake(..)) {
                    (
                        wake(&table, BASE + pfn, BITS[bit], context),
                        model.open.remove(&key),
                    )
                } else {
                    (
                        table.look(BASE + pfn, BITS[bit], context),
                        model.open.get(&key).copied(),
                    )
                };
                match (found, wanted) {
                    (None, None) => {}
                    (None, Some(_)) => prop_assert!(lost, "a window is missing"),
                    (Some(_), None) => prop_assert!(false, "a window that nobody has opened"),
                    (Some(Window { opened, marks, .. }), Some((when, wanted))) => {
                        prop_assert_eq!(
                            (opened.when_ns, opened.caller, opened.epoch),
                            (when, when, when)
                        );
                        prop_assert_eq!(
                            (opened.slot, opened.row, opened.cpu),
                            (when as u32, when as u8, context as u16)
                        );
                        prop_assert_eq!(marks, wanted);
                    }
                }
            }
            Step::Clear => {
                table.clear();
                model.open.clear();
            }
        }
        let (open, _) = table.open_windows();
        prop_assert!(open == model.open.len() || lost && open < model.open.len());
    }
    Ok(())
}

/// Writeback of a page that was never freed ends twice: no reuse, and it is said.
#[test]
fn a_second_writeback_is_no_reuse() {
    let table = table::<4>();
    let opened = |when_ns| Opened {
        when_ns,
        ..Opened::default()
    };
    table.open(7, Bit::Writeback, 1, opened(10));
    table.open(7, Bit::Writeback, 2, opened(20));
    let first = wake(&table, 7, Bit::Writeback, 1).expect("open");
    assert!(first.superseded);
    assert_eq!(first.mark(Mark::Freed), Trace::None);
    assert!(!wake(&table, 7, Bit::Writeback, 2).expect("open").superseded);
}

/// A window whose page is in its second life, and has ended that one's writeback too.
#[test]
fn a_superseded_window_keeps_its_marks() {
    let table = table::<4>();
    let opened = |when_ns| Opened {
        when_ns,
        ..Opened::default()
    };
    table.open(7, Bit::Writeback, 1, opened(10));
    table.mark(7, Mark::Freed, || event(11));
    table.mark(7, Mark::Allocated, || event(12));
    table.mark(7, Mark::Started, || event(13));
    table.open(7, Bit::Writeback, 2, opened(20));
    let second = wake(&table, 7, Bit::Writeback, 2).expect("open");
    assert_eq!(second.marks, [Trace::None; 3]);
    let first = wake(&table, 7, Bit::Writeback, 1).expect("open");
    assert_eq!(
        first.marks,
        [11, 12, 13].map(|number| Trace::Known(event(number)))
    );
}

/// A page is freed alone and allocated as one of a block.
#[test]
fn an_allocated_block_is_searched_for_freed_pages() {
    let table = table::<4>();
    let first = BASE + 512;
    for page in [first - 1, first + 300, first + 512] {
        table.open(page, Bit::Writeback, page, Opened::default());
        assert_eq!(table.mark(page, Mark::Freed, || event(1)).windows, 1);
    }
    assert!(table.may_have_freed(first, 9));
    let marked = table.mark_range(first, 9, Mark::Allocated, || event(2));
    assert_eq!((marked.windows, marked.unknown, marked.dropped), (1, 0, 0));
    assert!(!table.may_have_freed(first + 1024, 9));
    for (page, allocated) in [
        (first - 1, false),
        (first + 300, true),
        (first + 512, false),
    ] {
        let window = wake(&table, page, Bit::Writeback, page).expect("open");
        assert_eq!(window.mark(Mark::Allocated) != Trace::None, allocated);
    }
}

/// Two pages that were freed alone are allocated as one block: each has a window of its own, with its own wake.
#[test]
fn all_freed_pages_of_an_allocated_block_are_marked() {
    let table = table::<4>();
    for page in [BASE, BASE + 1] {
        table.open(page, Bit::Writeback, page, Opened::default());
        assert_eq!(table.mark(page, Mark::Freed, || event(1)).windows, 1);
    }
    let marked = table.mark_range(BASE, 1, Mark::Allocated, || event(2));
    assert_eq!((marked.windows, marked.unknown, marked.dropped), (2, 0, 0));
    for page in [BASE, BASE + 1] {
        let window = wake(&table, page, Bit::Writeback, page).expect("open");
        assert_eq!(window.mark(Mark::Allocated), Trace::Known(event(2)));
    }
}

/// Generations come again after 2^18, and a place's last note may be of any of them: what is marked has its
/// name however many windows there have been since.
#[test]
fn a_mark_keeps_its_name_however_old_the_last_note() {
    let table = table::<1>();
    let mut number = 0;
    for between in [0, 1, 1 << 17, (1 << 17) + 1, 1 << 18] {
        for _ in 0..between {
            table.open(7, Bit::Writeback, 1, Opened::default());
            table.wake(7, Bit::Writeback, 1).expect("open");
        }
        number += 1;
        table.open(7, Bit::Writeback, 1, Opened::default());
        let marked = table.mark(7, Mark::Freed, || event(number));
        assert_eq!(marked.unknown, 0, "{between} windows after the last note");
        let window = wake(&table, 7, Bit::Writeback, 1).expect("open");
        assert_eq!(window.mark(Mark::Freed), Trace::Known(event(number)));
    }
}
