// SPDX-License-Identifier: GPL-2.0

//! `make run`, for `lab test`: what it refuses, and one program of each kind.

use super::judge::{Judgement, Verdict};
use super::{boot, Args, Words};
use crate::ktap::Test;
use crate::refusals;
use crate::suites::Run;
use anyhow::Result;
use clap::Parser;
use std::fs;

/// `{}` is where the files are.
const REFUSED: &[refusals::Case] = &[
    ("run: nothing to run", &[], "say what to run"),
    (
        "run: two things to run",
        &["CMD=true", "SCRIPT={}/good.c"],
        "say what to run",
    ),
    (
        "run: a program that isn't there",
        &["PROG={}/nope.c"],
        "no such file",
    ),
    (
        "run: a program that is no source",
        &["PROG={}/bare"],
        "C source is wanted",
    ),
    (
        "run: a program that does not build",
        &["PROG={}/bad.c"],
        "error: ",
    ),
    (
        "run: more CPUs than there may be",
        &["CMD=true", "CPUS=9"],
        "a number of 1 to 8",
    ),
    (
        "run: more CPUs than that variant has",
        &["CMD=true", "CPUS=8", "CONFIG_VARIANT=debug"],
        "has 4 at most",
    ),
    (
        "run: a form that isn't there",
        &["CMD=true", "FORM=zfs"],
        "btrfs, tmpfs, none",
    ),
    (
        "run: a disk that isn't there",
        &["CMD=true", "DISK=nfs"],
        "there are loop, virtio, 9p",
    ),
    (
        "run: a disk under a tmpfs",
        &["CMD=true", "FORM=tmpfs", "DISK=virtio"],
        "FORM=tmpfs has no disk",
    ),
    (
        "run: two ends",
        &["CMD=true", "ROUNDS=1", "DURATION=1"],
        "not both",
    ),
    (
        "run: a kernel that isn't there",
        &["CMD=true", "KERNEL=nope"],
        "no kernel 'nope'",
    ),
    (
        "run: a bisection that is neither",
        &["CMD=true", "BISECT=yes"],
        "BISECT=yes: ",
    ),
];
const TAKEN: &[&str] = &["PROG={}/good.c", "FORM=none", "DISK=virtio", "CPUS=8"];

/// More folios than a batch of the LRU or of who writes back holds, which have a reference to each.
const WRITE: &str = "dd if=/dev/zero of=file bs=4k count=128 status=none && sync file";

/// What it is, on which kernel, more arguments, the command, what is concluded, and a part of the reason.
type Case = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
    Verdict,
    &'static str,
);

const CASES: &[Case] = &[
    (
        "a page written on broken",
        "broken",
        &[],
        WRITE,
        Verdict::Found,
        "unreferenced end of writeback",
    ),
    (
        "the same on fixed",
        "fixed",
        &["--disk=virtio", "--cpus=1"],
        WRITE,
        Verdict::Nothing,
        "2 rounds",
    ),
    (
        "the same, asked for something else",
        "broken",
        &["--finds=zero-ref"],
        WRITE,
        Verdict::Nothing,
        "2 rounds",
    ),
    (
        "a program that fails",
        "fixed",
        &["--fstyp=tmpfs", "--mkfs-options="],
        "echo no good; exit 3",
        Verdict::Found,
        "exit status 3",
    ),
    (
        "a program that goes on for ever, in the background",
        "fixed",
        &["--fstyp=none", "--mkfs-options=", "--limit=2"],
        "setsid sleep 1000 & sleep 1000",
        Verdict::Nothing,
        "2 of them killed after 2 s",
    ),
    (
        "a program that can't be run here",
        "fixed",
        &["--disk=9p"],
        "exit 4",
        Verdict::Unknown,
        "every one was skipped",
    ),
    (
        "a kernel that dies",
        "fixed",
        &[],
        "echo c >/proc/sysrq-trigger",
        Verdict::Died,
        "sysrq triggered crash",
    ),
    (
        "a file system that can't be made",
        "fixed",
        &["--mkfs-options=-b 17"],
        WRITE,
        Verdict::Unknown,
        "not set up",
    ),
];

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

pub fn suite(run: &mut Run) -> Result<Vec<Test>> {
    let files = run.dir.join("run-files");
    fs::create_dir_all(&files)?;
    fs::write(files.join("good.c"), "int main(void) { return 0; }\n")?;
    fs::write(files.join("bad.c"), "int main(void) { return none; }\n")?;
    let mut tests = refusals::suite(run.lab, "run", &files, REFUSED, TAKEN)?;
    for (n, (title, kernel, more, command, verdict, why)) in CASES.iter().enumerate() {
        let line = [
            "run",
            "--kernel",
            *kernel,
            "--rounds",
            "2",
            "--command",
            *command,
        ];
        let args = Line::parse_from(line.iter().chain(*more)).args;
        let words = Words::new(&args)?;
        let mut boot = boot(run.lab, &args, &words)?;
        boot.name = format!("run-{n}");
        boot.live = false;
        let dir = run.dir.join(&boot.name);
        let disk = args.prepare(run.lab, &dir, &mut boot)?;
        let guest = run.boot(&boot)?;
        drop(disk);
        let judgement = Judgement::of(&guest, words.finds.as_ref());
        let right = judgement.verdict == *verdict && judgement.why.contains(why);
        let test = Test::of(format!("{title}: {verdict}"), right, || {
            let log = guest.dir.join("console.log");
            format!(
                "{}: {}, {}",
                judgement.verdict,
                judgement.why,
                log.display()
            )
        });
        tests.push(test.about(boot.kernel.build()));
    }
    Ok(tests)
}
