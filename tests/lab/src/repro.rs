// SPDX-License-Identifier: GPL-2.0

//! `lab repro`: the bug, its witness and its absence, in one table. `plan` has what must be seen, `judge` says whether
//! it was.

mod judge;
mod plan;

pub use judge::Judged;
pub use plan::{unpatched, Plan, PLANS};

use crate::env::Lab;
use crate::guest::{self, Boot, Guest};
use crate::kvm::{self, Accel};
use crate::results::{Results, Suite};
use anyhow::Result;
use comfy_table::Table;
use std::fs;
use std::path::Path;

/// Boots one plan with a line before and after.
pub fn run_plan(
    lab: &Lab,
    accel: Accel,
    run_dir: &Path,
    plan: &Plan,
    boot: &Boot,
    say: &dyn Fn(&str),
) -> Result<(Guest, Vec<Judged>)> {
    let scripts: Vec<&str> = plan.rows.iter().map(|row| row.script).collect();
    let detect = if plan.detect { "" } else { ", detection off" };
    say(&format!(
        "boot {}: {}{detect}",
        plan.kernel,
        scripts.join(" ")
    ));
    let guest = guest::run(lab, accel, run_dir, boot)?;
    for why in &guest.result.retries {
        say(&format!("  booted twice: {why}"));
    }
    let rows = plan.judge(&guest);
    let verdict = if rows.iter().all(|row| row.wrong.is_empty()) {
        "as it must be"
    } else {
        "WRONG"
    };
    let result = &guest.result;
    say(&format!(
        "  {} after {:.1} s, {verdict} ({})",
        result.outcome, result.seconds, result.why
    ));
    Ok((guest, rows))
}

pub fn verb(lab: &Lab, kernel: Option<&str>) -> Result<bool> {
    let plans = kernel.map_or_else(|| PLANS.to_vec(), unpatched);
    // Whatever is missing is missing before the first boot.
    let boots: Result<Vec<Boot>> = plans.iter().map(|plan| plan.boot(lab)).collect();
    let boots = boots?;
    let run_dir = lab.run_dir("repro")?;
    let accel = kvm::probe(lab, &run_dir, &|line| println!("{line}"))?;
    let begun = std::time::Instant::now();
    let (mut rows, mut tests, mut guests) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (plan, boot)) in plans.iter().zip(&boots).enumerate() {
        let say = |text: &str| match text.strip_prefix("boot ") {
            Some(text) => println!("[{}/{}] boot {text}", i + 1, plans.len()),
            None => println!("    {text}"),
        };
        let (guest, judged) = run_plan(lab, accel, &run_dir, plan, boot, &say)?;
        let build = &guest.result.build;
        tests.extend(judged.iter().map(|row| row.test(plan.detect).about(build)));
        rows.extend(judged);
        guests.push(guest.result);
    }
    let table = table(&rows);
    fs::write(run_dir.join("table.md"), format!("{table}\n"))?;
    println!("\n{table}\n");
    let wrong: Vec<&Judged> = rows.iter().filter(|row| !row.wrong.is_empty()).collect();
    let seconds = begun.elapsed().as_secs_f64();
    let results = Results {
        verb: "repro",
        good: wrong.is_empty(),
        seconds,
        suites: vec![Suite::new("repro", seconds, tests)],
        boots: guests.iter().collect(),
        data: serde_json::to_value(&rows)?,
    };
    results.write(lab, &run_dir)?;
    for row in &wrong {
        println!("WRONG: {}, {}", row.kernel, row.scenario);
        for why in &row.wrong {
            println!("  {why}");
        }
        println!("  log: {}", row.log.display());
        for line in &row.last_lines {
            println!("  | {line}");
        }
        println!();
    }
    println!(
        "{} of {} rows are as they must be, {} boots in {:.0} s; logs: {}",
        rows.len() - wrong.len(),
        rows.len(),
        boots.len(),
        seconds,
        run_dir.display()
    );
    Ok(wrong.is_empty())
}

fn table(rows: &[Judged]) -> Table {
    let mut table = crate::table::table([
        "kernel",
        "scenario",
        "the kernel said",
        "wakewatch said",
        "ok?",
    ]);
    for row in rows {
        let mut ok = if row.wrong.is_empty() { "ok" } else { "WRONG" }.to_string();
        if !row.retries.is_empty() {
            ok.push_str(" (booted twice)");
        }
        if row.live > 0 {
            ok.push_str(&format!(" (and {} of the live read race)", row.live));
        }
        table.add_row([
            &row.kernel,
            &row.scenario,
            &row.kernel_said,
            &row.wakewatch_said,
            &ok,
        ]);
    }
    table
}
