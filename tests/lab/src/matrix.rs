// SPDX-License-Identifier: GPL-2.0

//! The proposals, side by side: each kernel runs the same races with wakewatch loaded, and one table
//! says which it loses, beside what the exhaustive model (tests/host/model) says of it.
//!
//! A race that kills its guest costs a boot; those that have not had their turn then go on in the
//! next one. What was measured is kept under everything that went in, so a run that was
//! interrupted goes on where it stopped.
//!
//! One file for each part: `races`, the first table; `alarms`, `stress`, `price`; and `reads`, the second table,
//! which is about the end of a read and has kernels of its own. `row` is what they fill, `lane` how they run,
//! `saved` and `page` what is left of it.

mod alarms;
mod lane;
mod page;
mod price;
mod races;
mod reads;
mod row;
mod saved;
mod stress;
mod suite;

pub use saved::saved;
pub use suite::suite;

use crate::env::Lab;
use crate::ktap::Test;
use crate::kvm;
use crate::results::{Results, Suite};
use anyhow::{bail, Context, Result};
use lane::{each, Lane};
use races::CONTROL;
use row::{asked_for, Mark, Row};
use saved::Matrix;
use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

/// What there is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Races,
    Alarms,
    Stress,
    Price,
    Reads,
}

/// `lab matrix`: the rows of `keys`, and an empty one for each that could not be built; everything of
/// them, or one part.
pub fn verb(
    lab: &Lab,
    keys: &[String],
    failed: &[String],
    fresh: bool,
    part: Option<Part>,
) -> Result<bool> {
    for key in keys.iter().chain(failed) {
        about(key)?;
    }
    let run_dir = lab.run_dir("matrix")?;
    let accel = kvm::probe(lab, &run_dir, &|line| println!("{line}"))?;
    let lane = Lane {
        lab,
        run_dir,
        accel,
        fresh,
    };
    let asked = |only| part.is_none_or(|part| part == only);
    let (mut rows, mut broken) = asked_for(races::ROWS, keys, failed);
    let (mut reads, mut broken_reads) = asked_for(reads::ROWS, keys, failed);
    // A kernel of both tables has a row in each.
    if part.is_some_and(|part| part != Part::Reads) {
        (reads, broken_reads) = (Vec::new(), Vec::new());
    }
    if part == Some(Part::Reads) {
        (rows, broken) = (Vec::new(), Vec::new());
    }
    let begun = Instant::now();
    if asked(Part::Races) {
        // One at a time: they are races.
        each(&mut rows, 1, |row| races::measure(&lane, row))?;
        progress(begun, "the races are run");
    }
    if asked(Part::Alarms) {
        each(&mut rows, 2, |row| {
            row.alarms = alarms::measure(&lane, &row.key)?;
            Ok(())
        })?;
        progress(begun, "the assertions are tried");
    }
    if asked(Part::Stress) {
        each(&mut rows, stress::AT_A_TIME, |row| {
            if row.key != CONTROL {
                row.stress = Some(stress::measure(&lane, &row.key)?);
            }
            Ok(())
        })?;
        progress(begun, "the stress is over");
    }
    if asked(Part::Price) {
        // Instructions are counted: who else uses the machine makes no difference.
        each(&mut rows, 2, |row| {
            row.price = Some(price::measure(&lane, &row.key, "price")?);
            Ok(())
        })?;
        progress(begun, "the instructions are counted");
    }
    if !reads.is_empty() {
        each(&mut reads, 1, |row| reads::measure(&lane, row))?;
        each(&mut reads, 2, |row| {
            row.price = Some(price::measure(&lane, &row.key, "price-reads")?);
            Ok(())
        })?;
        progress(begun, "the ends of reads are done");
    }
    rows.append(&mut broken);
    reads.append(&mut broken_reads);
    for row in &mut rows {
        row.model = races::modelled(&row.key);
    }
    for row in &mut reads {
        row.model = reads::modelled(&row.key);
    }
    let parts = [
        (Part::Races, races::text(&rows)),
        (Part::Stress, stress::text(&rows)),
        (Part::Price, price::text(&rows)),
        (Part::Reads, reads::text(&reads)),
    ];
    let shown = |part| match part {
        Part::Reads => !reads.is_empty(),
        Part::Stress => !rows.is_empty() && (asked(part) || asked(Part::Alarms)),
        _ => !rows.is_empty() && asked(part),
    };
    let text: Vec<String> = parts
        .into_iter()
        .filter(|(part, _)| shown(*part))
        .map(|(_, text)| text)
        .collect();
    let text = text.join("\n");
    println!("\n{text}");
    let run_dir = &lane.run_dir;
    fs::write(run_dir.join("matrix.md"), &text)?;
    let all = Matrix {
        races: races::RACES.iter().copied().collect(),
        kernel: release(lab, keys)?,
        qemu: &lab.qemu_version,
        accel,
        rows: &rows,
        reads: &reads,
    };
    let json = run_dir.join("matrix.json");
    fs::write(&json, serde_json::to_string_pretty(&all)? + "\n")?;
    let html = run_dir.join("matrix.html");
    fs::write(&html, page::page(&all))?;
    println!("{}\n{}", json.display(), html.display());
    let known = |row: &Row| {
        row.error.is_none()
            && row.cells.values().all(|cell| cell.mark != Mark::Unknown)
            && row
                .stress
                .as_ref()
                .is_none_or(|stress| stress.mark != Mark::Unknown)
    };
    let good = rows.iter().chain(&reads).all(known);
    let seconds = begun.elapsed().as_secs_f64();
    let of_rows = |rows: &[Row]| -> Vec<Test> { rows.iter().map(|row| row.test(lab)).collect() };
    let suites = [("writeback", of_rows(&rows)), ("reads", of_rows(&reads))];
    let results = Results {
        verb: "matrix",
        good,
        seconds,
        suites: suites
            .into_iter()
            .filter(|(_, tests): &(_, Vec<Test>)| !tests.is_empty())
            .map(|(name, tests)| Suite::new(name, seconds, tests))
            .collect(),
        // Of rows that were kept there are none.
        boots: Vec::new(),
        data: serde_json::to_value(&all)?,
    };
    results.write(lab, run_dir)?;
    Ok(good)
}

/// Of all kernels: they are built from one tree.
fn release(lab: &Lab, keys: &[String]) -> Result<String> {
    let key = keys.first().context("no kernel")?;
    let file = lab
        .kernel(key)?
        .dir
        .join("kdir/include/config/kernel.release");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_string())
}

fn progress(begun: Instant, what: &str) {
    println!("{what}, {:.0} s", begun.elapsed().as_secs_f64());
}

fn about(key: &str) -> Result<&'static str> {
    match races::ROWS
        .iter()
        .chain(reads::ROWS)
        .find(|(row, _)| *row == key)
    {
        Some((_, about)) => Ok(about),
        None => {
            let all = races::ROWS.iter().chain(reads::ROWS);
            let keys: BTreeSet<&str> = all.map(|(key, _)| *key).collect();
            let keys: Vec<&str> = keys.into_iter().collect();
            bail!("no proposal `{key}`: there are {}", keys.join(", "))
        }
    }
}
