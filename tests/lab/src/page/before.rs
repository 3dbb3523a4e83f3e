// SPDX-License-Identifier: GPL-2.0

//! The run before, of the same verb, and what is not as it was there.

use super::run::{counted, verb, Guest, Row, Run};
use crate::debugfs::by_verdict;
use crate::ktap::Status;
use regex::Regex;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Worse,
    Better,
    Other,
}

#[derive(Debug, PartialEq)]
pub struct Difference {
    pub way: Way,
    pub what: String,
    pub before: String,
    pub now: String,
}

#[derive(Debug)]
pub struct Comparison {
    /// The folder of the run before.
    pub name: String,
    pub differences: Vec<Difference>,
    /// Rows of both that say the same but for numbers.
    pub other_numbers: usize,
    /// Rows of both.
    pub rows: usize,
}

/// Runs that have come to nothing are passed over, but not for ever.
const TRIES: usize = 5;

/// The last run of the same verb that has results.
pub fn find(run: &Run) -> Option<Run> {
    let mut before: Vec<PathBuf> = fs::read_dir(run.dir.parent()?)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|dir| name(dir).is_some_and(|n| verb(n) == Some(&run.verb) && *n < *run.name))
        .collect();
    before.sort();
    let runs = before.into_iter().rev().take(TRIES);
    let mut runs = runs.filter_map(|dir| Run::read_results(&dir).ok());
    runs.find(|run| run.rows().next().is_some())
}

fn name(dir: &Path) -> Option<&str> {
    dir.file_name()?.to_str()
}

pub fn compare(before: &Run, now: &Run) -> Comparison {
    let mut all = Comparison {
        name: before.name.clone(),
        differences: Vec::new(),
        other_numbers: 0,
        rows: 0,
    };
    let mut left: Vec<&Row> = before.rows().collect();
    for row in now.rows() {
        // A row's name may have numbers of its run in it.
        let same = |old: &&Row| old.key == row.key;
        let alike = |old: &&Row| without_numbers(&old.key) == without_numbers(&row.key);
        let at = left
            .iter()
            .position(same)
            .or_else(|| left.iter().position(alike));
        match at {
            Some(at) => all.row(left.remove(at), row),
            None => {
                let way = match row.verdict {
                    Some(Status::Fail) => Way::Worse,
                    _ => Way::Other,
                };
                all.add(way, &row.key, "no such row", &said(row));
            }
        }
    }
    for row in left {
        all.add(Way::Other, &row.key, &said(row), "no such row");
    }
    let old: BTreeMap<&str, &Guest> = before.guests.iter().map(|g| (g.name.as_str(), g)).collect();
    let mut machines = Vec::new();
    for guest in &now.guests {
        if let Some(old) = old.get(guest.name.as_str()) {
            all.guest(old, guest);
            machines.push((machine(old), machine(guest)));
        }
    }
    machines.dedup();
    for (before, now) in machines.iter().filter(|(before, now)| before != now) {
        all.add(Way::Other, "booted with", before, now);
    }
    all.differences.sort_by_key(|difference| difference.way);
    all
}

fn machine(guest: &Guest) -> String {
    let record = &guest.record;
    format!("QEMU {}, {}", record.qemu, record.accel.name())
}

/// A row in one line.
fn said(row: &Row) -> String {
    let verdict = row.verdict.map(word);
    let cells = row.cells.iter().skip(1).map(String::as_str);
    verdict
        .into_iter()
        .chain(cells)
        .collect::<Vec<_>>()
        .join(", ")
}

pub fn word(status: Status) -> &'static str {
    match status {
        Status::Pass => "ok",
        Status::Fail => "not ok",
        Status::Skip => "skipped",
    }
}

impl Comparison {
    fn add(&mut self, way: Way, what: &str, before: &str, now: &str) {
        self.differences.push(Difference {
            way,
            what: what.to_string(),
            before: before.to_string(),
            now: now.to_string(),
        });
    }

    fn row(&mut self, old: &Row, new: &Row) {
        self.rows += 1;
        let (was, is) = (said(old), said(new));
        if old.verdict != new.verdict {
            let way = match (old.verdict, new.verdict) {
                (_, Some(Status::Fail)) => Way::Worse,
                (Some(Status::Fail), _) => Way::Better,
                _ => Way::Other,
            };
            let why = new.notes.first().map(|note| format!("{is}: {note}"));
            self.add(way, &new.key, &was, &why.unwrap_or(is));
        } else if without_numbers(&was) != without_numbers(&is) {
            self.add(Way::Other, &new.key, &was, &is);
        } else if was != is {
            self.other_numbers += 1;
        }
    }

