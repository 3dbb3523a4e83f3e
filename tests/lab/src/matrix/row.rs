// SPDX-License-Identifier: GPL-2.0

//! What a table of the matrix says: of each race on each kernel, what became of it and what shows it.

use super::{alarms, price, stress};
use crate::env::Lab;
use crate::ktap::{Status, Test};
use crate::table::table;
use comfy_table::Table;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What became of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It was run, and not lost.
    Holds,
    /// It was lost.
    Lost,
    /// It was not run as it must be: this says nothing about the kernel.
    Unknown,
}

impl Mark {
    pub fn sign(self) -> &'static str {
        match self {
            Self::Holds => "ok",
            Self::Lost => "LOST",
            Self::Unknown => "?",
        }
    }
}

/// One race on one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub mark: Mark,
    /// What shows it.
    pub evidence: String,
    /// Findings of wakewatch's during the race, by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Tasks that were woken by them.
    #[serde(default)]
    pub woken: u64,
    pub log: PathBuf,
}

/// All races on one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub key: String,
    /// Races that the model loses, with the shortest way there.
    #[serde(default)]
    pub model: BTreeMap<String, Vec<String>>,
    pub about: String,
    pub cells: BTreeMap<String, Cell>,
    #[serde(default)]
    pub price: Option<price::Price>,
    /// For kernels with an assertion.
    #[serde(default)]
    pub alarms: Option<alarms::Alarms>,
    #[serde(default)]
    pub stress: Option<stress::Stress>,
    /// Why there is nothing: it does not apply, or does not build.
    pub error: Option<String>,
    /// Of all of its guests.
    pub seconds: f64,
}

impl Row {
    pub fn new(key: &str, about: &str) -> Self {
        Self {
            key: key.to_string(),
            model: BTreeMap::new(),
            about: about.to_string(),
            cells: BTreeMap::new(),
            price: None,
            alarms: None,
            stress: None,
            error: None,
            seconds: 0.0,
        }
    }

    /// What a race's cell says, and of which kind it is: measured, and the model where it says otherwise.
    pub fn sign(&self, race: &str) -> (String, &'static str) {
        let measured = self.cells.get(race).map(|cell| cell.mark);
        let model = match self.model.contains_key(race) {
            true => Mark::Lost,
            false => Mark::Holds,
        };
        match measured {
            None => ("-".to_string(), ""),
            Some(mark) if mark != model => {
                (format!("{} / {}", mark.sign(), model.sign()), "differs")
            }
            Some(Mark::Lost) => (Mark::Lost.sign().to_string(), "lost"),
            Some(mark) => (mark.sign().to_string(), "ok"),
        }
    }

    /// Verdicts of wakewatch during the races.
    pub fn said(&self) -> String {
        let cells = self.cells.values();
        let said: BTreeSet<&str> = cells
            .flat_map(|cell| cell.verdicts.keys().map(String::as_str))
            .collect();
        match &self.error {
            Some(_) => "not built".to_string(),
            None if said.is_empty() => "nothing".to_string(),
            None => said.into_iter().collect::<Vec<_>>().join(", "),
        }
    }
}

impl Row {
    /// For machines: whether it is known is what a run is judged by, and what is known a note.
    pub fn test(&self, lab: &Lab) -> Test {
        if let Some(error) = &self.error {
            return Test::fail(&self.key, error);
        }
        let cells = self.cells.iter().map(|(race, cell)| {
            let mut test = match cell.mark {
                Mark::Unknown => Test::new(race, Status::Fail),
                _ => Test::new(race, Status::Pass),
            };
            test.notes
                .push(format!("{}: {}", cell.mark.sign(), cell.evidence));
            test
        });
        let mut test = match self.cells.is_empty() {
            true => Test::new(&self.key, Status::Pass),
            false => Test::group(&self.key, cells.collect()),
        };
        test.kernel = lab.kernel(&self.key).ok().map(|kernel| kernel.build());
        test
    }
}

/// What became of each of `races` on each kernel, and what wakewatch `said` of it.
pub fn raced(rows: &[Row], races: &[(&str, &str)], said: impl Fn(&Row) -> String) -> Table {
    let mut header = vec!["kernel"];
    header.extend(races.iter().map(|(race, _)| *race));
    header.push("wakewatch said");
    let mut table = table(header);
    for row in rows {
        let mut cells = vec![row.key.clone()];
        cells.extend(races.iter().map(|(race, _)| row.sign(race).0));
        cells.push(said(row));
        table.add_row(cells);
    }
    table
}

/// The rows of a table for `keys`, and one for each of `failed`.
pub fn asked_for(
    table: &[(&str, &str)],
    keys: &[String],
    failed: &[String],
) -> (Vec<Row>, Vec<Row>) {
    let mut rows = Vec::new();
    let mut broken = Vec::new();
    for (key, about) in table {
        let mut row = Row::new(key, about);
        if failed.iter().any(|failed| failed == key) {
            row.error = Some("does not apply or does not build, see above".to_string());
            broken.push(row);
        } else if keys.iter().any(|asked| asked == key) {
            rows.push(row);
        }
    }
    (rows, broken)
}
