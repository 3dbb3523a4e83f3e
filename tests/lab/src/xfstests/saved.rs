// SPDX-License-Identifier: GPL-2.0

//! A run: what became of each test, and the files of it.

use super::merge::Shard;
use crate::debugfs::{by_verdict, callers_table, length, Caller};
use crate::env::Lab;
use crate::guest::Record;
use crate::ktap::{Counts, Status, Test};
use crate::results::{Results, Suite};
use anyhow::{Context, Result};
use comfy_table::Table;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mark {
    Pass,
    Fail,
    /// xfstests says that it can't be run here.
    NotRun,
    /// By the exclude file.
    Excluded,
    /// The guest died in it.
    Died,
    /// It did not end within its limit.
    Hung,
    /// There was no time left.
    NotReached,
}

impl Mark {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotRun => "not run",
            Self::Excluded => "excluded",
            Self::Died => "GUEST DIED",
            Self::Hung => "HUNG",
            Self::NotReached => "NOT REACHED",
        }
    }

    pub(super) fn status(self) -> Status {
        match self {
            Self::Pass => Status::Pass,
            Self::NotRun | Self::Excluded => Status::Skip,
            Self::Fail | Self::Died | Self::Hung | Self::NotReached => Status::Fail,
        }
    }
}

/// What wakewatch says of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    /// Findings, reported or counted, by verdict.
    pub(super) findings: BTreeMap<String, u64>,
    /// Call sites that have ended writeback without a reference to spare.
    pub(super) unreferenced_sites: u64,
    pub(super) windows: u64,
    /// Of the longest window that a wake has ended: at least 2 to this power, in ns.
    pub(super) longest: Option<u32>,
    pub(super) missed: u64,
}

impl Verdict {
    pub(super) fn reports(&self) -> u64 {
        self.findings.values().sum()
    }

    /// For machines.
    pub(super) fn properties(&self, mark: Mark) -> BTreeMap<String, String> {
        let mut all = vec![("reports".to_string(), self.reports())];
        all.extend(self.findings.iter().map(|(name, n)| (name.clone(), *n)));
        // Of a guest that died there is no more than its console.
        if mark != Mark::Died {
            let longest = self.longest.map_or(0, |power| 1u64 << power.min(63));
            let more = [
                ("unreferenced_sites", self.unreferenced_sites),
                ("windows", self.windows),
                ("longest_window_ns", longest),
                ("missed", self.missed),
            ];
            all.extend(more.map(|(name, n)| (name.to_string(), n)));
        }
        all.into_iter()
            .map(|(name, n)| (format!("wakewatch.{name}"), n.to_string()))
            .collect()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) test: String,
    pub(super) mark: Mark,
    pub(super) why: String,
    pub(super) seconds: Option<f64>,
    /// Seconds of the host's CPUs that QEMU has used for it.
    #[serde(default)]
    pub(super) cpu: Option<f64>,
    pub(super) wakewatch: Option<Verdict>,
}

/// xfstests.json: a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    pub(super) kernel: String,
    /// The directory of the kernel: its key in the cache.
    pub(super) build: String,
    pub(super) form: String,
    pub(super) wakewatch: bool,
    pub(super) asked: String,
    /// If it is a part of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shard: Option<Shard>,
    pub(super) seconds: f64,
    pub(super) boots: usize,
    pub(super) rows: Vec<Row>,
    pub(super) callers: Vec<Caller>,
}

impl Saved {
    /// All the files of a run.
    pub(super) fn write(&self, lab: &Lab, dir: &Path, boots: &[Record]) -> Result<()> {
        fs::write(
            dir.join("xfstests.json"),
            serde_json::to_string_pretty(self)? + "\n",
        )?;
        self.results(boots).write(lab, dir)?;
        let mut text = self.title() + "\n\n" + &table(self).to_string() + "\n";
        if !self.callers.is_empty() {
            text.push_str(&format!("\n{}\n", callers_table(&self.callers)));
        }
        Ok(fs::write(dir.join("table.md"), text)?)
    }

    /// Prints it, and where it is. Is all as it must be?
    pub(super) fn tell(&self, dir: &Path) -> bool {
        println!("\n{}\n\n{}", self.title(), table(self));
        if !self.callers.is_empty() {
            println!("\n{}", callers_table(&self.callers));
        }
        println!("\nresults: {}", dir.display());
        let counts = self.counts();
        println!("{counts}");
        counts.are_good()
    }

    pub(super) fn title(&self) -> String {
        let shard = self.shard.as_ref();
        format!(
            "xfstests on {}, {}, {}: {}{}, {} s, {} boots",
            self.build,
            self.form,
            if self.wakewatch {
                "wakewatch loaded"
            } else {
                "without wakewatch"
            },
            self.asked,
            shard.map_or(String::new(), |shard| format!(" ({shard})")),
            self.seconds,
            self.boots
        )
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.tests().iter().for_each(|test| counts += test.counts());
        counts
    }

    /// What it was, and what came of each test.
    pub fn told(&self) -> (String, Vec<Test>) {
        (self.title(), self.tests())
    }

    pub(super) fn tests(&self) -> Vec<Test> {
        self.rows
            .iter()
            .map(|row| {
                let mut test = Test::new(&row.test, row.mark.status());
                if row.mark != Mark::Pass {
                    let mark = row.mark.text().to_lowercase();
                    test.notes.push(match row.why.is_empty() {
                        true => mark,
                        false => format!("{mark}: {}", row.why),
                    });
                }
                test.notes.extend(row.wakewatch.as_ref().map(|w| {
                    let findings = match w.reports() {
                        0 => "no report".to_string(),
                        _ => by_verdict(&w.findings),
                    };
                    format!("wakewatch: {findings}, {} windows", w.windows)
                }));
                test.seconds = row.seconds;
                let of = row.wakewatch.as_ref();
                test.properties = of.map_or(BTreeMap::new(), |w| w.properties(row.mark));
                let cpu = row
                    .cpu
                    .map(|s| ("cpu_seconds".to_string(), format!("{s:.1}")));
                test.properties.extend(cpu);
                test
            })
            .collect()
    }

