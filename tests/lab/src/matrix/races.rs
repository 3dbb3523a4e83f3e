// SPDX-License-Identifier: GPL-2.0

//! The first table: the end of writeback. Its kernels, its races, how they are run and what they say.

use super::about;
use super::lane::{programs, Lane};
use super::row::{raced, Cell, Mark, Row};
use crate::console::{chief_splat, count_verdicts};
use crate::debugfs;
use crate::env::Lab;
use crate::guest::{Boot, Guest};
use crate::ktap::{Status, Test};
use crate::live::without_live;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The kernels, in the order of the table, and what is special about each.
pub const ROWS: &[(&str, &str)] = &[
    (
        "broken",
        "no reference, the clear before the look for waiters, no loop",
    ),
    (
        "get-if-waiters",
        "a reference under the i_pages lock, if somebody waits",
    ),
    (
        "get-around",
        "a reference around clear and wake: 073861ed77b6",
    ),
    (
        "wait-loop",
        "the waiter loops, the waker does not look at the folio",
    ),
    ("wait-loop-waiter", "only the waiter's half: c2407cf7d22d"),
    ("wait-loop-waker", "only the waker's half"),
    (
        "writeback-holds-ref",
        "PG_writeback has a reference of its own",
    ),
    (
        "clear-under-lock-sketch",
        "the clear under the queue's lock, last",
    ),
    (
        "clear-under-lock",
        "the clear under the queue's lock, first",
    ),
    (
        "warn-zero-count-plain",
        "stock, and an assertion on the refcount",
    ),
    (
        "warn-zero-count",
        "stock, and an assertion on refcount and flags",
    ),
    (
        "warn-unlocked-start",
        "stock, and an assertion on the folio lock",
    ),
    (
        "stock",
        "as it ships: a reference, clear and look in one XOR, a loop",
    ),
    ("stock-no-ref", "as it ships, without its reference"),
    (
        "lost-wake",
        "nobody's proposal: looks for waiters before the clear",
    ),
];

/// The races: a script of tests/guest, and what is lost with it.
pub const RACES: &[(&str, &str)] = &[
    (
        "order0",
        "a waiter of the page's next life is woken, its writeback goes on",
    ),
    ("tail", "the waker looks at the flags of a tail page"),
    (
        "own",
        "a waiter is woken before its own writeback has ended",
    ),
    ("later", "a waiter is woken by the writeback before its own"),
    ("waits", "a wake-up is lost"),
    (
        "dma",
        "a truncation drops a page that the device has yet to read",
    ),
];

/// The kernel that shows that a lost wake-up is seen.
pub const CONTROL: &str = "lost-wake";

/// The races of a row, unless they were run before.
pub fn measure(lane: &Lane, row: &mut Row) -> Result<()> {
    let races: Vec<&str> = RACES.iter().map(|(race, _)| *race).collect();
    let scripts = [&races[..], &["lib", "race", "run"]].concat();
    let whole = |row: &Row| row.cells.values().all(|cell| cell.mark != Mark::Unknown);
    let goes_in = programs(lane.lab, &row.key)?;
    *row = lane.kept("races", &row.key, &goes_in, &scripts, whole, || {
        println!("{}: {}", row.key, row.about);
        run(lane.lab, &row.key, &mut |boot| lane.boot(lane.accel, boot))
    })?;
    Ok(())
}

/// Runs all races on a kernel, in as many guests as it takes.
pub fn run(lab: &Lab, key: &str, start: &mut dyn FnMut(&Boot) -> Result<Guest>) -> Result<Row> {
    let mut row = Row::new(key, about(key)?);
    let mut left: Vec<&str> = RACES.iter().map(|(race, _)| *race).collect();
    // There is only one thing to be seen there, and all else hangs of it.
    left.retain(|race| key != CONTROL || *race == "waits");
    // Of those that are alone in their guest there is no second try.
    let mut guests = 0;
    while !left.is_empty() && guests < RACES.len() {
        guests += 1;
        let name = format!("matrix-{key}-{guests}");
        // A guest of one script has no subtests: run.sh always, so that there is one way to read it.
        let mut boot = Boot::of_scripts(lab, key, &name, &left)?;
        let mut argv = vec![lab.guest_script("run").display().to_string()];
        argv.extend(left.iter().map(|race| race.to_string()));
        boot.argv = argv;
        boot.env.push(("WW_DETECT".to_string(), "1".to_string()));
        boot.append.push("oops=panic".to_string());
        let guest = start(&boot)?;
        row.seconds += guest.result.seconds;
        let before = left.len();
        left.retain(|race| match cell(&guest, race) {
            Some(cell) => {
                row.cells.insert(race.to_string(), cell);
                false
            }
            None => true,
        });
        if left.len() == before {
            break;
        }
    }
    for race in left {
        row.cells.insert(
            race.to_string(),
            Cell {
                mark: Mark::Unknown,
                evidence: "no guest came to it".to_string(),
                verdicts: BTreeMap::new(),
                woken: 0,
                log: PathBuf::new(),
            },
        );
    }
    Ok(row)
}

