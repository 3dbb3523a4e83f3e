// SPDX-License-Identifier: GPL-2.0

//! What became of a guest. Six different things, never one taken for another.

use crate::console::{chief_splat, Console, Line};
use crate::ktap::{Status, Test};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Pass,
    /// A `not ok`, a missing result, a kernel finding, or a non-zero exit status.
    Fail,
    Skip,
    /// The guest's kernel panicked.
    Panic,
    /// The guest booted and did not come to its end in time.
    Timeout,
    /// There was no guest to speak of: QEMU, virtme-ng or the image is at fault.
    LabError,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::LabError => "lab error",
        })
    }
}

/// What ended a guest that did not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No kernel line came.
    FirstLine(u64),
    /// The kernel booted, the script did not start.
    Boot(u64),
    /// The script did not end.
    Script(u64),
    /// The script said nothing.
    Stall(u64),
    /// The script ended, the guest did not power off.
    PowerOff(u64),
    /// The kernel panicked, QEMU did not end.
    AfterPanic(u64),
}

/// The verdict on a guest, and why in one line. `expect` has parts of the kernel findings that the
/// script provokes: they alone are no failure, and the script checks that they come.
pub fn classify(
    console: &Console,
    tests: &[Test],
    limit: Option<Limit>,
    expect: &[String],
) -> (Outcome, String) {
    if console.release().is_none() {
        let why = match (console.host_error(), limit) {
            (Some(error), _) => error.to_string(),
            (None, Some(Limit::FirstLine(n))) => {
                format!("never booted: no line from a kernel within {n} s")
            }
            (None, _) => "never booted: QEMU ended without a line from a kernel".to_string(),
        };
        return (Outcome::LabError, why);
    }
    if let Some(panic) = console.panic() {
        let splats = console.splats(console.all());
        let why = chief_splat(&splats).map_or(panic, |splat| splat.summary());
        return (Outcome::Panic, why);
    }
    if let Some(limit) = limit {
        let why = match limit {
            Limit::FirstLine(n) => format!("no end within {n} s"),
            Limit::Boot(n) => format!("booted, but the script did not start within {n} s"),
            Limit::Script(n) => format!("the script did not end within {n} s"),
            Limit::Stall(n) => format!("the script said nothing for {n} s"),
            Limit::PowerOff(n) => {
                format!("the script ended, but the guest did not power off within {n} s")
            }
            Limit::AfterPanic(n) => format!("QEMU did not end within {n} s"),
        };
        return (Outcome::Timeout, why);
    }
    if !console.started() {
        let why = "QEMU ended before the script started".to_string();
        return (Outcome::LabError, why);
    }
    let Some(status) = console.ended() else {
        let why = "QEMU ended while the script was running, without a panic".to_string();
        return (Outcome::LabError, why);
    };
    let mut splats = console.splats(console.all());
    splats.retain(|splat| !expect.iter().any(|part| splat.summary().contains(part)));
    if let Some(splat) = chief_splat(&splats) {
        return (Outcome::Fail, splat.summary());
    }
    let sum = Test::group("", tests.to_vec());
    let counts = sum.counts();
    if !tests.is_empty() && sum.status == Status::Fail {
        return (Outcome::Fail, counts.to_string());
    }
    match status {
        0 if !tests.is_empty() && sum.status == Status::Skip => (Outcome::Skip, counts.to_string()),
        0 if tests.is_empty() => (Outcome::Pass, "exit status 0".to_string()),
        0 => (Outcome::Pass, counts.to_string()),
        4 if counts.passed == 0 => (Outcome::Skip, counts.to_string()),
        n => (Outcome::Fail, format!("exit status {n}")),
    }
}

/// The guest's leaves, with a failure in place of what a guest that did not come to its
/// end can't have said.
pub fn settle(outcome: Outcome, why: &str, mut tests: Vec<Test>) -> Vec<Test> {
    let sum = Test::group("", tests.clone()).counts();
    match outcome {
        Outcome::Pass | Outcome::Skip => {}
        Outcome::Fail if sum.failed > 0 => {}
        _ => tests.push(Test::fail(format!("guest: {outcome}"), why)),
    }
    tests
}

