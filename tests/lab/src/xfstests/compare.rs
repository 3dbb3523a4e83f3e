// SPDX-License-Identifier: GPL-2.0

//! Two runs, and what differs between them.

use super::saved::{seconds, Mark, Saved};
use crate::env::Lab;
use crate::ktap::Status;
use crate::table::table;
use anyhow::{bail, Result};
use comfy_table::Table;
use std::path::Path;

/// What two runs have in common and what not.
struct Difference {
    table: Table,
    /// Tests that must not differ so.
    wrong: Vec<String>,
    only_in_one: Vec<String>,
    common: usize,
    time: Ratio,
    cpu: Ratio,
}

/// Seconds of one run to those of another, of the tests that pass in both.
#[derive(Default)]
struct Ratio {
    base: f64,
    other: f64,
    each: Vec<f64>,
}

impl Ratio {
    /// Takes a test in, and says its own.
    fn add(&mut self, base: Option<f64>, other: Option<f64>) -> Option<f64> {
        let (base, other) = base.filter(|s| *s > 0.0).zip(other)?;
        self.base += base;
        self.other += other;
        self.each.push(other / base);
        Some(other / base)
    }

    /// Of all of it, and the median of the tests' own.
    fn of_all(&self) -> Option<(f64, f64)> {
        let mut each = self.each.clone();
        each.sort_by(f64::total_cmp);
        Some((self.other / self.base, *each.get(each.len() / 2)?))
    }
}

/// The run that the other one is measured by: the one without wakewatch, or else the first.
fn baseline<'a>(a: &'a Saved, b: &'a Saved) -> (&'a Saved, &'a Saved) {
    if a.wakewatch && !b.wakewatch {
        (b, a)
    } else {
        (a, b)
    }
}

fn compare(base: &Saved, other: &Saved) -> Difference {
    let mut table = table([
        "test",
        "base",
        "other",
        "base s",
        "other s",
        "ratio",
        "base cpu s",
        "other cpu s",
        "ratio",
        "reports",
        "",
    ]);
    let find = |saved: &Saved, test: &str| saved.rows.iter().find(|row| row.test == test).cloned();
    let mut wrong = Vec::new();
    let mut only = Vec::new();
    let (mut time, mut cpu) = (Ratio::default(), Ratio::default());
    let mut common = 0;
    for row in &base.rows {
        let Some(with) = find(other, &row.test) else {
            only.push(row.test.clone());
            continue;
        };
        common += 1;
        let worse = row.mark == Mark::Pass && with.mark.status() == Status::Fail;
        let note = match (row.mark, with.mark) {
            _ if worse => "FAILS NOW",
            (a, b) if a.status() == Status::Fail && b == Mark::Pass => "passes now",
            (a, b) if a != b => "differs",
            _ => "",
        };
        if worse {
            wrong.push(format!("{}: {}", row.test, with.why));
        }
        let both = row.mark == Mark::Pass && with.mark == Mark::Pass;
        let ratio = |of: &mut Ratio, a, b| match both.then(|| of.add(a, b)).flatten() {
            Some(ratio) => format!("{ratio:.2}"),
            None => String::new(),
        };
        let reports = with.wakewatch.as_ref().or(row.wakewatch.as_ref());
        table.add_row([
            row.test.clone(),
            row.mark.text().to_string(),
            with.mark.text().to_string(),
            seconds(row.seconds),
            seconds(with.seconds),
            ratio(&mut time, row.seconds, with.seconds),
            seconds(row.cpu),
            seconds(with.cpu),
            ratio(&mut cpu, row.cpu, with.cpu),
            reports.map_or(String::new(), |w| w.reports().to_string()),
            note.to_string(),
        ]);
    }
    let strangers = other
        .rows
        .iter()
        .filter(|row| find(base, &row.test).is_none());
    only.extend(strangers.map(|row| row.test.clone()));
    Difference {
        table,
        wrong,
        only_in_one: only,
        common,
        time,
        cpu,
    }
}

pub fn verb(lab: &Lab, a: &Path, b: &Path) -> Result<bool> {
    let (a, b) = (Saved::load(lab, a)?, Saved::load(lab, b)?);
    let (base, other) = baseline(&a, &b);
    let found = compare(base, other);
    if found.common == 0 {
        bail!("the two runs have no test in common");
    }
    println!("base:  {}\nother: {}\n", base.title(), other.title());
    println!("{}\n", found.table);
    if !found.only_in_one.is_empty() {
        println!("in one of them only: {}", found.only_in_one.join(" "));
    }
    for (what, ratio) in [("time", &found.time), ("QEMU's CPU time", &found.cpu)] {
        if let Some((all, median)) = ratio.of_all() {
            println!("{what}, other to base, of what passes in both: {all:.2} in all, median {median:.2}");
        }
    }
    for line in &found.wrong {
        println!("passes in base and fails in other: {line}");
    }
    println!(
        "{} tests compared, {} worse",
        found.common,
        found.wrong.len()
    );
    Ok(found.wrong.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::saved::tests::saved;
    use super::*;

    #[test]
    fn nothing_may_fail_only_with_wakewatch() {
        let without = saved(
            false,
            &[
                ("a", Mark::Pass, 2.0),
                ("b", Mark::Fail, 1.0),
                ("c", Mark::Pass, 1.0),
            ],
        );
        let with = saved(
            true,
            &[
                ("a", Mark::Pass, 3.0),
                ("b", Mark::Fail, 1.0),
                ("d", Mark::Pass, 1.0),
            ],
        );
        // Whichever comes first, the one without is the base.
        let (base, other) = baseline(&with, &without);
        assert!(!base.wakewatch && other.wakewatch);
        let found = compare(base, other);
        assert!(found.wrong.is_empty());
        assert_eq!((found.common, found.only_in_one.len()), (2, 2));
        assert_eq!(found.time.of_all(), Some((1.5, 1.5)));
        assert_eq!(found.cpu.of_all(), Some((1.5, 1.5)));
        assert!(found.table.to_string().contains("1.50"));

        for mark in [Mark::Fail, Mark::Died, Mark::Hung, Mark::NotReached] {
            let with = saved(true, &[("a", mark, 3.0)]);
            let found = compare(&without, &with);
            assert_eq!(found.wrong.len(), 1, "{mark:?}");
            assert!(found.table.to_string().contains("FAILS NOW"));
        }
        let with = saved(true, &[("b", Mark::Pass, 3.0), ("c", Mark::NotRun, 1.0)]);
        let found = compare(&without, &with);
        assert!(found.wrong.is_empty() && found.time.of_all().is_none());
        let text = found.table.to_string();
        assert!(text.contains("passes now") && text.contains("differs"));
    }
}
