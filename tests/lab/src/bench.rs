// SPDX-License-Identifier: GPL-2.0

//! What wakewatch costs: instructions an event, against nothing, empty hooks of three kinds, the same in C, and
//! BPF on two kinds of hooks, all in one boot; and what a writer feels of it, in another.
//!
//! Instructions are counted by QEMU: with `-icount shift=0` and one CPU the guest's time stamp
//! counter goes up by one with each instruction. tests/bench/ww_driver.c reads it around each
//! call, and around what has a known number of instructions: if those don't come out right,
//! there is no table. tests/guest/bench-count.sh and bench-write.sh are what the guests run.

mod goals;
mod read;
mod text;

pub use read::unhooked;
pub use text::rounds_text;

use crate::env::Lab;
use crate::guest::{self, Boot, Guest};
use crate::kvm::{self, Accel};
use crate::outcome::Outcome;
use anyhow::{bail, Context, Result};
use goals::goals;
use read::{
    by_instructions, calibration, event, parse_counts, parse_memory, parse_pairs, throughput,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use text::{counts_text, throughput_text};

/// One CPU, whose time stamp counter counts instructions; while the guest sleeps the clock
/// jumps ahead instead of waiting for the host's.
pub const COUNTING: [&str; 4] = ["--cpus", "1", "--qemu-opts", "-icount shift=0,sleep=off"];
/// The two rounds of bench-count.sh.
const ROUNDS: usize = 2;
/// A page of the guest's.
const PAGE: u64 = 4096;

/// What is hooked while something is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum With {
    Nothing,
    /// The hooks of wakewatch with nothing behind them: kprobes,
    Kprobe,
    /// ftrace's trampolines,
    Ftrace,
    /// direct calls.
    Direct,
    Wakewatch,
    /// The same on the same hooks.
    C,
    /// What BPF can do of it, on kprobes,
    Bpftrace,
    /// and on direct calls.
    Fentry,
}

impl With {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::Nothing,
            "kprobe" => Self::Kprobe,
            "ftrace" => Self::Ftrace,
            "direct" => Self::Direct,
            "wakewatch" => Self::Wakewatch,
            "c" => Self::C,
            "bpftrace" => Self::Bpftrace,
            "fentry" => Self::Fentry,
            _ => return None,
        })
    }
}

const EVERYTHING: [With; 8] = [
    With::Nothing,
    With::Kprobe,
    With::Ftrace,
    With::Direct,
    With::Wakewatch,
    With::C,
    With::Bpftrace,
    With::Fentry,
];

/// The columns of the table, behind the one of the call itself.
const ADDED: [(With, &str); 7] = [
    (With::Kprobe, "+ empty kprobes"),
    (With::Ftrace, "+ empty ftrace"),
    (With::Direct, "+ empty direct"),
    (With::Wakewatch, "+ wakewatch"),
    (With::C, "+ C module"),
    (With::Bpftrace, "+ bpftrace"),
    (With::Fentry, "+ BPF fentry"),
];

/// The cases of ww_driver.c that are events, and how they are called here.
const EVENTS: &[(&str, &str)] = &[
    ("start_writeback", "writeback starts"),
    ("end_writeback", "writeback ends, nobody waits"),
    ("end_writeback_wake", "writeback ends, stale PG_waiters"),
    ("end_writeback_waiter", "writeback ends, a task waits"),
    ("wake", "wake without a window (unlock)"),
    ("end_read", "a read ends, nobody waits"),
    ("end_read_wake", "a read ends, stale PG_waiters"),
    ("alloc", "page allocated"),
    ("free", "page freed"),
    ("alloc_block", "512 pages allocated"),
    ("free_block", "512 pages freed"),
    ("free_after_writeback", "page freed in its window"),
];

/// What a line of the driver has: the sorted values at these places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    min: u64,
    p10: u64,
    pub median: u64,
    p90: u64,
    max: u64,
    calls: u64,
}

/// A case, by what was hooked, a spread for each round.
type Cases = BTreeMap<String, BTreeMap<With, Vec<Spread>>>;
/// Counters, by what was hooked; of each round.
type Seen = BTreeMap<With, Vec<BTreeMap<String, u64>>>;

#[derive(Serialize)]
struct Calibration {
    /// Two reads of the counter with nothing in between: this is in every count.
    empty: u64,
    /// A hundred `nop`.
    nops_100: u64,
    /// A loop of a thousand turns, two instructions each, and its initialisation.
    loop_1000: u64,
}

/// A row of the table.
#[derive(Serialize)]
struct Event {
    name: String,
    what: String,
    /// Instructions of the call itself, in each round.
    nothing: Vec<u64>,
    /// Instructions more than that, in each round.
    added: BTreeMap<With, Vec<i64>>,
    spread: BTreeMap<With, Vec<Spread>>,
}

impl Event {
    /// The larger of the rounds.
    fn worst(&self, with: With) -> i64 {
        let added = self.added.get(&with).into_iter().flatten();
        added.copied().max().unwrap_or_default()
    }

    fn ratio(&self, to: With) -> Option<f64> {
        let other = self.worst(to);
        (other > 0).then(|| self.worst(With::Wakewatch) as f64 / other as f64)
    }
}

/// A goal, and what became of it.
#[derive(Serialize)]
struct Goal {
    goal: String,
    met: bool,
    found: String,
}

/// One pair of writes, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Pair {
    off: u64,
    on: u64,
}