/// What went wrong if it is a fault of QEMU's emulation with several vCPUs (TCG) that is worth a second
/// try: before 8.1, a CPU could run into the int3 of a static key being patched; now and then a timer
/// interrupt of a CPU is lost, and the guest boots for ever; and QEMU can fail an assertion of its own while
/// the guest maps its PCI devices (seen once of some hundred boots of 10.0.2, on a host with more to do than
/// cores). After the script has started, only the first is taken for one.
pub fn qemu_fault(console: &Console, qemu: (u32, u32)) -> Option<&'static str> {
    let splats = console.splats(console.all());
    let int3 = |text: &str| text.starts_with("Oops: int3");
    if qemu < (8, 1) && splats.first().is_some_and(|splat| int3(&splat.text)) {
        return Some("died on an int3 of a static key");
    }
    let lost = |line: &Line| {
        line.text
            .contains("rcu: \tPossible timer handling issue on cpu=")
    };
    let asserted = |line: &Line| {
        line.text.starts_with("qemu-system-")
            && line.text.contains(": iotlb_to_section: Assertion ")
    };
    let booting =
        |what: &dyn Fn(&Line) -> bool| !console.started() && console.lines.iter().any(what);
    if booting(&lost) {
        return Some("lost a timer interrupt while the guest booted");
    }
    booting(&asserted)
        .then_some("failed its assertion in iotlb_to_section() while the guest booted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Stream;
    use crate::ktap;

    fn guest(script: &[&str], kernel: &[&str]) -> Console {
        let mut console = Console::default();
        for line in kernel {
            console.push(Stream::Console, line.to_string());
        }
        for line in script {
            console.push(Stream::Script, line.to_string());
        }
        console
    }

    const BOOT: &str = "[    0.000000] Linux version 6.12.117 (a)";
    const START: &str = "# ww-lab: start";

    fn verdict(console: &Console, limit: Option<Limit>) -> Outcome {
        classify(console, &ktap::parse(console.results()), limit, &[]).0
    }

    #[test]
    fn six_things() {
        let end = "# ww-lab: end 0";
        let ok = guest(&[START, "1..1", "ok 1 a", end], &[BOOT]);
        assert_eq!(verdict(&ok, None), Outcome::Pass);
        let fail = guest(&[START, "1..1", "not ok 1 a", end], &[BOOT]);
        assert_eq!(verdict(&fail, None), Outcome::Fail);
        let short = guest(&[START, "1..2", "ok 1 a", end], &[BOOT]);
        assert_eq!(verdict(&short, None), Outcome::Fail);
        let status = guest(&[START, "1..1", "ok 1 a", "# ww-lab: end 3"], &[BOOT]);
        assert_eq!(verdict(&status, None), Outcome::Fail);
        let skip = guest(
            &[START, "1..1", "ok 1 a # SKIP b", "# ww-lab: end 4"],
            &[BOOT],
        );
        assert_eq!(verdict(&skip, None), Outcome::Skip);
        let panic = guest(
            &[START, "1..1"],
            &[BOOT, "[    9.1] Kernel panic - not syncing: x"],
        );
        assert_eq!(verdict(&panic, None), Outcome::Panic);
        assert_eq!(verdict(&panic, Some(Limit::AfterPanic(9))), Outcome::Panic);
        let hung = guest(&[START, "1..1"], &[BOOT]);
        assert_eq!(verdict(&hung, Some(Limit::Script(2))), Outcome::Timeout);
        assert_eq!(verdict(&hung, None), Outcome::LabError);
        let never = guest(&[], &["qemu: bad image"]);
        assert_eq!(verdict(&never, None), Outcome::LabError);
        assert_eq!(
            verdict(&never, Some(Limit::FirstLine(8))),
            Outcome::LabError
        );
        let oops = guest(
            &[START, "1..1", "ok 1 a", end],
            &[BOOT, "[    9.1] WARNING: CPU: 0 PID: 1 at mm/filemap.c:1 x"],
        );
        assert_eq!(verdict(&oops, None), Outcome::Fail);
    }

    #[test]
    fn a_dead_guest_has_a_failure() {
        let tests = settle(Outcome::Panic, "x", vec![Test::new("a", Status::Pass)]);
        assert_eq!(Test::group("", tests).counts().failed, 1);
        let tests = settle(Outcome::LabError, "x", vec![]);
        assert_eq!(Test::group("", tests).counts().failed, 1);
    }

    #[test]
    fn retry_only_on_known_signatures() {
        let int3 = guest(&[], &[BOOT, "[    1.0] Oops: int3: 0000 [#1] SMP"]);
        assert!(qemu_fault(&int3, (7, 2)).is_some());
        assert!(qemu_fault(&int3, (8, 1)).is_none());
        const LOST: &str =
            "[   22.046766] rcu: \tPossible timer handling issue on cpu=1 timer-softirq=1";
        assert!(qemu_fault(&guest(&[], &[BOOT, LOST]), (8, 1)).is_some());
        assert!(qemu_fault(&guest(&[START], &[BOOT, LOST]), (8, 1)).is_none());
        const ASSERTED: &str =
            "qemu-system-x86_64: system/physmem.c:2678: iotlb_to_section: Assertion `section_index < d->map.sections_nb' failed.";
        assert!(qemu_fault(&guest(&[], &[BOOT, ASSERTED]), (10, 0)).is_some());
        assert!(qemu_fault(&guest(&[START], &[BOOT, ASSERTED]), (10, 0)).is_none());
        assert!(qemu_fault(&guest(&[], &[BOOT]), (7, 2)).is_none());
        let other = guest(
            &[],
            &[
                BOOT,
                "[    0.9] kernel BUG at a.c:1!",
                "[    1.0] Oops: int3: 0000",
            ],
        );
        assert!(qemu_fault(&other, (7, 2)).is_none());
    }
}