/// What a guest has to say about a race; nothing if it ended before.
fn cell(guest: &Guest, race: &str) -> Option<Cell> {
    let console = &guest.console;
    let section = console.section(race)?;
    let all = console.findings(section);
    let left = all.clone().others();
    let splat = chief_splat(&left.splats);
    let test = guest.tests.iter().find(|test| test.name == race);
    let (mark, evidence) = match (test, splat) {
        // What the kernel itself says outweighs all else.
        (_, Some(splat)) => (Mark::Lost, splat.summary()),
        (Some(test), None) => match test.status {
            Status::Pass => (Mark::Holds, "survived".to_string()),
            _ => failed(race, test),
        },
        (None, None) => (
            Mark::Unknown,
            format!("{}: {}", guest.result.outcome, guest.result.why),
        ),
    };
    // Counters where the guest lived to save them: reports are rate-limited.
    let reports = count_verdicts(&left.reports);
    let counted = guest.result.stats.get(race);
    let counted =
        counted.map(|stats| debugfs::findings(|name| stats.get(name).copied().unwrap_or(0)));
    let counted = counted.map(|counted| without_live(counted, &all));
    let woken = guest.result.stats.get(race).and_then(|s| s.get("victims"));
    Some(Cell {
        mark,
        evidence,
        verdicts: counted.unwrap_or(reports),
        woken: woken.copied().unwrap_or(0),
        log: guest.dir.join("console.log"),
    })
}

/// A script that failed: `ww-repro` has seen what it looks for, or could not look.
fn failed(race: &str, test: &Test) -> (Mark, String) {
    let leaf = test
        .children
        .iter()
        .find(|child| child.status == Status::Fail)
        .unwrap_or(test);
    // EXIT_SEEN of tests/repro/src/main.rs, as race.sh words it.
    if leaf.name.ends_with("ww-repro ended with status 6") {
        let what = RACES.iter().find(|(name, _)| *name == race);
        let what = what.map_or("", |(_, what)| *what);
        (Mark::Lost, format!("seen by ww-repro: {what}"))
    } else {
        (Mark::Unknown, leaf.name.clone())
    }
}

/// What the model loses, of a mapping in the page cache, as that of the races is.
pub fn modelled(key: &str) -> BTreeMap<String, Vec<String>> {
    let proposals = wakewatch_model::proposals();
    let Some(proposal) = proposals.iter().find(|proposal| proposal.key == key) else {
        return BTreeMap::new();
    };
    let found = wakewatch_model::check(proposal, true);
    println!("{key}: the model has {} states", found.states);
    let lost = found.lost.into_iter();
    // No proposal is about the end of a read.
    lost.filter(|(race, _)| *race != "late-unlock")
        .map(|(race, steps)| (race.to_string(), steps))
        .collect()
}

/// The table and what is behind each loss, readable at 100 columns.
pub fn text(rows: &[Row]) -> String {
    let table = raced(rows, RACES, Row::said);
    let mut out = format!(
        "{table}\n\nMeasured; behind a `/` what the model says, where it says otherwise.\n\n"
    );
    for (race, what) in RACES {
        out.push_str(&format!("- `{race}`: {what}\n"));
    }
    out.push('\n');
    for row in rows {
        out.push_str(&format!("- **{}**: {}\n", row.key, row.about));
        if let Some(error) = &row.error {
            out.push_str(&format!("  - {error}\n"));
        }
        for (race, _) in RACES {
            if let Some(cell) = row.cells.get(*race).filter(|cell| cell.mark != Mark::Holds) {
                let sign = cell.mark.sign();
                out.push_str(&format!("  - {race} {sign}: {}\n", cell.evidence));
            }
            for (n, step) in row.model.get(*race).into_iter().flatten().enumerate() {
                if n == 0 {
                    out.push_str(&format!("  - {race}, the shortest way of the model:\n"));
                }
                out.push_str(&format!("    {}. {step}\n", n + 1));
            }
        }
    }
    out
}
