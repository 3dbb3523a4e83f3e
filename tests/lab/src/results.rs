// SPDX-License-Identifier: GPL-2.0

//! What every verb that judges leaves in its folder for machines: `ktap`, `junit.xml`, `result.json`
//! (tests/lab/schema/result.json) and `kcidb.json`, all of the same tests.

mod kcidb;
mod suite;

pub use suite::suite;

use crate::env::Lab;
use crate::guest::Record;
use crate::junit;
use crate::ktap::{self, Counts, Status, Test};
use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Raise it when a reader of the old one would stumble.
const SCHEMA: u32 = 1;

/// One of the groups that a run's tests are in.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Suite {
    pub test: Test,
}

impl Suite {
    pub fn new(name: &str, seconds: f64, tests: Vec<Test>) -> Self {
        let mut test = Test::group(name, tests);
        test.seconds = Some(seconds);
        Self { test }
    }
}

/// Of one run.
pub struct Results<'a> {
    pub verb: &'a str,
    /// Is all as it must be? What the exit status says.
    pub good: bool,
    pub seconds: f64,
    pub suites: Vec<Suite>,
    pub boots: Vec<&'a Record>,
    /// What only this verb knows.
    pub data: Value,
}

/// `result.json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    verb: &'a str,
    good: bool,
    begun: String,
    seconds: f64,
    counts: Counts,
    /// The project's own commit, with "-dirty" if there are changes.
    commit: Option<String>,
    suites: &'a [Suite],
    boots: &'a [&'a Record],
    #[serde(skip_serializing_if = "Value::is_null")]
    data: &'a Value,
}

impl Results<'_> {
    pub fn write(&self, lab: &Lab, dir: &Path) -> Result<()> {
        let millis = (self.seconds * 1000.0) as i64;
        let begun = Utc::now() - chrono::Duration::milliseconds(millis);
        let tests: Vec<Test> = self.suites.iter().map(|suite| suite.test.clone()).collect();
        fs::write(dir.join("ktap"), ktap::document(&tests))?;
        fs::write(
            dir.join("junit.xml"),
            junit::write(self.verb, &self.suites)?,
        )?;
        json(&dir.join("result.json"), &self.document(commit(lab), begun))?;
        let run = dir.file_name().unwrap_or_default().to_string_lossy();
        let kcidb = kcidb::of(self, &run, begun, |build| kcidb::info(lab, build));
        json(&dir.join("kcidb.json"), &kcidb)
    }

    fn document(&self, commit: Option<String>, begun: DateTime<Utc>) -> Document<'_> {
        let mut counts = Counts::default();
        let all = self.suites.iter().map(|suite| suite.test.counts());
        all.for_each(|of_suite| counts += of_suite);
        Document {
            schema: SCHEMA,
            verb: self.verb,
            good: self.good,
            begun: rfc3339(begun),
            seconds: self.seconds,
            counts,
            commit,
            suites: &self.suites,
            boots: &self.boots,
            data: &self.data,
        }
    }
}

fn json(path: &Path, what: &impl Serialize) -> Result<()> {
    Ok(fs::write(path, serde_json::to_string_pretty(what)? + "\n")?)
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn commit(lab: &Lab) -> Option<String> {
    let out = Command::new("git")
        .args(["-c", "safe.directory=*", "-C"])
        .arg(&lab.root)
        .args([
            "describe",
            "--always",
            "--abbrev=40",
            "--dirty",
            "--exclude=*",
        ])
        .output()
        .ok()
        .filter(|out| out.status.success())?;
    Some(String::from_utf8_lossy(&out.stdout).trim().to_string())
}

/// One of each kind, with what formats stumble over.
fn samples(kernel: &str) -> Vec<Test> {
    let mut failed = Test::fail("b <&> 1", "it said \"no\"\u{1b}[0m\u{7}").about(kernel);
    failed.seconds = Some(0.5);
    failed
        .properties
        .insert("reports".to_string(), "2".to_string());
    let mut skipped = Test::new("c", Status::Skip);
    skipped.notes.push("no disk".to_string());
    let group = Test::group("g", vec![failed, skipped]);
    vec![Test::new("a", Status::Pass), group]
}

#[cfg(test)]
mod tests;
