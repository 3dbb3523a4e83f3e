// SPDX-License-Identifier: GPL-2.0

//! matrix.json, and what the results page shows of it.

use super::row::Row;
use super::{races, reads};
use crate::kvm::Accel;
use crate::page::run::{self as drawn, Table};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// matrix.json.
#[derive(Serialize)]
pub struct Matrix<'a> {
    pub races: BTreeMap<&'a str, &'a str>,
    pub kernel: String,
    pub qemu: &'a str,
    pub accel: Accel,
    pub rows: &'a [Row],
    /// The fixes for the end of a read.
    pub reads: &'a [Row],
}

/// Of matrix.json, what the results page shows.
#[derive(Deserialize)]
struct Saved {
    rows: Vec<Row>,
    reads: Vec<Row>,
}

/// The tables of a run in this folder, if it is one of the matrix: what became of each race.
pub fn saved(dir: &Path) -> Option<Result<Vec<Table>>> {
    let text = fs::read_to_string(dir.join("matrix.json")).ok()?;
    let saved: Result<Saved> = serde_json::from_str(&text).map_err(anyhow::Error::from);
    Some(saved.map(|saved| {
        let parts = [
            ("Ends of writeback", &saved.rows, races::RACES),
            ("Ends of reads", &saved.reads, reads::RACES),
        ];
        parts
            .into_iter()
            .filter(|(_, rows, _)| !rows.is_empty())
            .map(|(caption, rows, races)| raced(caption, rows, races))
            .collect()
    }))
}

fn raced(caption: &str, rows: &[Row], races: &[(&'static str, &str)]) -> Table {
    let names = races.iter().map(|(race, _)| *race);
    let head = ["kernel"].into_iter().chain(names.clone());
    let row = |row: &Row| {
        let signs = names.clone().map(|race| row.sign(race).0);
        let cells = [row.key.clone()].into_iter().chain(signs);
        drawn::Row {
            key: format!("{caption}: {}", row.key),
            verdict: None,
            cells: cells.chain([row.said()]).collect(),
            notes: row.error.iter().cloned().collect(),
            guest: None,
        }
    };
    Table {
        caption: caption.to_string(),
        head: head.chain(["wakewatch said"]).collect(),
        rows: rows.iter().map(row).collect(),
    }
}
