// SPDX-License-Identifier: GPL-2.0

//! Bad input, for `lab test`: a script that is given something it can't use says so in one line, before
//! it builds or boots anything.

use crate::env::Lab;
use crate::ktap::Test;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What it is, the NAME=VALUE words of it, and a part of what is said.
pub type Case = (&'static str, &'static [&'static str], &'static str);

/// What the scripts take from the environment; none of the caller's comes through.
const OURS: &[&str] = &[
    "XFSTESTS",
    "KERNEL",
    "TESTS",
    "FORM",
    "WAKEWATCH",
    "LIMIT",
    "MINUTES",
    "MEMORY",
    "EXCLUDE",
    "DISK_MB",
    "DURATION",
    "DELAY",
    "CONFIG_VARIANT",
    "CPUS",
    "BUSY",
    "BESIDE",
    "ONLY",
    "PROG",
    "SCRIPT",
    "CMD",
    "DISK",
    "KNOBS",
    "ROUNDS",
    "FINDS",
    "BISECT",
    "SHARD",
    "RUNS",
];

/// scripts/NAME.sh, with nothing asked for.
pub fn script(lab: &Lab, name: &str) -> Command {
    let mut cmd = Command::new("/bin/bash");
    cmd.arg(lab.root.join(format!("scripts/{name}.sh")));
    for name in OURS {
        cmd.env_remove(name);
    }
    cmd
}

/// Things that look like xfstests trees, more or less.
fn make(trees: &Path) -> Result<()> {
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
    for name in [
        "ltp/fsx",
        "ltp/fsstress",
        "src/feature",
        "tests/generic/group.list",
    ] {
        file(&format!("built/{name}"))?;
    }
    fs::write(trees.join("bare"), "generic/001\n")?;
    Ok(())
}

/// A result for each of them, and one for what is to be taken: a script that refuses everything is no help.
pub fn suite(
    lab: &Lab,
    name: &str,
    trees: &Path,
    refused: &[Case],
    taken: &[&str],
) -> Result<Vec<Test>> {
    make(trees)?;
    let here = trees.display().to_string();
    let mut tests = Vec::new();
    let cases = refused
        .iter()
        .map(|&(what, set, said)| (what, set, Some(said)));
    let right = format!("{name}: what is right is taken");
    for (what, set, said) in cases.chain([(right.as_str(), taken, None)]) {
        let mut cmd = script(lab, name);
        cmd.arg("--check").env("TESTS", "generic/001");
        for pair in set {
            if let Some((name, value)) = pair.split_once('=') {
                cmd.env(name, value.replace("{}", &here));
            }
        }
        let out = cmd
            .output()
            .with_context(|| format!("scripts/{name}.sh does not start"))?;
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
