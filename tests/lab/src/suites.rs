// SPDX-License-Identifier: GPL-2.0

//! `lab test`: the suites, as KTAP, with progress as diagnostics between.

use crate::console::MARK_START;
use crate::env::{self, Lab, Needs};
use crate::guest::{self, Boot, Guest, Record, GUEST_CPUS};
use crate::kernels::{self, Hooked, Which};
use crate::ktap::{self, Counts, Status, Test};
use crate::kvm::{self, Accel};
use crate::matrix;
use crate::mutants;
use crate::outcome::Outcome;
use crate::refusals;
use crate::repro;
use crate::results::{self, Results, Suite as Group};
use crate::run;
use crate::soak;
use crate::stress;
use crate::vmcore;
use crate::xfstests;
use anyhow::{bail, Context, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A suite's part of the run.
pub struct Run<'a> {
    pub lab: &'a Lab,
    /// The whole run's: names in it are one suite's.
    pub dir: PathBuf,
    suite: &'static str,
    /// Of its guests, if it may have any.
    accel: Option<Accel>,
    boots: Vec<Record>,
}

type Suite = fn(&mut Run) -> Result<Vec<Test>>;

/// How the CPUs of a suite's guests have to run, where they are emulated.
#[derive(Clone, Copy, PartialEq)]
enum Cpus {
    /// At the same time: what it is about comes of that.
    AtOnce,
    /// In turn will do ([`Accel::TcgInTurn`]): windows are held open by a delay, or there is no race.
    InTurn,
}

/// In this order they begin: what takes long does not come last, for a CPU would have nothing to do then; and two whose
/// guests need all of them at once do not come together.
const SUITES: &[(&str, Cpus, Suite)] = &[
    (HOST_ONLY, Cpus::InTurn, static_checks),
    ("mutants", Cpus::InTurn, mutants::suite),
    ("module", Cpus::InTurn, module),
    ("detector", Cpus::InTurn, detector),
    ("repro", Cpus::InTurn, rows),
    ("stress", Cpus::AtOnce, stress::suite),
    ("harness", Cpus::InTurn, harness),
    ("soak", Cpus::AtOnce, soak::suite),
    ("matrix", Cpus::InTurn, matrix::suite),
    ("run", Cpus::InTurn, run::suite),
    ("xfstests", Cpus::AtOnce, xfstests::suite),
    ("assertion", Cpus::InTurn, assertion),
    ("drgn", Cpus::InTurn, vmcore::suite),
    ("series", Cpus::AtOnce, series),
];

/// What the guests of a suite have, one after another, at most; xfstests' have more than others.
const SUITE_MEMORY: u64 = 4 << 30;

fn host_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// How many suites with guests run at a time, if nobody has said: where there is memory for that, as many as
/// there are CPUs. A guest has two, but a third of the time it waits: for RCU between hooks, or for
/// what is not to come.
fn at_once() -> usize {
    let memory = (env::available_memory() / SUITE_MEMORY) as usize;
    host_cpus().min(memory).clamp(1, 4)
}

/// What the guests of a suite run on. On a host that is crowded, which has fewer CPUs than the guests of all suites at
/// a time, they can't all run at once anyway, and those of a suite that does not need it run in turn.
fn accel_of(accel: Accel, cpus: Cpus, crowded: bool) -> Accel {
    match (accel, cpus) {
        (Accel::Tcg, Cpus::InTurn) if crowded => Accel::TcgInTurn,
        _ => accel,
    }
}

/// The suite that boots nothing, and runs beside the others.
const HOST_ONLY: &str = "static";

/// What a suite has found.
type Done = (Group, Vec<Record>);