#[derive(Serialize)]
struct Throughput {
    accel: Accel,
    mb: u64,
    pairs: Vec<Pair>,
    /// Of the medians in MB/s, on to off.
    ratio: f64,
    /// Of each pair: first quartile, median, third quartile.
    quartiles: [f64; 3],
    off_mb_s: f64,
    on_mb_s: f64,
    /// Of the host, while this ran.
    load: [f64; 2],
}

/// What the kernel has less while wakewatch is loaded, in KB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Memory {
    slab: i64,
    /// The module's code and data among it.
    vmalloc: i64,
    percpu: i64,
    module: i64,
}

/// bench.json.
#[derive(Serialize)]
struct Bench {
    kernel: String,
    qemu: String,
    calibration: Option<Calibration>,
    /// In each round.
    memory: Vec<Memory>,
    events: Vec<Event>,
    /// Instructions of a page written and synced, all of the kernel's work for it included.
    written_page: Option<Event>,
    /// What a writer would keep of its speed if each instruction took the same time.
    written_ratio: BTreeMap<With, f64>,
    seen: Seen,
    throughput: Option<Throughput>,
    goals: Vec<Goal>,
}

pub fn verb(lab: &Lab, pairs: usize, only: Option<&str>) -> Result<bool> {
    if pairs == 0 {
        bail!("--pairs 0 measures nothing");
    }
    if only.is_some_and(|only| !["count", "write"].contains(&only)) {
        bail!("--only takes count or write");
    }
    let bench = std::env::var("WW_BENCH")
        .context("WW_BENCH is not set: start the bench through scripts/bench.sh")?;
    let run_dir = lab.run_dir("bench")?;
    let mut all = Bench {
        kernel: String::new(),
        qemu: lab.qemu_version.clone(),
        calibration: None,
        memory: Vec::new(),
        events: Vec::new(),
        written_page: None,
        written_ratio: BTreeMap::new(),
        seen: Seen::new(),
        throughput: None,
        goals: Vec::new(),
    };
    let mut text = String::new();

    if only != Some("write") {
        let mut boot = Boot::of_scripts(lab, "stock", "bench-count", &["bench-count"])?;
        boot.machine = COUNTING.map(str::to_string).to_vec();
        boot.env.push(("WW_BENCH".to_string(), bench.clone()));
        let guest = run(lab, Accel::Tcg, &run_dir, &boot)?;
        let (cases, seen) = parse_counts(guest.console.results(), &EVERYTHING)?;
        all.kernel = guest.result.release.clone().unwrap_or_default();
        all.calibration = Some(calibration(&cases)?);
        all.memory = parse_memory(guest.console.results())?;
        for (name, what) in EVENTS {
            all.events.push(event(&cases, name, what, 1)?);
        }
        let written = cases.keys().find_map(|name| {
            let mb: u64 = name
                .strip_prefix("write_")?
                .strip_suffix("_mb")?
                .parse()
                .ok()?;
            Some((name.clone(), mb))
        });
        let (name, mb) = written.context("the guest did not measure a write")?;
        let what = "page written, all in all";
        all.written_page = Some(event(&cases, &name, what, (mb << 20) / PAGE)?);
        all.written_ratio = all
            .written_page
            .as_ref()
            .map(by_instructions)
            .unwrap_or_default();
        all.seen = seen;
        say(&mut text, &counts_text(&all, guest.result.seconds));
    }

    if only != Some("count") {
        let accel = kvm::probe(lab, &run_dir, &|line| println!("{line}"))?;
        let mut boot = Boot::of_scripts(lab, "stock", "bench-write", &["bench-write"])?;
        boot.env.push(("WW_PAIRS".to_string(), pairs.to_string()));
        let before = host_load();
        let guest = run(lab, accel, &run_dir, &boot)?;
        all.kernel = guest.result.release.clone().unwrap_or_default();
        let (pairs, mb) = parse_pairs(guest.console.results())?;
        let found = throughput(accel, mb, pairs, [before, host_load()])?;
        say(&mut text, &throughput_text(&found));
        all.throughput = Some(found);
    }

    all.goals = goals(&all);
    for goal in &all.goals {
        let met = if goal.met { "met" } else { "missed" };
        say(
            &mut text,
            &format!("goal {met}: {}: {}", goal.goal, goal.found),
        );
    }
    fs::write(run_dir.join("bench.txt"), text)?;
    let json = run_dir.join("bench.json");
    fs::write(&json, serde_json::to_string_pretty(&all)? + "\n")?;
    println!("\n{}", json.display());
    Ok(true)
}

fn run(lab: &Lab, accel: Accel, run_dir: &std::path::Path, boot: &Boot) -> Result<Guest> {
    println!("boot {}: {}", boot.kernel.key, boot.name);
    let guest = guest::run(lab, accel, run_dir, boot)?;
    if guest.result.outcome != Outcome::Pass {
        for line in guest.console.tail(20) {
            eprintln!("  {}", line.text);
        }
        let log = guest.dir.join("console.log");
        bail!(
            "{}: {} ({}), {}",
            boot.name,
            guest.result.outcome,
            guest.result.why,
            log.display()
        );
    }
    Ok(guest)
}

fn say(text: &mut String, line: &str) {
    println!("{line}");
    text.push_str(line);
    text.push('\n');
}

fn host_load() -> f64 {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or_default()
}
