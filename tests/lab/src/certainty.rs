// SPDX-License-Identifier: GPL-2.0

//! Is reproduction certain? Many boots of each scenario, and when the BUG came.

use crate::env::Lab;
use crate::guest;
use crate::kvm;
use crate::repro::{Judged, Plan, PLANS};
use anyhow::{bail, Result};
use std::fs;

/// Guest seconds within which the BUG must come.
const LIMIT: f64 = 30.0;

pub fn verb(lab: &Lab, boots: usize) -> Result<bool> {
    if boots == 0 {
        bail!("--boots 0 shows nothing");
    }
    let run_dir = lab.run_dir("certainty")?;
    let accel = kvm::probe(lab, &run_dir, &|line| println!("{line}"))?;
    let mut certain = true;
    let mut text = String::new();
    let mut all: Vec<Judged> = Vec::new();
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
            all.push(judged);
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
    fs::write(
        run_dir.join("result.json"),
        serde_json::to_string_pretty(&all)? + "\n",
    )?;
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
