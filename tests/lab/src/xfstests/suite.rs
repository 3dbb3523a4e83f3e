// SPDX-License-Identifier: GPL-2.0

//! For `lab test`: bad input, and a slice of a tree where there is one.

use super::{table, Args, Mark};
use crate::ktap::{Status, Test};
use crate::refusals;
use crate::suites::Run;
use anyhow::Result;
use clap::Parser;
use std::ffi::OsString;
use std::fs;
use std::process::Command;

/// What is refused, and the words that say so. `{}` is where the trees are.
const REFUSED: &[refusals::Case] = &[
    ("no tree", &[], "usage: make xfstests XFSTESTS="),
    (
        "a tree that is none",
        &["XFSTESTS={}/none"],
        "not an xfstests tree",
    ),
    (
        "a tree that isn't there",
        &["XFSTESTS={}/nowhere"],
        "no such directory",
    ),
    ("a tree not built", &["XFSTESTS={}/unbuilt"], "not built"),
    (
        "a test that isn't there",
        &["XFSTESTS={}/built", "TESTS=generic/999"],
        "no such test in this tree: generic/999",
    ),
    (
        "a form that isn't there",
        &["XFSTESTS={}/built", "FORM=zfs"],
        "FORM=zfs: there are 4k",
    ),
    (
        "a kernel that isn't there",
        &["XFSTESTS={}/built", "KERNEL=nope"],
        "no kernel 'nope'",
    ),
    (
        "too much memory asked for",
        &["XFSTESTS={}/built", "MEMORY=4000G"],
        "too little memory",
    ),
    (
        "too little memory asked for",
        &["XFSTESTS={}/built", "MEMORY=512M"],
        "need 2048M at least",
    ),
    (
        "too little disk",
        &["XFSTESTS={}/built", "DISK_MB=999999999"],
        "too little disk",
    ),
    (
        "an exclusion without a reason",
        &["XFSTESTS={}/built", "EXCLUDE={}/bare"],
        "has no reason beside it",
    ),
    (
        "a part that isn't there",
        &["XFSTESTS={}/built", "SHARD=3/2"],
        "there is no part 3 of 2",
    ),
    (
        "more parts than tests",
        &["XFSTESTS={}/built", "TESTS=generic/001", "SHARD=1/2"],
        "there are 1 tests",
    ),
    (
        "a limit that is no number",
        &["XFSTESTS={}/built", "LIMIT=soon"],
        "a number of at least 10",
    ),
];

/// What is refused for nothing else would be refused for good.
const TAKEN: &[&str] = &["XFSTESTS={}/built", "TESTS=generic/001 wakewatch"];

/// Bad input; tests that end in every way there is; and with XFSTESTS a slice of the real thing, on a kernel where it must pass and on one where
/// it must fail.
pub fn suite(run: &mut Run) -> Result<Vec<Test>> {
    let trees = run.dir.join("xfstests-trees");
    let mut tests = refusals::suite(run.lab, "xfstests", &trees, REFUSED, TAKEN)?;
    tests.push(stand_in(run)?);
    tests.push(match std::env::var_os("XFSTESTS") {
        Some(tree) if !tree.is_empty() => slice(run, &tree)?,
        _ => {
            let mut test = Test::new("a slice of a tree", Status::Skip);
            test.notes.push("XFSTESTS names no built tree".to_string());
            test
        }
    });
    Ok(tests)
}

/// What the tests of tests/xfstests/stand-in must be called, and a part of the reason.
const ENDS: &[(&str, Mark, &str)] = &[
    ("generic/001", Mark::Pass, ""),
    ("generic/002", Mark::Hung, "did not end within 15 s"),
    ("generic/003", Mark::Died, "sysrq triggered crash"),
    (
        "generic/004",
        Mark::Fail,
        "wakewatch has found unreferenced",
    ),
    ("generic/005", Mark::NotRun, "not here"),
    ("generic/006", Mark::Fail, "output mismatch"),
    ("generic/007", Mark::Fail, "check ended with status 0"),
    ("generic/008", Mark::Excluded, "for a reason"),
    (
        "generic/009",
        Mark::Fail,
        "the shmem behind its devices was full; I/O error",
    ),
];