/// `lab test`: all suites, or one, so many at a time.
pub fn verb(lab: &Lab, only: Option<&str>, jobs: Option<usize>) -> Result<bool> {
    let suites: Vec<_> = SUITES
        .iter()
        .filter(|(name, ..)| only.is_none_or(|only| only == *name))
        .collect();
    if suites.is_empty() {
        let names: Vec<&str> = SUITES.iter().map(|(name, ..)| *name).collect();
        bail!(
            "no suite `{}`: there are {}",
            only.unwrap_or(""),
            names.join(", ")
        );
    }
    let dir = lab.run_dir("test")?;
    let begun = Instant::now();
    println!("KTAP version 1\n1..{}", suites.len());
    let accel = match suites.iter().any(|(name, ..)| *name != HOST_ONLY) {
        true => Some(kvm::probe(lab, &dir, &|line| println!("# {line}"))?),
        false => None,
    };
    let jobs = jobs.unwrap_or_else(at_once);
    println!("# {HOST_ONLY} beside the others, of which {jobs} at a time (JOBS=)");
    let crowded = jobs * GUEST_CPUS > host_cpus();
    if accel == Some(Accel::Tcg) && crowded {
        let spared: Vec<&str> = (suites.iter())
            .filter(|(_, cpus, _)| *cpus == Cpus::AtOnce)
            .map(|(name, ..)| *name)
            .collect();
        println!(
            "# {} CPUs are fewer than those of {jobs} guests, which run in turn, but in: {}",
            host_cpus(),
            spared.join(", ")
        );
    }
    let queues = [true, false].map(|host_only| {
        let all = suites.iter().enumerate();
        let mine = all.filter(|(_, (name, ..))| (*name == HOST_ONLY) == host_only);
        Mutex::new(mine.map(|(i, _)| i).collect::<VecDeque<_>>())
    });
    let results: Mutex<Vec<Option<Done>>> = Mutex::new(suites.iter().map(|_| None).collect());
    let printed = AtomicUsize::new(0);
    let work = |queue: &Mutex<VecDeque<usize>>| {
        let next = || locked(queue).pop_front();
        while let Some(i) = next() {
            let (name, cpus, suite) = suites[i];
            let mut run = Run {
                lab,
                dir: dir.clone(),
                suite: name,
                accel: accel.map(|accel| accel_of(accel, *cpus, crowded)),
                boots: Vec::new(),
            };
            let group = one(name, *suite, &mut run);
            if let Err(err) = run.keep(&group.test) {
                println!("# {name}: not kept for lab kernels: {err:#}");
            }
            let mut results = locked(&results);
            results[i] = Some((group, run.boots));
            // In their order: KTAP has numbers.
            while let Some(Some((group, _))) = results.get(printed.load(Relaxed)) {
                let n = printed.fetch_add(1, Relaxed) + 1;
                let mut out = String::new();
                group.test.write(n, 0, &mut out);
                print!("{out}");
            }
        }
    };
    std::thread::scope(|scope| {
        let [host, guests] = &queues;
        scope.spawn(|| work(host));
        for _ in 0..jobs {
            scope.spawn(|| work(guests));
        }
    });
    let done: Vec<Done> = results
        .into_inner()
        .unwrap_or_else(|err| err.into_inner())
        .into_iter()
        .flatten()
        .collect();
    if done.len() != suites.len() {
        bail!("{} of {} suites have ended", done.len(), suites.len());
    }

    let mut sum = Counts::default();
    println!("#");
    for (group, _) in &done {
        let test = &group.test;
        let counts = test.counts();
        let seconds = test.seconds.unwrap_or(0.0);
        println!("# {:8} {counts} ({seconds:.0} s)", test.name);
        for failure in failures(test, "") {
            println!("#   not ok: {failure}");
        }
        sum += counts;
    }
    let good = sum.are_good();
    let results = Results {
        verb: "test",
        good,
        seconds: begun.elapsed().as_secs_f64(),
        suites: done.iter().map(|(group, _)| group.clone()).collect(),
        boots: done.iter().flat_map(|(_, boots)| boots).collect(),
        data: Value::Null,
    };
    results.write(lab, &dir)?;
    for line in lab.tally().lines() {
        println!("# {line}");
    }
    println!("# results: {}", dir.display());
    // Here and not by make: the line with the counts is to be the last one.
    let cache = Command::new("/bin/bash")
        .arg(lab.root.join("scripts/cache.sh"))
        .output()
        .context("scripts/cache.sh does not start")?;
    print!("# {}", String::from_utf8_lossy(&cache.stdout));
    println!("{sum}");
    Ok(good)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|err| err.into_inner())
}

