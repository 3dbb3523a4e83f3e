// SPDX-License-Identifier: GPL-2.0

//! For `lab test`: bad input, and a slice of a tree where there is one.

use super::{table, Args, Mark};
use crate::env::Lab;
use crate::ktap::{Status, Test};
use crate::suites::Run;
use anyhow::{Context, Result};
use clap::Parser;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What is refused, and the words that say so. NAME=VALUE words; `{}` is where the trees are.
const REFUSED: &[(&str, &[&str], &str)] = &[
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
        "need 2G at least",
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
        "a limit that is no number",
        &["XFSTESTS={}/built", "LIMIT=soon"],
        "a number of at least 10",
    ),
];

/// Bad input; and with XFSTESTS a slice of the real thing, on a kernel where it must pass and on one where
/// it must fail.
pub fn suite(run: &mut Run) -> Result<Vec<Test>> {
    let mut tests = refusals(run.lab, &run.dir.join("xfstests-trees"))?;
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

fn script(lab: &Lab) -> Command {
    let mut cmd = Command::new("/bin/bash");
    cmd.arg(lab.root.join("scripts/xfstests.sh"));
    let ours =
        "XFSTESTS KERNEL TESTS FORM WAKEWATCH LIMIT MINUTES MEMORY EXCLUDE DISK_MB CONFIG_VARIANT";
    for name in ours.split(' ') {
        cmd.env_remove(name);
    }
    cmd
}

fn refusals(lab: &Lab, trees: &Path) -> Result<Vec<Test>> {
    use std::os::unix::fs::PermissionsExt;
    let file = |name: &str| -> Result<()> {
        let path = trees.join(name);
        fs::create_dir_all(path.parent().unwrap_or(trees))?;
        fs::write(&path, "")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    };
    file("none/README")?;
    for tree in ["unbuilt", "built"] {
        for name in ["check", "common/rc", "tests/generic/001"] {
            file(&format!("{tree}/{name}"))?;
        }
    }
    for name in ["ltp/fsx", "src/feature", "tests/generic/group.list"] {
        file(&format!("built/{name}"))?;
    }
    fs::write(trees.join("bare"), "generic/001\n")?;
    let here = trees.display().to_string();
    let mut tests = Vec::new();
    let cases = REFUSED
        .iter()
        .map(|&(what, set, said)| (what, set, Some(said)));
    // What is refused for nothing else would be refused for good.
    let good: &[&str] = &["XFSTESTS={}/built", "TESTS=generic/001 wakewatch"];
    for (what, set, said) in cases.chain([("what is right is taken", good, None)]) {
        let mut cmd = script(lab);
        cmd.arg("--check").env("TESTS", "generic/001");
        for pair in set {
            if let Some((name, value)) = pair.split_once('=') {
                cmd.env(name, value.replace("{}", &here));
            }
        }
        let out = cmd.output().context("scripts/xfstests.sh does not start")?;
        let text = String::from_utf8_lossy(&out.stderr);
        let right = match said {
            Some(said) => {
                !out.status.success() && text.trim_end().lines().count() == 1 && text.contains(said)
            }
            None => out.status.success(),
        };
        let title = match said {
            Some(_) => format!("{what}: one line, and nothing else"),
            None => what.to_string(),
        };
        tests.push(Test::of(title, right, || {
            format!("{}: {}", out.status, text.trim_end())
        }));
    }
    Ok(tests)
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
        let out = script(run.lab)
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
