// SPDX-License-Identifier: GPL-2.0

//! What each kernel costs: instructions of an end of writeback, counted as the bench does.

use super::{lane::Lane, row::Row};
use crate::bench::{self, Spread};
use crate::guest::Boot;
use crate::kvm::Accel;
use crate::outcome::Outcome;
use crate::table::table;
use anyhow::{bail, Context, Result};
use std::collections::BTreeMap;

/// The cases of ww_driver.c that have a price here, and how they are called. Of the write, 16 MB of it,
/// one page.
pub const PRICES: &[(&str, &str)] = &[
    ("start_writeback", "start"),
    ("end_writeback", "end"),
    ("end_writeback_wake", "end, stale PG_waiters"),
    ("end_writeback_waiter", "end, a task waits"),
    ("write_16_mb", "page written"),
];
/// Two readings of the counter with nothing between them.
const EMPTY: &str = "nothing";

/// A spread for each round, by case; in ticks of the counter, those of its reading included.
pub type Price = BTreeMap<String, Vec<Spread>>;

/// Counts the instructions of a kernel with a script of tests/guest, or takes what was counted before.
pub fn measure(lane: &Lane, key: &str, script: &str) -> Result<Price> {
    let name = format!("WW_BENCH_{}", key.replace('-', "_"));
    let modules = std::env::var(&name).with_context(|| {
        format!("{name} is not set: start the matrix through scripts/matrix.sh")
    })?;
    let goes_in = [modules.clone()];
    lane.kept(
        script,
        key,
        &goes_in,
        &["lib", script],
        |_| true,
        || {
            let name = format!("{script}-{key}");
            let mut boot = Boot::of_scripts(lane.lab, key, &name, &[script])?;
            boot.machine = bench::COUNTING.map(str::to_string).to_vec();
            boot.env.push(("WW_BENCH".to_string(), modules));
            let guest = lane.boot(Accel::Tcg, &boot)?;
            if guest.result.outcome != Outcome::Pass {
                let log = guest.dir.join("console.log");
                bail!("{name}: {}, {}", guest.result.why, log.display());
            }
            bench::unhooked(guest.console.results()).with_context(|| name.clone())
        },
    )
}

/// Instructions of a case in each round, without those of the reading of the counter.
pub fn instructions(row: &Row, case: &str) -> Option<Vec<u64>> {
    let price = row.price.as_ref()?;
    let parts = pages(case).unwrap_or(1);
    let empty = price.get(EMPTY)?.first()?.median;
    let rounds = price.get(case)?.iter();
    Some(
        rounds
            .map(|spread| (spread.median.saturating_sub(empty) + parts / 2) / parts)
            .collect(),
    )
}

/// Of a case that is a whole file, as `write_16_mb`.
fn pages(case: &str) -> Option<u64> {
    let (_, mb) = case.strip_suffix("_mb")?.rsplit_once('_')?;
    Some((mb.parse::<u64>().ok()? << 20) / 4096)
}

/// What each costs; both rounds where they differ.
pub fn text(rows: &[Row]) -> String {
    let mut header = vec!["kernel"];
    header.extend(PRICES.iter().map(|(_, what)| *what));
    header.push("speed");
    let mut table = table(header);
    // The last case is the write.
    let written = |row: &Row| -> Option<f64> {
        let price = row.price.as_ref()?.get(PRICES.last()?.0)?;
        let rounds = price.len().max(1) as f64;
        Some(price.iter().map(|s| s.median as f64).sum::<f64>() / rounds)
    };
    let broken = rows
        .iter()
        .find(|row| row.key == "broken")
        .and_then(written);
    for row in rows.iter().filter(|row| row.price.is_some()) {
        let mut cells = vec![row.key.clone()];
        for (case, _) in PRICES {
            let counted = instructions(row, case);
            cells.push(counted.map_or("?".to_string(), |rounds| bench::rounds_text(&rounds)));
        }
        cells.push(match (broken, written(row)) {
            (Some(broken), Some(this)) => format!("{:.4}", broken / this),
            _ => "-".to_string(),
        });
        table.add_row(cells);
    }
    format!(
        "{table}\n\nInstructions of folio_start_writeback() and folio_end_writeback(), and of a page of 16 MB\n\
         written and synced; medians of two rounds, both where they differ. `speed` is a writer's speed\n\
         in parts of that on `broken`, if each instruction took the same time.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::pages;

    #[test]
    fn a_whole_file_has_its_size_in_its_name() {
        assert_eq!(pages("write_16_mb"), Some(4096));
        assert_eq!(pages("read_random_4_mb"), Some(1024));
        assert_eq!(pages("end_writeback"), None);
    }
}
