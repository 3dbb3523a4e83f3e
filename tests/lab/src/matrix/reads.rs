// SPDX-License-Identifier: GPL-2.0

//! The fixes for the end of a read, side by side: the second table.
//!
//! Here a loss of the live read race is what is looked for. A kernel may lose the wake-up, which then comes
//! to a page that is free or somebody else's, and nobody may be hurt by it: each is a race of its own.

use super::lane::{programs, Lane};
use super::price;
use super::row::{raced, Cell, Mark, Row};
use crate::bench;
use crate::console::chief_splat;
use crate::debugfs;
use crate::guest::{Boot, Guest};
use crate::ktap::{Status, Test};
use crate::table::table;
use anyhow::Result;
use std::collections::BTreeMap;

/// The kernels, in the order of the table.
pub const ROWS: &[(&str, &str)] = &[
    (
        "stock",
        "as it ships: the end of a read has no reference, its waiters trust one wake-up",
    ),
    (
        "read-wait-loop",
        "F1: waiters for the folio lock look again when woken",
    ),
    (
        "read-hold-ref",
        "F2: a reference around clear and wake at the end of a read",
    ),
    (
        "read-ref-if-waiters",
        "F3: the same if PG_waiters is set, in one cmpxchg",
    ),
    (
        "read-waker-looks",
        "F4: the waker leaves shared waiters whose bit is set",
    ),
    (
        "read-clear-under-lock",
        "F5: the clear under the queue's lock, if PG_waiters is set",
    ),
    (
        "readahead-holds-ref",
        "F6: readahead's reference lives until the end of the read (mpage, ext4, iomap)",
    ),
    (
        "read-lock",
        "F7: filemap_read_folio() takes the lock to wait",
    ),
    (
        "read-waiter-keeps-ref",
        "a reader keeps its reference while it waits",
    ),
];

/// A script of tests/guest, and what is lost with it.
pub const RACES: &[(&str, &str)] = &[
    ("read-race", "a wake-up comes to a page that is free"),
    (
        "read-race-retake",
        "a wake-up comes to a page that was freed, mostly to its next life",
    ),
    (EIO, "read() says EIO for a healthy file"),
];

/// The race that is lost by a program, and not by the kernel.
const EIO: &str = "read-eio";

/// The cases of ww_driver.c with reads=1. Of files, one page.
pub const PRICES: &[(&str, &str)] = &[
    ("end_read", "end"),
    ("end_read_wake", "end, stale PG_waiters"),
    ("end_read_waiter", "end, a task waits"),
    ("unlock", "unlock"),
    ("read_16_mb", "page read"),
    ("read_random_4_mb", "page read at random"),
];
/// Those of them whose locked instructions are counted.
const LOCKED: usize = 4;

/// Runs all races on the row's kernel, in one guest.
pub fn measure(lane: &Lane, row: &mut Row) -> Result<()> {
    let races = RACES.iter().map(|(race, _)| *race);
    let there = |race: &&str| lane.lab.guest_script(race).exists();
    let races: Vec<&str> = races.filter(there).collect();
    let scripts = [&races[..], &["lib", "race", "run"]].concat();
    let whole = |row: &Row| row.cells.values().all(|cell| cell.mark != Mark::Unknown);
    let goes_in = programs(lane.lab, &row.key)?;
    let empty = row.clone();
    *row = lane.kept("reads", &empty.key, &goes_in, &scripts, whole, || {
        let mut row = empty.clone();
        println!("{}: {}", row.key, row.about);
        let name = format!("reads-{}", row.key);
        let mut boot = Boot::of_scripts(lane.lab, &row.key, &name, &races)?;
        boot.env.push(("WW_DETECT".to_string(), "1".to_string()));
        boot.append.push("oops=panic".to_string());
        let guest = lane.boot(lane.accel, &boot)?;
        row.seconds = guest.result.seconds;
        for race in races {
            row.cells.insert(race.to_string(), cell(&guest, race));
        }
        Ok(row)
    })?;
    Ok(())
}