    /// What a guest has said beyond the rows: they may leave out what is allowed.
    fn guest(&mut self, old: &Guest, new: &Guest) {
        let (a, b) = (&old.record, &new.record);
        let name = &new.name;
        if a.outcome != b.outcome {
            let told = |guest: &Guest| format!("{}: {}", guest.record.outcome, guest.record.why);
            self.add(
                Way::Other,
                &format!("{name}: its end"),
                &told(old),
                &told(new),
            );
        }
        if a.release != b.release {
            let release = |release: &Option<String>| release.clone().unwrap_or("none".to_string());
            let what = format!("{name}: kernel");
            self.add(
                Way::Other,
                &what,
                &release(&a.release),
                &release(&b.release),
            );
        }
        let (was, is) = (counted(a), counted(b));
        if !was.keys().eq(is.keys()) {
            let told = |counts: &BTreeMap<String, u64>| match counts.is_empty() {
                true => "nothing".to_string(),
                false => by_verdict(counts),
            };
            self.add(
                Way::Other,
                &format!("{name}: wakewatch found"),
                &told(&was),
                &told(&is),
            );
        }
        let said = |text: &Option<String>| text.clone().unwrap_or("nothing".to_string());
        let (was, is) = (said(&a.kernel_said), said(&b.kernel_said));
        if without_numbers(&was) != without_numbers(&is) {
            self.add(Way::Other, &format!("{name}: its kernel said"), &was, &is);
        }
    }
}

/// How often something came, and when, differs from run to run and says nothing.
fn without_numbers(text: &str) -> String {
    static COUNT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r" \([0-9]+(?: times)?\)|[0-9]+").expect("valid"));
    COUNT.replace_all(text, "").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::run::Table;
    use crate::page::samples::Folder;

    fn row(key: &str, verdict: Status, said: &str) -> Row {
        Row {
            key: key.to_string(),
            verdict: Some(verdict),
            cells: vec![key.to_string(), said.to_string()],
            ..Row::default()
        }
    }

    fn run(rows: Vec<Row>) -> Run {
        let table = Table {
            rows,
            ..Table::default()
        };
        Run {
            tables: vec![table],
            ..Run::default()
        }
    }

    #[test]
    fn what_differs_is_told_and_numbers_are_counted() {
        let before = run(vec![
            row("a", Status::Pass, "nothing"),
            row("b", Status::Fail, "nothing"),
            row(
                "c",
                Status::Pass,
                "reused of PG_locked (6 times), 0.42 s before",
            ),
            row("d", Status::Pass, "kernel BUG at x.c:12"),
            row("pages written (12)", Status::Pass, ""),
            row("gone", Status::Pass, ""),
        ]);
        let now = run(vec![
            row("a", Status::Fail, "nothing"),
            row("b", Status::Pass, "nothing"),
            row("c", Status::Pass, "reused of PG_locked, 0.01 s before"),
            row("d", Status::Pass, "kernel BUG at y.c:12"),
            row("pages written (345)", Status::Pass, ""),
            row("new", Status::Fail, ""),
        ]);
        let all = compare(&before, &now);
        let told: Vec<_> = all
            .differences
            .iter()
            .map(|d| (d.way, d.what.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (Way::Worse, "a"),
                (Way::Worse, "new"),
                (Way::Better, "b"),
                (Way::Other, "d"),
                (Way::Other, "gone")
            ]
        );
        assert_eq!((all.other_numbers, all.rows), (1, 5));
        assert_eq!(compare(&now, &now).differences, []);
    }

    #[test]
    fn the_run_before_is_the_last_of_the_same_verb_with_results() {
        let folder = Folder::of_run("before");
        let runs = folder.path().parent().unwrap();
        let copy = |name: &str| {
            let guest = runs.join(name).join("g");
            fs::create_dir_all(&guest).unwrap();
            for file in ["result.json", "ktap"] {
                fs::copy(
                    folder.path().join("broken-order0").join(file),
                    guest.join(file),
                )
                .unwrap();
            }
        };
        let found = || find(&Run::read_results(folder.path()).unwrap()).map(|run| run.name);
        assert_eq!(found(), None);
        copy("20201124-171500-boot"); // later
        copy("20201124-171300-soak"); // of another verb
        fs::create_dir_all(runs.join("20201124-171400-boot")).unwrap(); // without results
        assert_eq!(found(), None);
        copy("20201124-171200-boot");
        copy("20201123-171200-boot");
        assert_eq!(found().as_deref(), Some("20201124-171200-boot"));
    }
}