/// Runs one. A suite that can't run has failed, and the next one has its turn.
fn one(name: &'static str, suite: Suite, run: &mut Run) -> Group {
    run.progress("begins");
    let begun = Instant::now();
    let mut tests = suite(run)
        .unwrap_or_else(|err| vec![Test::fail(format!("{name} runs"), format!("{err:#}"))]);
    if tests.is_empty() {
        tests.push(Test::fail("has results", "the suite has no results"));
    }
    Group::new(name, begun.elapsed().as_secs_f64(), tests)
}

impl Run<'_> {
    /// A line for who watches: several suites may be at work.
    pub fn progress(&self, text: &str) {
        println!("# {}: {text}", self.suite);
    }

    /// Boots one guest with a progress line before and after.
    pub fn boot(&mut self, boot: &Boot) -> Result<Guest> {
        let accel = self.accel()?;
        self.progress(&format!("boot {}: {}", boot.kernel.key, boot.name));
        let guest = guest::run(self.lab, accel, &self.dir, boot)?;
        let result = &guest.result;
        for why in &result.retries {
            self.progress(&format!("  booted twice: {why}"));
        }
        self.progress(&format!(
            "  {}: {} after {:.1} s ({})",
            boot.name, result.outcome, result.seconds, result.why
        ));
        self.boots.push(result.clone());
        Ok(guest)
    }

    /// Those of the suite so far.
    pub fn boots(&self) -> &[Record] {
        &self.boots
    }

    /// For `lab kernels`: of each kernel that the suite has booted.
    fn keep(&self, test: &Test) -> Result<()> {
        let mut kernels = Hooked::new();
        for boot in &self.boots {
            let kernel = Which::of(&self.lab.kernel(&boot.kernel)?)?;
            kernels::booted(&mut kernels, kernel, &boot.hooks);
        }
        let failed = failures(test, "");
        let wrong = failed.first().map(|first| match failed.len() {
            1 => first.clone(),
            n => format!("{first}, and {} more", n - 1),
        });
        kernels::keep(self.lab, &kernels, self.suite, wrong)
    }

    pub fn accel(&self) -> Result<Accel> {
        self.accel.context("no guest was expected here")
    }
}

/// What needs no guest: style, patches, and tests on the host, by scripts/check.sh.
fn static_checks(run: &mut Run) -> Result<Vec<Test>> {
    let script = run.lab.root.join("scripts/check.sh");
    let mut child = Command::new("/bin/bash")
        .arg(&script)
        .current_dir(&run.lab.root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", script.display()))?;
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().context("no stdout")?).lines() {
        let line = line?;
        if line.trim_start().starts_with("ok ") || line.trim_start().starts_with("not ok ") {
            run.progress(line.trim());
        }
        lines.push(line);
    }
    let status = child.wait()?;
    fs::write(run.dir.join("check.ktap"), lines.join("\n") + "\n")?;
    let mut tests = ktap::parse(lines.iter().map(String::as_str));
    let failed = Test::group("", tests.clone()).counts().failed;
    if !status.success() && status.code() != Some(4) && failed == 0 {
        tests.push(Test::fail(
            "check.sh",
            format!("{status} without a failed test"),
        ));
    }
    Ok(tests)
}

/// A guest that must be reported as what it is.
struct Case {
    name: &'static str,
    image: Image,
    outcome: Outcome,
    /// Part of the reason given.
    why: &'static str,
    /// Of the guest's own leaves.
    counts: (usize, usize, usize),
    /// Is it booted a second time? Not what a kernel has done, nor a script; but a kernel that hangs, without KVM.
    repeated: bool,
}