/// What a guest has to say about a race. Wakes on pages that were freed while they were delayed are counted
/// whether wakewatch detects them or not.
fn cell(guest: &Guest, race: &str) -> Cell {
    let section = guest.console.section(race);
    let splats = section.map(|section| guest.console.findings(section).splats);
    let splat = splats.as_deref().and_then(chief_splat);
    let test = guest.tests.iter().find(|test| test.name == race);
    let stats = guest.result.stats.get(race);
    let stat = |name: &str| {
        stats
            .and_then(|stats| stats.get(name))
            .copied()
            .unwrap_or(0)
    };
    let (mark, evidence) = match (splat, test) {
        (Some(splat), _) => (Mark::Lost, splat.summary()),
        (None, Some(test)) if race == EIO => eio(test),
        (None, Some(test)) if test.status != Status::Pass => (Mark::Unknown, test.name.clone()),
        (None, Some(_)) => late(stat("delay_freed"), stat("delays")),
        (None, None) => (
            Mark::Unknown,
            format!("{}: {}", guest.result.outcome, guest.result.why),
        ),
    };
    Cell {
        mark,
        evidence,
        verdicts: debugfs::findings(stat),
        woken: stat("victims"),
        log: guest.dir.join("console.log"),
    }
}

/// The script says how many calls have failed, and is content if one has.
fn eio(test: &Test) -> (Mark, String) {
    let calls = test.children.iter().find_map(|child| {
        let rest = child.name.strip_prefix("pread() said EIO")?;
        let (_, numbers) = rest.split_once('(')?;
        let mut words = numbers.split_whitespace();
        let failed: u64 = words.next()?.parse().ok()?;
        let of: u64 = words.nth(1)?.trim_end_matches(',').parse().ok()?;
        Some((failed, of))
    });
    // The pages must all be read well later, or this was no healthy file.
    let healthy = test.children.last();
    match (calls, healthy.map(|child| child.status)) {
        (Some((failed, of)), Some(Status::Pass)) if of > 0 => {
            let evidence = format!("{failed} of {of} reads of a healthy file said EIO");
            match failed {
                0 => (Mark::Holds, evidence),
                _ => (Mark::Lost, evidence),
            }
        }
        _ => (Mark::Unknown, test.name.clone()),
    }
}

/// Of so many wake-ups that were delayed, so many came to a page that was freed meanwhile.
fn late(freed: u64, delayed: u64) -> (Mark, String) {
    match (freed, delayed) {
        // Without a wake-up there is nothing to be late.
        (_, 0) => (Mark::Unknown, "no wake-up was delayed".to_string()),
        (0, _) => (
            Mark::Holds,
            format!("none of {delayed} delayed wake-ups came to a page that was freed meanwhile"),
        ),
        _ => (
            Mark::Lost,
            format!(
                "{freed} of {delayed} delayed wake-ups came to a page that was freed meanwhile"
            ),
        ),
    }
}

/// What wakewatch said of the races, with numbers.
fn said(row: &Row) -> String {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for (verdict, n) in row.cells.values().flat_map(|cell| &cell.verdicts) {
        *all.entry(verdict.clone()).or_default() += n;
    }
    let woken = row.cells.values().map(|cell| cell.woken).sum();
    match &row.error {
        Some(_) => "not built".to_string(),
        None => in_words(&all, woken),
    }
}

/// "reused 3, 2 tasks woken"
fn in_words(verdicts: &BTreeMap<String, u64>, woken: u64) -> String {
    let told = debugfs::by_verdict(verdicts);
    match (told.is_empty(), woken) {
        (true, _) => "nothing".to_string(),
        (false, 1) => format!("{told}, 1 task woken"),
        (false, _) => format!("{told}, {woken} tasks woken"),
    }
}

/// What the model loses of the races, with the shortest way there. Where nobody is hurt it is one thing to it.
pub fn modelled(key: &str) -> BTreeMap<String, Vec<String>> {
    let Some(found) = wakewatch_model::reads::lost(key) else {
        return BTreeMap::new();
    };
    println!("{key}: the model has {} states", found.states);
    let of = |race| if race == EIO { "read-eio" } else { "late-wake" };
    RACES
        .iter()
        .filter_map(|(race, _)| Some((race.to_string(), found.lost.get(of(*race))?.clone())))
        .collect()
}

/// Locked instructions of a case: with nobody on the way they are the same each time.
fn locked(row: &Row, case: &str) -> Option<u64> {
    let price = row.price.as_ref()?;
    Some(price.get(&format!("locked_{case}"))?.first()?.median)
}