/// A tree that stands in for one, on *broken*: whatever a test does, it is called by its name, and the
/// others have their turn.
fn stand_in(run: &mut Run) -> Result<Test> {
    let dir = run.dir.join("xfstests-stand-in");
    fs::create_dir_all(&dir)?;
    let out = Command::new(run.lab.root.join("tests/xfstests/stand-in/images.sh"))
        .arg(&dir)
        .output()?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        return Ok(Test::fail("a stand-in tree", text.trim_end()));
    }
    let exclude = dir.join("exclude");
    fs::write(&exclude, "generic/008 for a reason\n")?;
    let mut words: Vec<OsString> = vec!["--kernel".into(), "broken".into()];
    for (option, path) in [
        ("--root", dir.join("root.img")),
        ("--tree", dir.join("tree.img")),
        ("--exclude", exclude),
    ] {
        words.extend([option.into(), path.into()]);
    }
    let rest = "--limit 15 --minutes 20 --memory 3G --asked stand-in";
    words.extend(rest.split(' ').map(OsString::from));
    words.extend(ENDS.iter().map(|(name, ..)| OsString::from(name)));
    let args = Words::try_parse_from(words)?.args;
    let accel = run.accel()?;
    let say = |line: &str| println!("# {line}");
    let saved = super::run(run.lab, accel, &dir, &args, &say, false)?;
    let mut tests = Vec::new();
    for (row, (name, mark, why)) in saved.rows.iter().zip(ENDS) {
        let right = row.test == *name && row.mark == *mark && row.why.contains(why);
        let title = format!("{name}: {} {why}", mark.text());
        tests.push(Test::of(title.trim_end(), right, || {
            format!("{}: {} ({})", row.test, row.mark.text(), row.why)
        }));
    }
    // One that dies and one that hangs cost a guest each.
    let boots = saved.boots == 3;
    tests.push(Test::of("three guests", boots, || saved.title()));
    Ok(Test::group("a stand-in tree", tests))
}

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(flatten)]
    args: Args,
}

fn slice(run: &mut Run, tree: &std::ffi::OsStr) -> Result<Test> {
    let mut tests = Vec::new();
    for (kernel, wanted) in [
        ("fixed", "generic/029 generic/246 wakewatch"),
        ("broken", "generic/029"),
    ] {
        let out = refusals::script(run.lab, "xfstests")
            .arg("--args")
            .env("XFSTESTS", tree)
            .env("KERNEL", kernel)
            .env("TESTS", wanted)
            .output()?;
        if !out.status.success() {
            let text = String::from_utf8_lossy(&out.stderr).trim_end().to_string();
            tests.push(Test::fail(format!("{kernel}: can be run"), text));
            continue;
        }
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let args = Words::try_parse_from(text.lines())?.args;
        let dir = run.dir.join(format!("xfstests-{kernel}"));
        fs::create_dir_all(&dir)?;
        let accel = run.accel()?;
        let saved = super::run(
            run.lab,
            accel,
            &dir,
            &args,
            &|line| println!("# {line}"),
            // The results are this suite's to print.
            false,
        )?;
        println!("#\n# {}", table(&saved).to_string().replace('\n', "\n# "));
        for (row, mut test) in saved.rows.iter().zip(saved.tests()) {
            let seen = row.wakewatch.as_ref().is_some_and(|w| w.windows > 0);
            if kernel == "broken" {
                // A report fails it, by the kernel's log.
                let failed = row.mark == Mark::Fail && row.why.contains("dmesg");
                let found = row.wakewatch.as_ref();
                let found = found.is_some_and(|w| w.unreferenced_sites > 0 && w.reports() > 0);
                let title = format!("broken: {} fails by wakewatch's reports", row.test);
                test = Test::of(title, failed && found, || test.notes.join("; "));
            } else if row.mark == Mark::Pass && !seen {
                test = Test::fail(&row.test, "wakewatch has seen no window");
            }
            tests.push(test);
        }
    }
    Ok(Test::group("a slice of a tree", tests))
}