enum Image {
    /// tests/guest/harness/NAME.sh on the stock kernel.
    Stock,
    /// The same with hang.sh, which has a minute but may not be silent.
    Silent,
    /// A kernel image that is none.
    Garbage,
    /// The stock kernel on a machine that QEMU refuses to make.
    Refused,
    /// The same, with another kernel parameter.
    Append(&'static str),
    /// The same, waiting for ever for a disk with its root.
    NoDisk,
    /// The same, with so little memory.
    Memory(&'static str),
    /// The same with hang.sh, and somebody kills QEMU.
    Killed,
}

const CASES: &[Case] = &[
    Case {
        name: "pass",
        image: Image::Stock,
        outcome: Outcome::Pass,
        why: "2 passed",
        counts: (2, 0, 0),
        repeated: false,
    },
    Case {
        name: "fail",
        image: Image::Stock,
        outcome: Outcome::Fail,
        why: "1 failed",
        counts: (2, 1, 0),
        repeated: false,
    },
    Case {
        name: "status",
        image: Image::Stock,
        outcome: Outcome::Fail,
        why: "exit status 3",
        counts: (1, 1, 0),
        repeated: false,
    },
    Case {
        name: "skip",
        image: Image::Stock,
        outcome: Outcome::Skip,
        why: "1 skipped",
        counts: (0, 0, 1),
        repeated: false,
    },
    Case {
        name: "panic",
        image: Image::Stock,
        outcome: Outcome::Panic,
        why: "sysrq triggered crash",
        // The test that was planned and never came, and the guest.
        counts: (1, 2, 0),
        repeated: false,
    },
    Case {
        name: "hang",
        image: Image::Stock,
        outcome: Outcome::Timeout,
        why: "the script did not end within 8 s",
        counts: (1, 2, 0),
        repeated: false,
    },
    Case {
        name: "hang-kernel",
        image: Image::Stock,
        outcome: Outcome::Timeout,
        why: "the script did not end within 8 s",
        counts: (1, 2, 0),
        repeated: false,
    },
    Case {
        name: "silent",
        image: Image::Silent,
        outcome: Outcome::Timeout,
        why: "the script said nothing for 8 s",
        counts: (1, 2, 0),
        repeated: false,
    },
    Case {
        name: "never-boots",
        image: Image::Garbage,
        outcome: Outcome::LabError,
        why: "no line from a kernel within 5 s",
        counts: (0, 1, 0),
        repeated: true,
    },
    Case {
        name: "refused",
        image: Image::Refused,
        outcome: Outcome::LabError,
        why: "qemu-system-x86_64: ",
        counts: (0, 1, 0),
        repeated: true,
    },
    Case {
        name: "no-disk",
        image: Image::NoDisk,
        outcome: Outcome::LabError,
        why: "the guest did not come to its init within 10 s",
        counts: (0, 1, 0),
        repeated: true,
    },
    Case {
        name: "no-root",
        image: Image::Append("rootfstype=ext4"),
        outcome: Outcome::LabError,
        why: "the guest died before its init: VFS: Unable to mount root fs",
        counts: (0, 1, 0),
        repeated: false,
    },
    Case {
        name: "no-memory",
        image: Image::Memory("32M"),
        outcome: Outcome::LabError,
        why: "never booted: QEMU ended without a line from a kernel",
        counts: (0, 1, 0),
        repeated: true,
    },
    Case {
        name: "no-console",
        image: Image::Append("quiet loglevel=0"),
        outcome: Outcome::LabError,
        why: "its console was lost: the script began",
        counts: (2, 1, 0),
        repeated: false,
    },
    Case {
        name: "console-lost",
        image: Image::Stock,
        outcome: Outcome::LabError,
        why: "its console was lost on the way",
        counts: (1, 1, 0),
        repeated: false,
    },
    Case {
        name: "killed",
        image: Image::Killed,
        outcome: Outcome::LabError,
        why: "QEMU ended while the script was running",
        counts: (1, 2, 0),
        repeated: false,
    },
];

/// What `make live` and `make victims` are not to be given.
const LIVE_REFUSED: &[refusals::Case] = &[
    (
        "live: a duration that is no number",
        &["DURATION=ten"],
        "DURATION=ten: a number of at least 1",
    ),
    (
        "live: one CPU, where a race takes two",
        &["CPUS=1"],
        "CPUS=1: a number of at least 2",
    ),
    (
        "live: a company that isn't there",
        &["BESIDE=everything"],
        "BESIDE=everything: there are nothing, realtime, interrupts",
    ),
    (
        "live: a kernel that isn't there",
        &["KERNEL=nope"],
        "no kernel 'nope'",
    ),
];
const LIVE_TAKEN: &[&str] = &["DURATION=60", "CPUS=4", "BUSY=3", "BESIDE=interrupts"];
const VICTIMS_REFUSED: &[refusals::Case] = &[
    (
        "victims: one that isn't there",
        &["ONLY=swapon,zfs-lookup"],
        "no victim zfs-lookup; there are ",
    ),
    (
        "victims: a kernel that isn't there",
        &["ONLY=swapon", "KERNEL=nope"],
        "no kernel 'nope'",
    ),
];
const VICTIMS_TAKEN: &[&str] = &["ONLY=swapon", "CONFIG_VARIANT=none"];

fn harness(run: &mut Run) -> Result<Vec<Test>> {
    let trees = run.dir.join("harness-trees");
    let mut tests = refusals::suite(run.lab, "live", &trees, LIVE_REFUSED, LIVE_TAKEN)?;
    let victims = refusals::suite(run.lab, "victims", &trees, VICTIMS_REFUSED, VICTIMS_TAKEN)?;
    tests.extend(victims);
    for case in CASES {
        let script = match case.image {
            Image::Stock => case.name,
            Image::Silent | Image::Killed => "hang",
            _ => "pass",
        };
        let script = run.lab.guest_script(&format!("harness/{script}"));
        let argv = vec![script.display().to_string()];
        let needs = Needs::of(&script)?;
        let name = format!("harness-{}", case.name);
        let mut boot = Boot::new(run.lab, "stock", &name, &needs, argv)?;
        match case.image {
            Image::Stock => {}
            Image::Silent => {
                boot.timeout = 240;
                boot.stall = Some(8);
            }
            Image::Garbage => {
                boot.kernel.image = run.dir.join("garbage");
                fs::write(&boot.kernel.image, "no kernel\n".repeat(10_000))?;
                boot.first_line = 5;
            }
            Image::Refused => boot.memory = "1000000G".to_string(),
            Image::Append(word) => boot.append.push(word.to_string()),
            Image::NoDisk => {
                boot.append.push("root=/dev/nowhere rootwait".to_string());
                boot.boot_limit = 10;
            }
            Image::Memory(size) => boot.memory = size.to_string(),
            Image::Killed => {
                boot.timeout = 240;
                boot.metered = true;
                kill_once_begun(run.dir.join(&name));
            }
        }
        let mut guest = run.boot(&boot)?;
        let mut why = case.why.to_string();
        // What ends it is a clock, and a busy host may take as long for the script's first word.
        if case.outcome == Outcome::Timeout && guest.result.tests.passed == 0 {
            boot.name.push_str("-later");
            boot.timeout *= 8;
            boot.stall = boot.stall.map(|seconds| seconds * 8);
            why = why.replace("8 s", "64 s");
            guest = run.boot(&boot)?;
        }
        let repeated = match case.image {
            Image::NoDisk => run.accel()?.is_tcg(),
            _ => case.repeated,
        };
        let result = &guest.result;
        let title = format!("a guest of kind {} is a {}", case.name, case.outcome);
        let counts = (
            result.tests.passed,
            result.tests.failed,
            result.tests.skipped,
        );
        let right = result.outcome == case.outcome
            && result.why.contains(&why)
            && counts == case.counts
            // Where the script has not begun, there was a second try. QEMU may need one for reasons of its own:
            // that guest never came to what this case is about.
            && match repeated {
                true => result.retries.len() == 1,
                false => result.retries.is_empty() || !repeated_too_late(&guest.dir),
            };
        tests.push(Test::of(title, right, || {
            let log = guest.dir.display();
            format!(
                "{}: {} ({}), {log}",
                result.outcome, result.why, result.tests
            )
        }));
    }
    tests.push(alone(run)?);
    let guests: Vec<String> = CASES
        .iter()
        .map(|c| format!("harness-{}", c.name))
        .collect();
    tests.extend(results::suite(run, &guests)?);
    Ok(tests)
}

/// Had the boot of this guest that was repeated begun with its script, or died of the kernel's own will? If
/// nothing is left of it, nobody can say that it had not.
fn repeated_too_late(dir: &Path) -> bool {
    let console = fs::read_to_string(guest::thrown_away(dir).join("console.log"));
    console.map_or(true, |console| {
        [MARK_START, "Kernel panic"]
            .iter()
            .any(|mark| console.contains(mark))
    })
}

/// As cron does it: no terminal, a session of its own, next to nothing in the environment, another directory.
fn alone(run: &mut Run) -> Result<Test> {
    run.accel()?;
    let mut cmd = Command::new("setsid");
    cmd.arg("--wait").arg(std::env::current_exe()?);
    cmd.args(["boot", "--kernel", "stock"]);
    cmd.arg(run.lab.guest_script("harness/pass"));
    cmd.env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/");
    let ours = |name: &str| name.starts_with("WW_") || matches!(name, "HOME" | "WAKEWATCH_CACHE");
    cmd.envs(std::env::vars().filter(|(name, _)| ours(name)));
    run.progress("boot stock: without a terminal");
    let out = cmd.stdin(Stdio::null()).output().context("setsid")?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let right = out.status.success() && said.contains("# pass: 2 passed");
    let title = "a guest boots without a terminal, in a session and an environment of its own";
    Ok(Test::of(title, right, || {
        format!(
            "{}: {said}{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        )
    }))
}

/// Kills the QEMU of the guest in this folder, from outside, when its script has begun.
fn kill_once_begun(dir: PathBuf) {
    std::thread::spawn(move || {
        let begun = || {
            let log = fs::read_to_string(dir.join("console.log")).unwrap_or_default();
            log.contains(MARK_START)
        };
        let limit = Instant::now() + Duration::from_secs(300);
        while !begun() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(100));
        }
        // What it has said by then is on its way.
        std::thread::sleep(Duration::from_secs(1));
        let pid = fs::read_to_string(dir.join("qemu.pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    });
}

/// The rows of `lab repro`.
fn rows(run: &mut Run) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for plan in repro::PLANS {
        tests.extend(plan_rows(run, plan)?);
    }
    Ok(tests)
}

fn plan_rows(run: &mut Run, plan: &repro::Plan) -> Result<Vec<Test>> {
    let accel = run.accel()?;
    let boot = plan.boot(run.lab)?;
    let (guest, rows) = {
        let say = |line: &str| run.progress(line);
        repro::run_plan(run.lab, accel, &run.dir, plan, &boot, &say)?
    };
    run.boots.push(guest.result.clone());
    let mut tests = Vec::new();
    for row in rows {
        tests.push(row.test(plan.detect).about(guest.result.build.as_str()));
    }
    Ok(tests)
}

/// Loading, unloading, parameters and files of the module; then every verdict that a guest
/// survives. In this order, because the latter leaves the kernel's statistics wrong. And each way of hooking.
fn module(run: &mut Run) -> Result<Vec<Test>> {
    let scripts = ["module", "switching", "events", "refused"];
    let boot = Boot::of_scripts(run.lab, "fixed", "module", &scripts)?;
    let mut tests = guest_tests(&run.boot(&boot)?);
    let boot = Boot::of_scripts(run.lab, "fixed", "hooks", &["hooks"])?;
    tests.extend(guest_tests(&run.boot(&boot)?));
    Ok(tests)
}

/// What is told of a healthy kernel; and that a report can be made the end of one.
fn detector(run: &mut Run) -> Result<Vec<Test>> {
    let mut tests = scripts(run, "stock", "", &["detector", "traced"])?;
    tests.extend(states(run)?);
    let boot = Boot::of_scripts(run.lab, "stock", "panic", &["panic-on-report"])?;
    let guest = run.boot(&boot)?;
    let reported = !guest.console.reports(guest.console.all()).is_empty();
    let panicked = guest.result.outcome == Outcome::Panic
        && guest.result.why.contains("panic_on_report is set");
    let title = "panic_on_report: the report, then a panic";
    tests.push(Test::of(title, reported && panicked, || {
        let log = guest.dir.display();
        format!("{}: {}, {log}", guest.result.outcome, guest.result.why)
    }));
    Ok(tests)
}

/// Each of them in a boot of its own, whose name begins so.
fn scripts(run: &mut Run, kernel: &str, prefix: &str, scripts: &[&str]) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for &script in scripts {
        let boot = Boot::of_scripts(run.lab, kernel, &format!("{prefix}{script}"), &[script])?;
        tests.extend(guest_tests(&run.boot(&boot)?));
    }
    Ok(tests)
}

/// A slice of what there is to test, on the kernels of other versions as they ship: what needs no patch.
fn series(run: &mut Run) -> Result<Vec<Test>> {
    const WHY: &str = "no kernel of another version was asked for (ALSO=7.3)";
    let also = std::env::var("ALSO").unwrap_or_default();
    let mut tests = Vec::new();
    for version in also.split_whitespace() {
        let key = format!("{version}:stock");
        let prefix = format!("{version}-");
        for plan in repro::unpatched(&key) {
            // Another suite has boots of the same names.
            let plan = repro::Plan {
                name: format!("{prefix}{}", plan.name).leak(),
                ..plan
            };
            tests.extend(plan_rows(run, &plan)?);
        }
        tests.extend(scripts(run, &key, &prefix, &["detector", "module"])?);
    }
    match tests.is_empty() {
        true => {
            let mut test = Test::new("another version's kernel", Status::Skip);
            test.notes.push(WHY.to_string());
            Ok(vec![test])
        }
        false => Ok(tests),
    }
}

/// Every state in which a folio can be under writeback, without and with a reference for its end.
fn states(run: &mut Run) -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for (key, want) in [("broken", "deficit"), ("fixed", "silent")] {
        let mut boot = Boot::of_scripts(run.lab, key, &format!("states-{key}"), &["states"])?;
        boot.env.push(("WW_STATES".to_string(), want.to_string()));
        for mut test in guest_tests(&run.boot(&boot)?) {
            test.name = format!("{key}, {want}: {}", test.name);
            tests.push(test);
        }
    }
    Ok(tests)
}

/// The plain assertion takes a frozen refcount for a freed page, the one of the fix does not.
fn assertion(run: &mut Run) -> Result<Vec<Test>> {
    const KERNELS: &str = "the kernel took none of them for a free page";
    let plain = Boot::of_scripts(
        run.lab,
        "warn-zero-count-plain",
        "reclaim-plain",
        &["reclaim-frozen"],
    )?;
    let guest = run.boot(&plain)?;
    let misfired = guest
        .tests
        .iter()
        .any(|test| test.name == KERNELS && test.status == Status::Fail);
    let splats = guest.console.splats(guest.console.all());
    let by_reclaim = splats
        .iter()
        .any(|splat| splat.waker() == Some("shrink_folio_list"));
    let title = "warn-zero-count-plain: misfires in shrink_folio_list()";
    let mut tests = vec![Test::of(title, misfired && by_reclaim, || {
        let log = guest.dir.display();
        format!("{}, {log}", guest.result.outcome)
    })];
    let fixed = Boot::of_scripts(run.lab, "fixed", "reclaim-fixed", &["reclaim-frozen"])?;
    for mut test in guest_tests(&run.boot(&fixed)?) {
        test.name = format!("fixed: {}", test.name);
        tests.push(test);
    }
    Ok(tests)
}

/// The guest's own results, with where to look for a guest that went wrong.
pub fn guest_tests(guest: &Guest) -> Vec<Test> {
    let mut tests = guest.tests.clone();
    if Test::group("", tests.clone()).status == Status::Fail {
        if let Some(test) = tests.iter_mut().rev().find(|t| t.status == Status::Fail) {
            test.notes
                .push(format!("log: {}", guest.dir.join("console.log").display()));
            let last = guest.console.tail(20).iter().map(|l| l.text.clone());
            test.notes.extend(last);
        }
    }
    tests
}

fn failures(test: &Test, path: &str) -> Vec<String> {
    let path = if path.is_empty() {
        test.name.clone()
    } else {
        format!("{path}: {}", test.name)
    };
    if test.children.is_empty() {
        return match test.status {
            Status::Fail => vec![path],
            _ => Vec::new(),
        };
    }
    test.children
        .iter()
        .flat_map(|child| failures(child, &path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_run_in_turn_only_where_they_must() {
        let of = accel_of;
        assert_eq!(of(Accel::Tcg, Cpus::InTurn, true), Accel::TcgInTurn);
        assert_eq!(of(Accel::Tcg, Cpus::InTurn, false), Accel::Tcg);
        assert_eq!(of(Accel::Tcg, Cpus::AtOnce, true), Accel::Tcg);
        assert_eq!(of(Accel::Kvm, Cpus::InTurn, true), Accel::Kvm);
    }

    #[test]
    fn failures_are_named_with_their_path() {
        let group = Test::group(
            "g",
            vec![Test::new("a", Status::Pass), Test::fail("b", "c")],
        );
        let suite = Test::group("s", vec![group]);
        assert_eq!(failures(&suite, ""), ["s: g: b"]);
    }
}
