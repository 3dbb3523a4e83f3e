// SPDX-License-Identifier: GPL-2.0

//! KCIDB's JSON, which KernelCI and its kin take in: the kernels that were booted, and what was found of them.
//! Tests that are about no kernel are not in it.

use super::{rfc3339, Results};
use crate::env::Lab;
use crate::guest::Record;
use crate::ktap::{Status, Test};
use crate::outcome::Outcome;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{json, Map, Value};
use std::collections::BTreeSet;
use std::fs;

/// Which CI system it is; each object's name begins with it.
const ORIGIN: &str = "wakewatch";

/// The version that kcidb-io 141 calls the latest.
#[derive(Serialize)]
pub struct Report {
    version: Value,
    checkouts: Vec<Value>,
    builds: Vec<Value>,
    tests: Vec<Value>,
}

/// `run` is what its folder is called, `about` what is known of a build.
pub fn of(
    results: &Results,
    run: &str,
    begun: DateTime<Utc>,
    about: impl Fn(&str) -> Info,
) -> Report {
    let mut tests = Tests {
        verb: results.verb,
        run,
        begun: rfc3339(begun),
        all: Vec::new(),
    };
    for suite in &results.suites {
        tests.add(&suite.test, &mut Vec::new(), None);
    }
    for boot in &results.boots {
        tests.add_boot(boot);
    }
    let builds: BTreeSet<&str> = tests.all.iter().map(|(build, _)| build.as_str()).collect();
    let builds = builds.into_iter().map(|name| (name, about(name)));
    let (checkouts, builds) = builds
        .map(|(name, info)| (checkout(name, &info), build(name, &info)))
        .unzip();
    Report {
        version: json!({ "major": 5, "minor": 3 }),
        checkouts,
        builds,
        tests: tests.all.into_iter().map(|(_, test)| test).collect(),
    }
}

/// The `info` that scripts/kernel.sh writes beside a kernel: lines of `name: value`, some names again and again.
pub type Info = Vec<(String, String)>;

pub fn info(lab: &Lab, build: &str) -> Info {
    let path = lab.cache.join("kernels").join(build).join("info");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

fn all<'a>(info: &'a Info, name: &'a str) -> impl Iterator<Item = &'a str> {
    let same = info.iter().filter(move |(other, _)| other == name);
    same.map(|(_, value)| value.as_str())
}

fn id(name: &str) -> String {
    format!("{ORIGIN}:{name}")
}

fn checkout(build: &str, info: &Info) -> Value {
    let source = all(info, "source").next().unwrap_or_default();
    let patches: Vec<&str> = all(info, "patch").collect();
    let mut checkout = Map::from_iter([
        ("id".to_string(), json!(id(build))),
        ("origin".to_string(), json!(ORIGIN)),
        (
            "tree_name".to_string(),
            json!(all(info, "kernel").next().unwrap_or_default()),
        ),
        ("comment".to_string(), json!(source)),
        ("valid".to_string(), json!(true)),
        ("misc".to_string(), json!({ "patches": patches })),
    ]);
    if let Some(release) = all(info, "release").next() {
        checkout.insert("git_commit_name".to_string(), json!(release));
    }
    // Of LINUX=, which says what it is and what differs from it.
    let is_commit = |word: &&str| word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let mut words = source.split(['(', ')', ' ']);
    if let Some(commit) = words.find(is_commit) {
        checkout.insert("git_commit_hash".to_string(), json!(commit));
    }
    Value::Object(checkout)
}

fn build(build: &str, info: &Info) -> Value {
    let compiler = all(info, "tool").next().unwrap_or_default();
    let config = all(info, "config").next().unwrap_or_default();
    json!({
        "id": id(build),
        "origin": ORIGIN,
        "checkout_id": id(build),
        "architecture": "x86_64",
        "compiler": compiler,
        "config_name": config,
        "status": "PASS",
    })
}

struct Tests<'a> {
    verb: &'a str,
    run: &'a str,
    begun: String,
    /// Each with its kernel's build.
    all: Vec<(String, Value)>,
}

