// SPDX-License-Identifier: GPL-2.0

//! Is reproduction certain? Many boots of each scenario, and when the BUG came.

use crate::env::Lab;
use crate::guest::{self, Record};
use crate::ktap::{Status, Test};
use crate::kvm;
use crate::repro::{Judged, Plan, PLANS};
use crate::results::{Results, Suite};
use anyhow::{bail, Result};
use std::fs;
use std::time::Instant;

/// Guest seconds within which the BUG must come.
const LIMIT: f64 = 30.0;

pub fn verb(lab: &Lab, boots: usize) -> Result<bool> {
    if boots == 0 {
        bail!("--boots 0 shows nothing");
    }
    let run_dir = lab.run_dir("certainty")?;
    let accel = kvm::probe(lab, &run_dir, &|line| println!("{line}"))?;
    let begun = Instant::now();
    let mut certain = true;
    let mut text = String::new();
    let (mut all, mut tests, mut guests): (Vec<Judged>, Vec<Test>, Vec<Record>) =
        Default::default();
    for script in ["order0", "tail"] {
        // The row that repro expects, in a boot of its own.
        let (plan, row) = PLANS
            .iter()
            .filter(|plan| plan.kernel == "broken" && plan.detect)
            .flat_map(|plan| plan.rows.iter().map(move |row| (plan, row)))
            .find(|(_, row)| row.script == script)
            .expect("repro has this row");
        let plan = Plan {
            rows: std::slice::from_ref(row),
            ..*plan
        };
        let mut times = Vec::new();
        for n in 1..=boots {
            let mut boot = plan.boot(lab)?;
            boot.name = format!("{script}-{n:02}");
            let guest = guest::run(lab, accel, &run_dir, &boot)?;
            let judged = plan.judge(&guest).remove(0);
            let at = judged
                .bug_at
                .filter(|at| judged.wrong.is_empty() && *at <= LIMIT);
            let seen = match (at, judged.bug_at) {
                (Some(at), _) => format!("BUG at {at:.1} s"),
                (None, Some(at)) if judged.wrong.is_empty() => format!("LATE: BUG at {at:.1} s"),
                _ => format!(
                    "WRONG: {} ({})",
                    judged.wrong.join("; "),
                    judged.log.display()
                ),
            };
            let again = if judged.retries.is_empty() {
                ""
            } else {
                " (booted twice)"
            };
            say(&mut text, &format!("{script} {n}/{boots}: {seen}{again}"));
            times.extend(at);
            let mut test = judged.test(plan.detect).about(&guest.result.build);
            test.name = format!("{script} {n}: {}", test.name);
            if at.is_none() && test.status == Status::Pass {
                test.status = Status::Fail;
                test.notes.push(format!("after more than {LIMIT} s"));
            }
            tests.push(test);
            all.push(judged);
            guests.push(guest.result);
        }
        times.sort_by(f64::total_cmp);
        if let Some((min, median, max)) = spread(&times) {
            say(
                &mut text,
                &format!("{script}: guest time at the BUG: min {min:.1}, median {median:.1}, max {max:.1} s"),
            );
        }
        say(&mut text, &format!("{script}: {} of {boots}", times.len()));
        certain &= times.len() == boots;
    }
    fs::write(run_dir.join("certainty.txt"), text)?;
    let seconds = begun.elapsed().as_secs_f64();
    let results = Results {
        verb: "certainty",
        good: certain,
        seconds,
        suites: vec![Suite::new("certainty", seconds, tests)],
        boots: guests.iter().collect(),
        data: serde_json::to_value(&all)?,
    };
    results.write(lab, &run_dir)?;
    Ok(certain)
}

fn say(text: &mut String, line: &str) {
    println!("{line}");
    text.push_str(line);
    text.push('\n');
}

/// Minimum, median and maximum of sorted numbers.
pub fn spread(sorted: &[f64]) -> Option<(f64, f64, f64)> {
    let n = sorted.len();
    let median = (sorted.get(n / 2)? + sorted.get(n.checked_sub(1)? / 2)?) / 2.0;
    Some((*sorted.first()?, median, *sorted.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[5.0]), Some((5.0, 5.0, 5.0)));
        assert_eq!(spread(&[1.0, 2.0, 4.0, 9.0]), Some((1.0, 3.0, 9.0)));
    }
}
