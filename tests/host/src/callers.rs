// SPDX-License-Identifier: GPL-2.0

//! Call sites and what is counted of them.

use crate::detect::callers::{Function, Row, Sites, Sum, LENGTHS, SITES};
use proptest::prelude::*;

/// A kernel text address.
const TEXT: u64 = 0xffff_ffff_8100_0000;

fn new_row() -> Row {
    // As per-CPU memory is.
    // SAFETY: Zeroes are a new row.
    unsafe { std::mem::zeroed() }
}

#[test]
fn a_call_site_keeps_its_row() {
    let sites = Sites::new();
    let first = sites.row(Function::EndWriteback, TEXT);
    assert_eq!(sites.row(Function::EndWriteback, TEXT), first);
    let other = sites.row(Function::EndRead, TEXT);
    assert_ne!(other, first, "another function from the same place");
    assert_eq!(
        sites.site(first.expect("room")),
        Some((Function::EndWriteback, TEXT))
    );
    assert_eq!(
        sites.site(other.expect("room")),
        Some((Function::EndRead, TEXT))
    );
}

#[test]
fn a_full_table_says_so() {
    let sites = Sites::new();
    let rows: Vec<_> = (0..2 * SITES as u64)
        .map(|n| sites.row(Function::Unlock, TEXT + 16 * n))
        .collect();
    assert!(rows.iter().any(Option::is_none));
    let mut found: Vec<usize> = rows.iter().flatten().copied().collect();
    assert!(found.len() > SITES / 2, "only {} found a row", found.len());
    found.sort_unstable();
    found.dedup();
    assert_eq!(
        found.len(),
        rows.iter().flatten().count(),
        "two share a row"
    );
}

/// A knob once tried does not fill them for good.
#[test]
fn forgotten_call_sites_make_room() {
    let sites = Sites::new();
    let fill = |from: u64| {
        (0..1000)
            .filter(|n| sites.row(Function::Unlock, TEXT + from + 16 * n).is_some())
            .count()
    };
    assert_eq!(fill(0), SITES);
    assert_eq!(sites.row(Function::EndRead, TEXT), None);
    sites.close();
    // Not before the rows are empty.
    assert_eq!(sites.row(Function::EndRead, TEXT), None);
    assert_eq!(sites.known(Function::EndRead, TEXT), None);
    assert!((0..SITES).all(|row| sites.site(row).is_none()));
    sites.open();
    assert!(sites.row(Function::EndRead, TEXT).is_some());
    assert_eq!(fill(1 << 20), SITES - 1);
}

proptest! {
    /// Against plain arithmetic, over the rows of two CPUs.
#[test]
    fn sums(calls in prop::collection::vec((any::<bool>(), -3..4i32), 1..50),
            lengths in prop::collection::vec((any::<bool>(), any::<u64>()), 0..50)) {
        let rows = [new_row(), new_row()];
        for &(cpu, spare) in &calls {
            rows[usize::from(cpu)].audit(spare);
        }
        for &(cpu, ns) in &lengths {
            rows[usize::from(cpu)].length(ns);
        }
        let sum = Sum::of(rows.iter());
        prop_assert_eq!(sum.calls, calls.len() as u64);
        prop_assert_eq!(sum.none, calls.iter().filter(|(_, spare)| *spare <= 0).count() as u64);
        prop_assert_eq!(sum.verdict() == "held", calls.iter().all(|(_, spare)| *spare > 0));
        prop_assert_eq!(Some(sum.least), calls.iter().map(|(_, spare)| *spare).min());
        prop_assert_eq!(Some(sum.most), calls.iter().map(|(_, spare)| *spare).max());
        prop_assert_eq!(sum.windows(), lengths.len() as u64);
        for (log, &count) in sum.lengths.iter().enumerate() {
            let there = |ns: u64| {
                let of = (64 - ns.leading_zeros()).max(1) as usize - 1;
                of.min(LENGTHS - 1) == log
            };
            prop_assert_eq!(count, lengths.iter().filter(|(_, ns)| there(*ns)).count() as u64);
        }
        rows.iter().for_each(Row::reset);
        let sum = Sum::of(rows.iter());
        prop_assert_eq!((sum.calls, sum.none, sum.windows()), (0, 0, 0));
    }
}
