// SPDX-License-Identifier: GPL-2.0

//! The kernels of tests/mutants: each loses a page before its wake-up in a way of its own, and
//! wakewatch has to find that, and nothing else. Where the same is done to a kernel without the bug,
//! it has to find nothing.

use crate::env::{Lab, Needs};
use crate::guest::{Boot, Guest};
use crate::ktap::Test;
use crate::suites::{guest_tests, Run};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

struct Mutant {
    /// Its directory.
    name: &'static str,
    /// How its bug is brought about: a scenario of tests/guest/mutant.sh.
    scenario: &'static str,
    /// Of the module.
    parameters: &'static str,
    /// What wakewatch says of it, up to the caller.
    headline: &'static str,
}

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "put-before-wake",
        scenario: "bystander",
        parameters: "",
        headline: "reused wake of PG_writeback",
    },
    Mutant {
        name: "put-at-clear",
        scenario: "order0",
        parameters: "",
        headline: "reused wake of PG_writeback",
    },
    Mutant {
        name: "get-if-waiters",
        scenario: "sync",
        parameters: "",
        headline: "unreferenced end of writeback",
    },
    Mutant {
        name: "get-wrong-folio",
        scenario: "sync",
        parameters: "",
        headline: "unreferenced end of writeback",
    },
    Mutant {
        name: "unlock-after-put",
        scenario: "write-race",
        parameters: "",
        headline: "zero-ref wake of PG_locked",
    },
    Mutant {
        name: "unlock-after-put",
        scenario: "write-race-reuse",
        // Without it nothing is seen of it.
        parameters: "unlock=1",
        headline: "reused wake of PG_locked",
    },
    Mutant {
        name: "end-twice",
        scenario: "sync",
        parameters: "",
        headline: "unbalanced end of writeback",
    },
    Mutant {
        name: "end-read-twice",
        scenario: "read-file",
        parameters: "",
        headline: "unbalanced end of PG_locked",
    },
    Mutant {
        name: "unlock-twice",
        scenario: "read-hole",
        // Without it nothing is seen of it.
        parameters: "unlock=1",
        headline: "unbalanced end of PG_locked",
    },
    Mutant {
        name: "end-private-2",
        scenario: "read-file",
        parameters: "",
        headline: "unbalanced end of PG_private_2",
    },
    Mutant {
        name: "start-unlocked",
        scenario: "sync",
        parameters: "",
        headline: "unlocked-start start of writeback",
    },
    Mutant {
        name: "wake-tail",
        scenario: "huge",
        parameters: "",
        headline: "tail wake of PG_locked",
    },
];

/// A kernel with nothing wrong, in which some wakes don't come by `folio_wake_bit()`.
const INLINED: &str = "wake-inlined";

/// What mutant.sh is told where wakewatch has to be silent.
const NOTHING: &str = "nothing";

pub fn suite(run: &mut Run) -> Result<Vec<Test>> {
    let mut tests = vec![all_listed(run.lab)?];
    for mutant in MUTANTS {
        // One that can't be booted is one failure, and the next has its turn.
        let key = format!("mutant-{}", mutant.name);
        let name = format!("{key}-{}", mutant.scenario);
        let Mutant {
            scenario,
            parameters,
            headline,
            ..
        } = *mutant;
        let test = boot(run, &key, &name, parameters, headline, &[scenario])
            .unwrap_or_else(|err| Test::fail(name, format!("{err:#}")));
        tests.push(test);
    }
    // Each scenario once.
    let scenarios: BTreeSet<&str> = MUTANTS.iter().map(|mutant| mutant.scenario).collect();
    let scenarios: Vec<&str> = scenarios.into_iter().collect();
    for key in ["stock", "fixed"] {
        let name = format!("mutants-{key}");
        // As much as any mutant is looked at with.
        tests.push(boot(run, key, &name, "unlock=1", NOTHING, &scenarios)?);
    }
    for (key, wanted) in [
        (format!("mutant-{INLINED}"), "some"),
        ("stock".into(), "none"),
    ] {
        let script = run.lab.guest_script("past");
        let argv = vec![script.display().to_string(), wanted.to_string()];
        let name = format!("{key}-past");
        let boot = Boot::new(run.lab, &key, &name, &Needs::of(&script)?, argv)?;
        let tests_of = guest_tests(&run.boot(&boot)?);
        tests.push(Test::group(
            format!("{name}: {wanted} past folio_wake_bit()"),
            tests_of,
        ));
    }
    Ok(tests)
}

/// No mutant is left out, of no version.
fn all_listed(lab: &Lab) -> Result<Test> {
    let names = MUTANTS.iter().map(|m| m.name).chain([INLINED]);
    let listed: BTreeSet<String> = names.map(str::to_string).collect();
    let mut odd = Vec::new();
    for version in directories(&lab.root.join("tests/mutants"))? {
        let mut there = BTreeSet::new();
        for dir in directories(&version)? {
            if dir.join("series").is_file() {
                let name = dir.file_name();
                there.extend(name.map(|name| name.to_string_lossy().into_owned()));
            }
        }
        let odd_here = there.symmetric_difference(&listed);
        odd.extend(odd_here.map(|name| format!("{}/{name}", version.display())));
    }
    let title = "every mutant has its boot";
    Ok(Test::of(title, odd.is_empty(), || {
        format!("not in both: {odd:?}")
    }))
}

fn directories(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}

fn boot(
    run: &mut Run,
    key: &str,
    name: &str,
    parameters: &str,
    headline: &str,
    scenarios: &[&str],
) -> Result<Test> {
    let script = run.lab.guest_script("mutant");
    let mut argv = vec![script.display().to_string(), headline.to_string()];
    argv.extend(scenarios.iter().map(|scenario| scenario.to_string()));
    let mut boot = Boot::new(run.lab, key, name, &Needs::of(&script)?, argv)?;
    boot.env
        .push(("WW_PARAMETERS".to_string(), parameters.to_string()));
    let guest = run.boot(&boot)?;
    let mut tests = guest_tests(&guest);
    tests.push(on_console(&guest, headline));
    Ok(Test::group(format!("{name}: {headline}"), tests))
}

/// The host's own look, at what came over the serial line.
fn on_console(guest: &Guest, headline: &str) -> Test {
    let title = format!("on the console: {headline}");
    let findings = guest.console.findings(guest.console.all()).others();
    let said: BTreeSet<String> = (findings.of_loss(headline).reports.iter())
        .map(|report| format!("{} {}", report.verdict, report.event()))
        .collect();
    let wanted: BTreeSet<String> = [headline.to_string()]
        .into_iter()
        .filter(|headline| headline != NOTHING)
        .collect();
    Test::of(title, said == wanted, || {
        format!("{said:?}, {}", guest.dir.display())
    })
}
