// SPDX-License-Identifier: GPL-2.0

//! What others make of our results, for `lab test`: the kernel's own reader of KTAP, KCIDB's checker, and a
//! validator of JSON schemas.

use super::{Results, Suite};
use crate::guest::Boot;
use crate::ktap::{self, Counts, Test};
use crate::suites::Run;
use anyhow::{bail, Context, Result};
use serde_json::Value;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Prints nothing if it is valid.
const VALID_KCIDB: &str = "\
import json, sys
from kcidb_io.schema import LATEST
LATEST.validate(json.load(open(sys.argv[1])))
";
/// The second file is the schema.
const VALID_RESULT: &str = "\
import json, sys
import jsonschema
jsonschema.validate(json.load(open(sys.argv[1])), json.load(open(sys.argv[2])))
";
/// The same of a guest's own, which is a part of it.
const VALID_GUEST: &str = "\
import json, sys
import jsonschema
schema = json.load(open(sys.argv[2]))
jsonschema.validate(json.load(open(sys.argv[1])), {'$ref': '#/$defs/guest', '$defs': schema['$defs']})
";

/// `guests` are those that the suite has booted by now, each in a folder of its name.
pub fn suite(run: &mut Run, guests: &[String]) -> Result<Vec<Test>> {
    let names = ["harness/pass", "harness/skip"];
    let boot = Boot::of_scripts(run.lab, "stock", "harness-two", &names)?;
    let guest = run.boot(&boot)?;
    let dir = run.dir.join("formats");
    fs::create_dir_all(&dir)?;
    let lines = guest.console.results();
    let raw = lines.collect::<Vec<_>>().join("\n") + "\n";
    let script = dir.join("two-scripts");
    fs::write(&script, &raw)?;
    let (counts, seen) = (sum(&guest.tests), sum(&ktap::parse(raw.lines())));
    let mut tests = vec![Test::of(
        "two scripts: 2 passed, 1 skipped",
        counts.to_string() == "2 passed, 0 failed, 1 skipped" && seen == counts,
        || counts.to_string(),
    )];

    let results = Results {
        verb: "formats",
        good: false,
        seconds: 1.5,
        suites: vec![Suite::new(
            "formats",
            1.5,
            super::samples(&guest.result.build),
        )],
        boots: run.boots().iter().collect(),
        data: Value::Null,
    };
    results.write(run.lab, &dir)?;

    let reader = Reader::new(run)?;
    tests.push(reader.reads("what two scripts say in one guest", &script)?);
    tests.push(reader.reads("all of a run", &dir.join("ktap"))?);
    let mut wrong = Vec::new();
    for name in guests.iter().chain([&boot.name]) {
        let path = run.dir.join(name).join("ktap");
        let test = reader.reads(name, &path)?;
        wrong.extend(test.notes.first().map(|why| format!("{name}: {why}")));
    }
    let title = format!("kunit.py reads the results of {} guests", guests.len() + 1);
    tests.push(Test::of(title, wrong.is_empty(), || wrong.join("\n")));
    // A reader that takes anything is no help.
    let bad = dir.join("bad");
    fs::write(&bad, "KTAP version 1\n1..2\n  # Subtest: a\n  KTAP version 1\n  1..1\n  ok 1 b\nok 1 a\nok 2 c\n")?;
    let test = reader.reads("", &bad)?;
    let title = "kunit.py complains of a name before its version line";
    tests.push(Test::of(title, !test.notes.is_empty(), || {
        "it does not".to_string()
    }));

    let schema = run.lab.root.join("tests/lab/schema/result.json");
    let python = |title: &str, code: &str, files: &[&Path], valid: bool| -> Result<Test> {
        let program = env::var_os("WW_KCIDB").context("WW_KCIDB is not set")?;
        let out = Command::new(program)
            .arg("-c")
            .arg(code)
            .args(files)
            .output()?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        Ok(Test::of(title, out.status.success() == valid, || said))
    };
    let kcidb = dir.join("kcidb.json");
    let result = dir.join("result.json");
    let of_guest = guest.dir.join("result.json");
    tests.push(python(
        "kcidb.json: kcidb-io has no complaint",
        VALID_KCIDB,
        &[&kcidb],
        true,
    )?);
    tests.push(python(
        "result.json: as the schema says",
        VALID_RESULT,
        &[&result, &schema],
        true,
    )?);
    tests.push(python(
        "a guest's: as the schema says",
        VALID_GUEST,
        &[&of_guest, &schema],
        true,
    )?);
    tests.push(python(
        "the schema is not met by what is no result",
        VALID_RESULT,
        &[&kcidb, &schema],
        false,
    )?);
    tests.push(python(
        "kcidb-io complains of what is none",
        VALID_KCIDB,
        &[&result],
        false,
    )?);
    Ok(tests)
}

fn sum(tests: &[Test]) -> Counts {
    let mut counts = Counts::default();
    tests.iter().for_each(|test| counts += test.counts());
    counts
}

/// kunit.py of the kernel's source.
struct Reader(std::path::PathBuf);

impl Reader {
    fn new(run: &Run) -> Result<Self> {
        let out = Command::new("/bin/bash")
            .arg(run.lab.root.join("scripts/kernel.sh"))
            .arg("--tree")
            .output()?;
        let tree = String::from_utf8_lossy(&out.stdout).trim().to_string();
        let program = Path::new(&tree).join("tools/testing/kunit/kunit.py");
        match program.is_file() {
            true => Ok(Self(program)),
            false => bail!(
                "no {}: {}",
                program.display(),
                String::from_utf8_lossy(&out.stderr)
            ),
        }
    }

    /// A note says what it complains of.
    fn reads(&self, what: &str, file: &Path) -> Result<Test> {
        let mut cmd = Command::new("/usr/bin/python3");
        // It leaves nothing beside its source, which is the cache's.
        cmd.arg("-B").arg(&self.0).arg("parse").arg(file);
        let out = cmd.output()?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let said = said + &String::from_utf8_lossy(&out.stderr);
        let complaint = said
            .lines()
            .find(|line| line.contains("[ERROR]") || line.starts_with("Traceback"));
        let complaint = match (complaint, said.contains("Testing complete.")) {
            (None, true) => None,
            (None, false) => Some("it did not come to an end"),
            (some, _) => some,
        };
        let title = format!("kunit.py reads {what}");
        Ok(Test::of(title, complaint.is_none(), || {
            complaint.unwrap_or_default().to_string()
        }))
    }
}