/// Instructions of a case, and the locked ones among them.
pub fn priced(row: &Row, n: usize) -> Option<String> {
    let (case, _) = PRICES.get(n)?;
    let counted = bench::rounds_text(&price::instructions(row, case)?);
    Some(match locked(row, case).filter(|_| n < LOCKED) {
        Some(locked) => format!("{counted} ({locked})"),
        None => counted,
    })
}

/// Both tables, readable at 100 columns.
pub fn text(rows: &[Row]) -> String {
    let races = raced(rows, RACES, said);
    let mut out = format!("{races}\n\n");
    for (race, what) in RACES {
        out.push_str(&format!("- `{race}`: {what}\n"));
    }
    out.push_str("\nMeasured; behind a `/` what the model says, where it says otherwise.\n\n");
    for row in rows {
        out.push_str(&format!("- **{}**: {}\n", row.key, row.about));
        if let Some(error) = &row.error {
            out.push_str(&format!("  - {error}\n"));
        }
        for (race, _) in RACES {
            if let Some(cell) = row.cells.get(*race) {
                let sign = cell.mark.sign();
                let said = in_words(&cell.verdicts, cell.woken);
                out.push_str(&format!("  - {race} {sign}: {}; {said}\n", cell.evidence));
            }
        }
    }
    let mut header = vec!["kernel"];
    header.extend(PRICES.iter().map(|(_, what)| *what));
    let mut prices = table(header);
    for row in rows.iter().filter(|row| row.price.is_some()) {
        let mut cells = vec![row.key.clone()];
        cells.extend((0..PRICES.len()).map(|n| priced(row, n).unwrap_or("?".to_string())));
        prices.add_row(cells);
    }
    out.push_str(&format!(
        "\n{prices}\n\nInstructions of folio_end_read() and folio_unlock(), and in brackets how many of them are locked;\n\
         of a page of 16 MB read cold with readahead, and of 4 MB page by page, where the reader waits for each.\n\
         Medians of two rounds, both where they differ.\n"
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_race_without_a_delay_says_nothing() {
        assert_eq!(late(0, 0).0, Mark::Unknown);
        assert_eq!(late(0, 7).0, Mark::Holds);
        assert_eq!(late(3, 7).0, Mark::Lost);
    }

    #[test]
    fn a_script_says_how_many_reads_have_failed() {
        let said = |first: &str, second| {
            let mut test = Test::new("read-eio", Status::Fail);
            test.children = vec![
                Test::new(first, Status::Fail),
                Test::new("all of these pages are read well later", second),
            ];
            eio(&test).0
        };
        let some = "pread() said EIO (10 of 57, pid 9)";
        let none = "pread() said EIO: no (0 of 400, pid 9)";
        assert_eq!(said(some, Status::Pass), Mark::Lost);
        assert_eq!(said(none, Status::Pass), Mark::Holds);
        assert_eq!(said(some, Status::Fail), Mark::Unknown);
        assert_eq!(said("pread() said EIO ()", Status::Pass), Mark::Unknown);
    }

    #[test]
    fn the_model_knows_every_kernel() {
        for (key, _) in ROWS {
            assert!(
                wakewatch_model::reads::kernels()
                    .iter()
                    .any(|kernel| kernel.key == *key),
                "{key}"
            );
        }
        let lost: Vec<String> = modelled("read-wait-loop").into_keys().collect();
        assert_eq!(lost, ["read-race", "read-race-retake"]);
        assert_eq!(modelled("stock").len(), RACES.len());
        assert!(modelled("read-ref-if-waiters").is_empty());
    }

    #[test]
    fn the_table_has_what_was_measured() {
        let mut row = Row::new("read-lock", "about it");
        let (mark, evidence) = late(3, 7);
        row.cells.insert(
            "read-race".to_string(),
            Cell {
                mark,
                evidence,
                verdicts: BTreeMap::from([("zero-ref".to_string(), 2), ("reused".to_string(), 1)]),
                woken: 1,
                log: "log".into(),
            },
        );
        let text = text(&[row]);
        for want in [
            "LOST",
            "reused 1, zero-ref 2, 1 task woken |",
            "3 of 7 delayed",
            "meanwhile; reused 1, zero-ref 2, 1 task woken",
        ] {
            assert!(text.contains(want), "{want}: {text}");
        }
    }
}
