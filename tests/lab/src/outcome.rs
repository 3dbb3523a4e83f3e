// SPDX-License-Identifier: GPL-2.0

//! What became of a guest. Six different things, never one taken for another.

use crate::console::{chief_splat, Console, Line};
use crate::ktap::{Status, Test};
use crate::kvm::Accel;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The script began, and the kernel had not said a word.
    Console,
}

/// The verdict on a guest, and why in one line. `expect` has parts of the kernel findings that the
/// script provokes: they alone are no failure, and the script checks that they come.
pub fn classify(
    console: &Console,
    tests: &[Test],
    limit: Option<Limit>,
    expect: &[String],
) -> (Outcome, String) {
    if limit == Some(Limit::Console) || console.started() && console.kernel_said_nothing() {
        let why = "its console was lost: the script began, and the kernel had not said a word";
        return (Outcome::LabError, why.to_string());
    }
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
    if let Some(why) = console.never_lived() {
        return (Outcome::LabError, why);
    }
    if let Some(panic) = console.panic() {
        let splats = console.splats(console.all());
        let why = chief_splat(&splats).map_or(panic, |splat| splat.summary());
        return (Outcome::Panic, why);
    }
    if let (Some(Limit::Boot(n)), false) = (limit, console.came_to_init()) {
        let why = format!("the guest did not come to its init within {n} s");
        return (Outcome::LabError, why);
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
            Limit::Console => "no console".to_string(),
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
    if console.heard() == (true, false) {
        let why =
            "its console was lost on the way: whatever the kernel has found, nobody has seen it";
        return (Outcome::LabError, why.to_string());
    }
    let mut splats = console.splats(console.all());
    splats.retain(|splat| {
        splat.excuse().is_none() && !expect.iter().any(|part| splat.summary().contains(part))
    });
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

/// Why a guest is to be booted again, once: QEMU has ended by itself, of whatever, or never came past its
/// firmware, and nothing of the script has run that would run twice. What a kernel does at boot is never
/// repeated, a panic least of all; but for two faults of QEMU's emulation (TCG) with several CPUs: at any time,
/// a CPU can run into an int3 that is not there any more (see [`ran_what_is_not_there`]); and now and then, once in
/// some thousands of boots, an interrupt of a CPU is lost, and the guest boots for ever. The kernel may have
/// noticed that; and before it has an init, nothing else is known to hold it up. One that hangs there of its own
/// does so again.
pub fn repeat(console: &Console, limit: Option<Limit>, accel: Accel) -> Option<String> {
    if accel.is_tcg() && ran_what_is_not_there(console) {
        return Some("ran an int3 that was not in memory any more".to_string());
    }
    if console.started() || console.panic().is_some() {
        return None;
    }
    let lost = |line: &Line| {
        line.text
            .contains("rcu: \tPossible timer handling issue on cpu=")
    };
    if accel.is_tcg() && console.lines.iter().any(lost) {
        return Some("lost a timer interrupt while the guest booted".to_string());
    }
    match limit {
        None => {
            let said = console.host_error().unwrap_or("it said nothing of it");
            Some(format!("ended before the script began: {said}"))
        }
        Some(Limit::FirstLine(n)) => Some(format!("had no line from a kernel within {n} s")),
        Some(Limit::Boot(n)) if accel.is_tcg() && !console.came_to_init() => Some(format!(
            "had a kernel that did not come to its init within {n} s"
        )),
        Some(_) => None,
    }
}

/// Has the guest died of an int3 where its own memory holds another instruction? A CPU that patches code (a static
/// call, for one: text_poke_bp_batch(), arch/x86/kernel/alternative.c, 6.12) has QEMU throw away the translations of
/// it before it writes; in between, another CPU may have the old byte translated once more, and goes on running that
/// when the kernel is done with it. Seen with QEMU 7.2 and, once in some thousands of loads of a module, 10.0.
fn ran_what_is_not_there(console: &Console) -> bool {
    let splats = console.splats(console.all());
    if !splats
        .first()
        .is_some_and(|splat| splat.text.starts_with("Oops: int3"))
    {
        return false;
    }
    let lines = console.lines.iter().map(|line| line.text.as_str());
    let code = lines
        .skip_while(|text| !text.contains("Oops: int3"))
        .find_map(|text| text.split_once("Code: "));
    // The instruction pointer, in angle brackets, is behind the int3.
    let before = code.and_then(|(_, code)| code.split_once('<'));
    let byte = before.and_then(|(before, _)| before.split_whitespace().last());
    byte.is_some_and(|byte| byte != "cc")
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
    fn repeated_once_for_what_qemu_has_done() {
        let again = |console: &Console, limit| repeat(console, limit, Accel::Tcg).is_some();
        const INT3: &str = "[    1.0] Oops: int3: 0000 [#1] SMP";
        let int3 = |code: &str| guest(&[START], &[BOOT, INT3, code]);
        let call = int3("[    1.0] Code: 89 de 44 89 f2 e8 <39> e0 fb ff 48");
        assert!(again(&call, None));
        assert!(repeat(&call, None, Accel::Kvm).is_none());
        // One that is there is the kernel's own.
        assert!(!again(&int3("[    1.0] Code: 89 de 44 cc <39> e0"), None));
        assert!(!again(&int3(""), None));
        let hung = Some(Limit::Boot(9));
        const LOST: &str =
            "[   22.046766] rcu: \tPossible timer handling issue on cpu=1 timer-softirq=1";
        assert!(again(&guest(&[], &[BOOT, LOST]), hung));
        assert!(!again(&guest(&[START], &[BOOT, LOST]), hung));
        // Whatever it says, and if it says nothing.
        for said in [
            "qemu-system-x86_64: hw/pci/msix.c:228: msix_table_mmio_write: Assertion `x' failed.",
            "qemu-system-x86_64: system/physmem.c:2678: iotlb_to_section: Assertion `x' failed.",
            "virtme-run: Killed",
            "[    1.0] pci 0000:00:02.0: BAR 0",
        ] {
            assert!(again(&guest(&[], &[BOOT, said]), None), "{said}");
            assert!(!again(&guest(&[START], &[BOOT, said]), None), "{said}");
        }
        assert!(again(&guest(&[], &["SeaBIOS"]), Some(Limit::FirstLine(9))));
        assert!(again(&guest(&[], &[BOOT]), hung));
        assert!(repeat(&guest(&[], &[BOOT]), hung, Accel::Kvm).is_none());
        // A kernel that has an init, and does not come to its script in time, is the kernel's affair.
        const INIT: &str = "[    1.0] Run /usr/lib/virtme-ng-init as init process";
        assert!(!again(&guest(&[], &[BOOT, INIT]), hung));
    }

    #[test]
    fn who_never_lived_is_the_labs_affair() {
        const INIT: &str = "[    1.0] Run /usr/lib/virtme-ng-init as init process";
        const SCRIPT: &[&str] = &[];
        let panic = |text: &str| format!("[    1.1] Kernel panic - not syncing: {text}");
        for (kernel, said) in [
            (
                vec![panic("VFS: Unable to mount root fs on unknown-block(0,0)")],
                "before its init",
            ),
            (
                vec![panic("System is deadlocked on memory")],
                "before its init",
            ),
            (
                vec![
                    INIT.to_string(),
                    panic("Attempted to kill init! exitcode=0x00000100"),
                ],
                "init died",
            ),
            (
                vec![
                    "[    0.9] kernel BUG at a.c:1!".to_string(),
                    panic("Fatal exception"),
                ],
                "before its init: kernel BUG at a.c:1",
            ),
        ] {
            let mut lines = vec![BOOT];
            lines.extend(kernel.iter().map(String::as_str));
            let (outcome, why) = classify(&guest(SCRIPT, &lines), &[], None, &[]);
            assert_eq!(outcome, Outcome::LabError, "{why}");
            assert!(why.contains(said), "{why}");
        }
        let late = panic("Fatal exception");
        let udev = guest(
            SCRIPT,
            &[BOOT, INIT, "[    1.05] kernel BUG at a.c:1!", &late],
        );
        assert_eq!(verdict(&udev, None), Outcome::Panic);
        let init = panic("Attempted to kill init!");
        let script = guest(&[START], &[BOOT, INIT, &init]);
        assert_eq!(verdict(&script, None), Outcome::Panic);
    }

    #[test]
    fn a_console_that_is_lost_is_no_silence() {
        let all = [START, "1..1", "ok 1 a", "# ww-lab: end 0"];
        let begun = "[    2.0] ww-lab: start";
        let over = "[    3.0] ww-lab: end of the script";
        assert_eq!(
            verdict(&guest(&all, &[BOOT, begun, over]), None),
            Outcome::Pass
        );
        assert_eq!(
            verdict(&guest(&all, &[BOOT, begun]), None),
            Outcome::LabError
        );
        assert_eq!(verdict(&guest(&all, &[]), None), Outcome::LabError);
        let never = guest(&[START], &[]);
        assert_eq!(verdict(&never, Some(Limit::Console)), Outcome::LabError);
    }

    #[test]
    fn a_panic_at_boot_is_never_repeated() {
        const PANIC: &str = "[    1.1] Kernel panic - not syncing: Attempted to kill init!";
        for limit in [None, Some(Limit::AfterPanic(9))] {
            let dead = guest(&[], &[BOOT, PANIC]);
            assert_eq!(repeat(&dead, limit, Accel::Tcg), None);
        }
        let other = guest(
            &[],
            &[
                BOOT,
                "[    0.9] kernel BUG at a.c:1!",
                "[    1.0] Oops: int3: 0000",
                PANIC,
            ],
        );
        assert_eq!(repeat(&other, None, Accel::Tcg), None);
    }

    #[test]
    fn the_live_read_race_is_no_failure_of_its_guest() {
        let warned = |caller: &str| {
            let frame = format!("[    9.1]  {caller}+0x8c/0x130");
            guest(
                &[START, "1..1", "ok 1 a", "# ww-lab: end 0"],
                &[
                    BOOT,
                    "[    9.1] WARNING: CPU: 0 PID: 1 at mm/filemap.c:1 folio_wake_bit+0x1/0x2",
                    "[    9.1] Call Trace:",
                    &frame,
                ],
            )
        };
        assert_eq!(verdict(&warned("__read_end_io"), None), Outcome::Pass);
        assert_eq!(verdict(&warned("shrink_folio_list"), None), Outcome::Fail);
    }
}