impl Tests<'_> {
    fn add(&mut self, test: &Test, path: &mut Vec<String>, kernel: Option<&str>) {
        let kernel = test.kernel.as_deref().or(kernel);
        path.push(word(&test.name));
        if test.children.is_empty() {
            if let Some(kernel) = kernel {
                let status = match test.status {
                    Status::Pass => "PASS",
                    Status::Fail => "FAIL",
                    Status::Skip => "SKIP",
                };
                let about = (path.join("."), test.name.clone(), status);
                let mut misc = Map::new();
                if !test.notes.is_empty() {
                    misc.insert("notes".to_string(), json!(test.notes));
                }
                if !test.properties.is_empty() {
                    misc.insert("properties".to_string(), json!(test.properties));
                }
                self.push(kernel, about, test.seconds, misc);
            }
        }
        for child in &test.children {
            self.add(child, path, kernel);
        }
        path.pop();
    }

    fn add_boot(&mut self, boot: &Record) {
        let status = match boot.outcome {
            Outcome::Pass => "PASS",
            Outcome::Skip => "SKIP",
            Outcome::Fail | Outcome::Panic | Outcome::Timeout => "FAIL",
            Outcome::LabError => "ERROR",
        };
        let path = format!("boot.{}", word(&boot.scenario));
        let comment = format!("{}: {}: {}", boot.scenario, boot.outcome, boot.why);
        let misc = Map::from_iter([
            ("outcome".to_string(), json!(boot.outcome)),
            ("verdicts".to_string(), json!(boot.verdicts)),
            ("accel".to_string(), json!(boot.accel)),
            ("qemu".to_string(), json!(boot.qemu)),
        ]);
        self.push(
            &boot.build,
            (path, comment, status),
            Some(boot.seconds),
            misc,
        );
    }

    fn push(
        &mut self,
        build: &str,
        (path, comment, status): (String, String, &str),
        seconds: Option<f64>,
        misc: Map<String, Value>,
    ) {
        let number = self.all.len() + 1;
        let mut test = Map::from_iter([
            (
                "id".to_string(),
                json!(id(&format!("{}/{number}", self.run))),
            ),
            ("origin".to_string(), json!(ORIGIN)),
            ("build_id".to_string(), json!(id(build))),
            (
                "path".to_string(),
                json!(format!("{ORIGIN}.{}.{path}", self.verb)),
            ),
            ("comment".to_string(), json!(comment.replace('\0', ""))),
            ("status".to_string(), json!(status)),
            ("start_time".to_string(), json!(self.begun)),
            (
                "environment".to_string(),
                json!({ "comment": "QEMU, x86_64" }),
            ),
            ("misc".to_string(), Value::Object(misc)),
        ]);
        if let Some(seconds) = seconds {
            test.insert("duration".to_string(), json!(seconds));
        }
        self.all.push((build.to_string(), Value::Object(test)));
    }
}

/// A name as a part of a path, which is of few characters.
fn word(name: &str) -> String {
    let one = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c,
        '-' => c,
        _ => '_',
    };
    let all: String = name.chars().map(one).collect();
    let mut parts = all.split('_').filter(|part| !part.is_empty()).peekable();
    match parts.peek() {
        Some(_) => parts.collect::<Vec<_>>().join("_"),
        None => "_".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_parts_of_paths() {
        assert_eq!(
            word("zero-ref: a wake (PG_locked)"),
            "zero-ref_a_wake_PG_locked"
        );
        assert_eq!(word("?"), "_");
    }

    #[test]
    fn a_commit_is_found_in_the_source() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let source = format!("/a/tree ({commit} e3b0c44298fc)");
        let info = vec![("source".to_string(), source)];
        let checkout = checkout("stock-1", &info);
        assert_eq!(checkout["git_commit_hash"], commit);
        assert_eq!(checkout["id"], "wakewatch:stock-1");
        let tarball = vec![(
            "source".to_string(),
            "/usr/src/a.tar.xz (a 1 2)".to_string(),
        )];
        assert!(super::checkout("b", &tarball)
            .get("git_commit_hash")
            .is_none());
    }
}
