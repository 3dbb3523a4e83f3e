// SPDX-License-Identifier: GPL-2.0

//! A list of tests that is spread over machines, and the run that its parts are together.

use super::saved::{Row, Saved};
use crate::debugfs::Caller;
use crate::env::Lab;
use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

/// Which part of a list a run is: of `of` parts the `part`-th, from 1 on. It has each `of`-th test, so that slow
/// ones, which stand together, are spread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    part: usize,
    of: usize,
    /// Of the whole list: parts of another one do not fit.
    list: String,
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    /// "2/8:0123abcd", as scripts/xfstests.sh says it.
    fn from_str(text: &str) -> Result<Self> {
        let (numbers, list) = text.split_once(':').context("no list")?;
        let (part, of) = numbers.split_once('/').context("no /")?;
        let (part, of) = (part.parse()?, of.parse()?);
        if !(1..=of).contains(&part) {
            bail!("there is no part {part} of {of}");
        }
        let list = list.to_string();
        Ok(Self { part, of, list })
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "part {} of {}", self.part, self.of)
    }
}

/// Puts them together, in the order of the whole list. Each part once, and all of one run: else it says which is not.
fn merge(runs: Vec<(String, Saved)>) -> Result<Saved> {
    let (first, of) = runs.first().context("no runs")?;
    let (first, of) = (first.clone(), of.clone());
    let shard = |name: &str, run: &Saved| {
        let none = || format!("{name} is not a part of anything: it was run without SHARD=");
        run.shard.clone().with_context(none)
    };
    let whole = shard(&first, &of)?;
    let same = |run: &Saved, shard: &Shard| {
        let what = |run: &Saved| (run.build.clone(), run.form.clone(), run.wakewatch);
        what(run) == what(&of) && (&shard.list, shard.of) == (&whole.list, whole.of)
    };
    let mut parts: BTreeMap<usize, (String, Saved)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, run) in runs {
        let shard = shard(&name, &run)?;
        if !same(&run, &shard) {
            wrong.push(format!("{name} is of another run than {first}: another kernel, form, list of tests, or number of parts"));
        } else if let Some((other, _)) = parts.get(&shard.part) {
            wrong.push(format!("{shard} is there twice: {other} and {name}"));
        } else {
            parts.insert(shard.part, (name, run));
        }
    }
    for part in 1..=whole.of {
        if !parts.contains_key(&part) {
            wrong.push(format!("part {part} of {} is missing", whole.of));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    let mut rows: Vec<std::vec::IntoIter<Row>> = Vec::new();
    let mut callers = BTreeMap::new();
    let (mut seconds, mut boots) = (0.0, 0);
    for (_, run) in parts.into_values() {
        seconds += run.seconds;
        boots += run.boots;
        for caller in &run.callers {
            caller.add_to(&mut callers);
        }
        rows.push(run.rows.into_iter());
    }
    let mut all = Vec::new();
    // The n-th of each, and then the next one of each.
    loop {
        let before = all.len();
        all.extend(rows.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            break;
        }
    }
    Ok(Saved {
        rows: all,
        callers: Caller::all(callers),
        seconds,
        boots,
        shard: None,
        ..of
    })
}

/// `lab xfstests-merge`.
pub fn verb(lab: &Lab, runs: &[PathBuf]) -> Result<bool> {
    let load = |run: &PathBuf| Ok((run.display().to_string(), Saved::load(lab, run)?));
    let saved = merge(runs.iter().map(load).collect::<Result<Vec<_>>>()?)?;
    let dir = lab.run_dir("xfstests-merge")?;
    saved.write(lab, &dir, &[])?;
    let lines: Vec<String> = runs
        .iter()
        .map(|run| format!("{}\n", run.display()))
        .collect();
    fs::write(dir.join("runs"), lines.concat())?;
    Ok(saved.tell(&dir))
}

#[cfg(test)]
mod tests {
    use super::super::saved::{tests::saved, Mark};
    use super::*;

    fn part(text: &str, tests: &[&str]) -> (String, Saved) {
        let rows: Vec<_> = tests
            .iter()
            .map(|test| (*test, Mark::NotRun, 1.0))
            .collect();
        let mut run = saved(true, &rows);
        run.shard = Some(text.parse().unwrap());
        (format!("run {text}"), run)
    }

    #[test]
    fn parts_are_one_run_again() {
        let runs = vec![
            part("2/3:x", &["b", "e"]),
            part("1/3:x", &["a", "d", "g"]),
            part("3/3:x", &["c", "f"]),
        ];
        let all = merge(runs).unwrap();
        let names: String = all.rows.iter().map(|row| row.test.as_str()).collect();
        assert_eq!(names, "abcdefg");
        assert_eq!((all.seconds, all.boots, all.shard), (27.0, 3, None));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let why = |runs| merge(runs).unwrap_err().to_string();
        assert_eq!(
            why(vec![part("1/3:x", &["a"])]),
            "part 2 of 3 is missing; part 3 of 3 is missing"
        );
        assert_eq!(
            why(vec![part("1/2:x", &["a"]), part("1/2:x", &["a"])]),
            "part 1 of 2 is there twice: run 1/2:x and run 1/2:x; part 2 of 2 is missing"
        );
        assert!(
            why(vec![part("1/2:x", &["a"]), part("2/2:y", &["b"])]).contains("is of another run")
        );
        let mut other = part("2/2:x", &["b"]);
        other.1.form = "1k".to_string();
        assert!(why(vec![part("1/2:x", &["a"]), other]).contains("is of another run"));
        let whole = ("w".to_string(), saved(true, &[]));
        assert!(why(vec![whole]).contains("without SHARD="));
    }

    #[test]
    fn shards_are_read() {
        let shard: Shard = "2/8:0a".parse().unwrap();
        assert_eq!(shard.to_string(), "part 2 of 8");
        for bad in ["", "2", "2/8", "0/8:a", "9/8:a", "x/8:a", "1/0:a"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