    pub(super) fn results<'a>(&self, boots: &'a [Record]) -> Results<'a> {
        let mut suite = Suite::new("xfstests", self.seconds, self.tests());
        let wakewatch = u8::from(self.wakewatch).to_string();
        for (name, value) in [
            ("kernel", &self.build),
            ("form", &self.form),
            ("wakewatch", &wakewatch),
        ] {
            suite
                .test
                .properties
                .insert(name.to_string(), value.clone());
        }
        suite.test.kernel = Some(self.build.clone());
        Results {
            verb: "xfstests",
            good: self.counts().are_good(),
            seconds: self.seconds,
            suites: vec![suite],
            boots: boots.iter().collect(),
            data: Value::Null,
        }
    }

    pub(super) fn load(lab: &Lab, run: &Path) -> Result<Self> {
        let places = [run.to_path_buf(), lab.cache.join("runs").join(run)];
        let file = places.iter().map(|dir| dir.join("xfstests.json"));
        let file = file
            .into_iter()
            .find(|file| file.is_file())
            .with_context(|| format!("{}: no run of make xfstests", run.display()))?;
        serde_json::from_str(&fs::read_to_string(&file)?)
            .with_context(|| format!("{} can't be read", file.display()))
    }
}

pub(super) fn seconds(s: Option<f64>) -> String {
    s.map_or(String::new(), |s| format!("{s:.1}"))
}

pub(super) fn table(saved: &Saved) -> Table {
    let mut table = crate::table::table([
        "test",
        "xfstests",
        "s",
        "cpu s",
        "reports",
        "unreferenced sites",
        "windows",
        "longest >=",
        "missed",
        "why",
    ]);
    for row in &saved.rows {
        let mut cells = vec![
            row.test.clone(),
            row.mark.text().to_string(),
            seconds(row.seconds),
            seconds(row.cpu),
        ];
        match &row.wakewatch {
            Some(w) => {
                cells.push(match w.reports() {
                    0 => "0".to_string(),
                    _ => by_verdict(&w.findings),
                });
                // Of a guest that died there is no more than its console.
                if row.mark == Mark::Died {
                    cells.extend(std::iter::repeat_n(String::new(), 4));
                } else {
                    cells.extend([
                        w.unreferenced_sites.to_string(),
                        w.windows.to_string(),
                        w.longest.map_or(String::new(), length),
                        w.missed.to_string(),
                    ]);
                }
            }
            None => cells.extend(std::iter::repeat_n(String::new(), 5)),
        }
        cells.push(row.why.clone());
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
pub mod tests {
    use super::super::read::xunit;
    use super::*;

    pub fn saved(wakewatch: bool, rows: &[(&str, Mark, f64)]) -> Saved {
        let rows = rows.iter().map(|&(test, mark, seconds)| Row {
            test: test.to_string(),
            mark,
            why: "why <&> \u{1b}".to_string(),
            seconds: Some(seconds),
            cpu: Some(seconds / 2.0),
            wakewatch: wakewatch.then(|| Verdict {
                findings: [("tail".to_string(), 2)].into(),
                longest: Some(10),
                ..Verdict::default()
            }),
        });
        Saved {
            kernel: "fixed".to_string(),
            build: "fixed-0".to_string(),
            form: "4k".to_string(),
            wakewatch,
            asked: "quick".to_string(),
            shard: None,
            seconds: 9.0,
            boots: 1,
            rows: rows.collect(),
            callers: Vec::new(),
        }
    }

    #[test]
    fn results_in_three_forms() {
        let run = saved(
            true,
            &[
                ("generic/029", Mark::Pass, 2.0),
                ("b", Mark::Hung, 1.0),
                ("c", Mark::NotRun, 0.5),
            ],
        );
        let text = table(&run).to_string();
        assert!(
            text.contains("| generic/029 | pass")
                && text.contains("tail 2")
                && text.contains("1 us")
        );
        let results = run.results(&[]);
        let xml = crate::junit::write("xfstests", &results.suites).unwrap();
        for (part, n) in [("tests=\"3\"", 2), ("failures=\"1\"", 2), ("<skipped", 1)] {
            assert_eq!(xml.matches(part).count(), n, "{part}: {xml}");
        }
        assert!(xml.contains("<property name=\"wakewatch.reports\" value=\"2\"/>"));
        assert!(xml.contains("<property name=\"wakewatch.longest_window_ns\" value=\"1024\"/>"));
        assert!(xml.contains("hung: why &lt;&amp;&gt; "));
        // What is written can be read.
        assert_eq!(xunit(&xml).unwrap().unwrap().0, Mark::Fail);
        let again = crate::ktap::parse(crate::ktap::document(&run.tests()).lines());
        let mut counts = Counts::default();
        again.iter().for_each(|test| counts += test.counts());
        assert_eq!(counts, run.counts());
        assert_eq!(counts.to_string(), "1 passed, 1 failed, 1 skipped");
        let json = serde_json::to_string(&run).unwrap();
        let back: Saved = serde_json::from_str(&json).unwrap();
        assert_eq!(back.rows[1].mark, Mark::Hung);
    }
}
