// SPDX-License-Identifier: GPL-2.0

//! What wakewatch costs: instructions an event, against nothing, empty hooks of three kinds, the same in C, and
//! BPF on two kinds of hooks, all in one boot; and what a writer feels of it, in another.
//!
//! Instructions are counted by QEMU: with `-icount shift=0` and one CPU the guest's time stamp
//! counter goes up by one with each instruction. tests/bench/ww_driver.c reads it around each
//! call, and around what has a known number of instructions: if those don't come out right,
//! there is no table. tests/guest/bench-count.sh and bench-write.sh are what the guests run.

use crate::debugfs::word;
use crate::env::Lab;
use crate::guest::{self, Boot, Guest};
use crate::kvm::{self, Accel};
use crate::outcome::Outcome;
use crate::table::table;
use anyhow::{bail, Context, Result};
use comfy_table::CellAlignment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::num::ParseIntError;
use std::str::FromStr;

/// One CPU, whose time stamp counter counts instructions; while the guest sleeps the clock
/// jumps ahead instead of waiting for the host's.
pub const COUNTING: [&str; 4] = ["--cpus", "1", "--qemu-opts", "-icount shift=0,sleep=off"];
/// The two rounds of bench-count.sh.
const ROUNDS: usize = 2;
/// A page of the guest's.
const PAGE: u64 = 4096;
/// Of an empty direct hook, in instructions.
const HOOK_GOAL: i64 = 35;
/// Of a page written, all in all: two per cent.
const PAGE_GOAL: i64 = 243;

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
    /// What a writer would keep of its speed if time were instructions.
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

/// `# count WITH ROUND CASE min=.. ...` and `# seen WITH ROUND NAME=VALUE`.
/// All of `whole` must have been measured in every round.
fn parse_counts<'a>(lines: impl Iterator<Item = &'a str>, whole: &[With]) -> Result<(Cases, Seen)> {
    let mut cases = Cases::new();
    let mut seen = Seen::new();
    for line in lines {
        let mut words = line.split_whitespace();
        if words.next() != Some("#") {
            continue;
        }
        let (Some(kind), Some(with), Some(round)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (Some(with), Ok(round)) = (With::named(with), round.parse::<usize>()) else {
            continue;
        };
        match kind {
            "count" => {
                let name = words.next().unwrap_or_default().to_string();
                let rest: Vec<&str> = words.collect();
                let spread = parse_spread(&rest).with_context(|| line.to_string())?;
                let rounds = cases.entry(name).or_default().entry(with).or_default();
                if rounds.len() + 1 != round {
                    bail!("round {round} out of turn: {line}");
                }
                rounds.push(spread);
            }
            "seen" => {
                let rounds = seen.entry(with).or_default();
                rounds.resize(rounds.len().max(round), BTreeMap::new());
                if let (Some(last), Some((name, value))) = (
                    rounds.last_mut(),
                    words.next().and_then(|word| word.split_once('=')),
                ) {
                    last.insert(name.to_string(), value.parse()?);
                }
            }
            _ => {}
        }
    }
    for (name, by_with) in &cases {
        for with in whole {
            let rounds = by_with.get(with).map_or(0, Vec::len);
            if rounds != ROUNDS {
                bail!("{name} was measured {rounds} times with {with:?}, not {ROUNDS} times");
            }
        }
    }
    Ok((cases, seen))
}

/// What a guest with nothing hooked (price.sh) has to say: each case, a spread for each round. An
/// error, if instructions were not what it counted.
pub fn unhooked<'a>(lines: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, Vec<Spread>>> {
    let (cases, _) = parse_counts(lines, &[With::Nothing])?;
    calibration(&cases)?;
    Ok(cases
        .into_iter()
        .filter_map(|(name, mut spreads)| Some((name, spreads.remove(&With::Nothing)?)))
        .collect())
}

/// The number behind `NAME=`.
fn number<T>(words: &[&str], name: &str) -> Result<T>
where
    T: FromStr<Err = ParseIntError>,
{
    let word = word(words.iter().copied(), name).with_context(|| format!("no {name}="))?;
    Ok(word.parse()?)
}

fn parse_spread(words: &[&str]) -> Result<Spread> {
    let value = |name| number(words, name);
    Ok(Spread {
        min: value("min")?,
        p10: value("p10")?,
        median: value("median")?,
        p90: value("p90")?,
        max: value("max")?,
        calls: value("calls")?,
    })
}

/// `# memory ROUND slab_kb=.. vmalloc_kb=.. percpu_kb=.. module_kb=..`, one for each round.
fn parse_memory<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Memory>> {
    let rounds: Vec<Memory> = lines
        .filter_map(|line| line.strip_prefix("# memory "))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let value = |name| number(&words, name).with_context(|| line.to_string());
            Ok(Memory {
                slab: value("slab_kb")?,
                vmalloc: value("vmalloc_kb")?,
                percpu: value("percpu_kb")?,
                module: value("module_kb")?,
            })
        })
        .collect::<Result<_>>()?;
    if rounds.len() != ROUNDS {
        bail!("memory was looked at {} times", rounds.len());
    }
    Ok(rounds)
}

/// `# write off|on PAIR us=.. mb=..`: the pairs, and the megabytes of each write.
fn parse_pairs<'a>(lines: impl Iterator<Item = &'a str>) -> Result<(Vec<Pair>, u64)> {
    let mut pairs: BTreeMap<usize, Pair> = BTreeMap::new();
    let mut mb = 0;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["#", "write", which, pair, us, size] = words[..] else {
            continue;
        };
        let pair = pairs.entry(pair.parse()?).or_default();
        let us = us.strip_prefix("us=").context("no us=")?.parse()?;
        mb = size.strip_prefix("mb=").context("no mb=")?.parse()?;
        match which {
            "off" => pair.off = us,
            "on" => pair.on = us,
            _ => bail!("neither off nor on: {line}"),
        }
    }
    let pairs: Vec<Pair> = pairs.into_values().collect();
    if pairs.is_empty() || pairs.iter().any(|pair| pair.off == 0 || pair.on == 0) {
        bail!("the guest did not measure pairs of writes");
    }
    Ok((pairs, mb))
}

/// All rounds must have counted what is there, or nothing of the table is true.
fn calibration(cases: &Cases) -> Result<Calibration> {
    let all = |name: &str| -> Result<Vec<Spread>> {
        let case = cases
            .get(name)
            .with_context(|| format!("{name} was not measured"))?;
        Ok(case.values().flatten().copied().collect())
    };
    let (empty, nops, turns) = (all("nothing")?, all("nops_100")?, all("loop_1000")?);
    let first = |spreads: &[Spread]| spreads.first().map_or(0, |spread| spread.median);
    let found = Calibration {
        empty: first(&empty),
        nops_100: first(&nops),
        loop_1000: first(&turns),
    };
    let steady = [&empty, &nops, &turns]
        .iter()
        .all(|spreads| spreads.iter().all(|s| s.median == first(spreads)));
    let loops = found.loop_1000.wrapping_sub(found.empty);
    if !steady || found.nops_100.wrapping_sub(found.empty) != 100 || !(2000..=2002).contains(&loops)
    {
        bail!(
            "this QEMU does not count instructions: {} for 100 nops, {loops} for a loop of 2000{}",
            found.nops_100.wrapping_sub(found.empty),
            if steady {
                ""
            } else {
                ", and not the same each time"
            }
        );
    }
    Ok(found)
}

/// A row. `parts` is how many events the case is made of.
fn event(cases: &Cases, name: &str, what: &str, parts: u64) -> Result<Event> {
    let case = cases
        .get(name)
        .with_context(|| format!("the guest did not measure {name}"))?;
    let each = |value: u64| (value + parts / 2) / parts;
    let mut nothing = Vec::new();
    let mut added: BTreeMap<With, Vec<i64>> = BTreeMap::new();
    for round in 0..ROUNDS {
        let median = |with: With| {
            case.get(&with)
                .and_then(|rounds| rounds.get(round))
                .map_or(0, |spread| each(spread.median))
        };
        nothing.push(median(With::Nothing));
        for (with, _) in ADDED {
            let more = median(with) as i64 - median(With::Nothing) as i64;
            added.entry(with).or_default().push(more);
        }
    }
    Ok(Event {
        name: name.to_string(),
        what: what.to_string(),
        nothing,
        added,
        spread: case.clone(),
    })
}

/// Once if both rounds agree, else both.
pub fn rounds_text<T: PartialEq + std::fmt::Display>(rounds: &[T]) -> String {
    match rounds {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => first.to_string(),
        _ => rounds
            .iter()
            .map(T::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn counts_text(all: &Bench, seconds: f64) -> String {
    let mut head = vec!["event", "the call itself"];
    head.extend(ADDED.map(|(_, title)| title));
    head.extend(["to C", "to fentry"]);
    let mut table = table(head);
    for event in all.events.iter().chain(&all.written_page) {
        let mut row = vec![event.what.clone(), rounds_text(&event.nothing)];
        for (with, _) in ADDED {
            row.push(rounds_text(
                event.added.get(&with).map_or(&[][..], Vec::as_slice),
            ));
        }
        for with in [With::C, With::Fentry] {
            row.push(
                event
                    .ratio(with)
                    .map_or("-".to_string(), |r| format!("{r:.2}")),
            );
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let calibration = all.calibration.as_ref().map_or(String::new(), |found| {
        format!(
            "calibration: 100 nops are {}, a loop of 2000 with its initialisation {}; the counter itself is {} of every call\n",
            found.nops_100 - found.empty,
            found.loop_1000 - found.empty,
            found.empty
        )
    });
    let calls = all
        .events
        .first()
        .and_then(|event| event.spread.get(&With::Nothing)?.first().copied())
        .map_or(0, |spread| spread.calls);
    format!(
        "\nInstructions an event, and how many more with each; medians of {calls} calls, in two rounds of one boot\n(one number where both agree); {} under QEMU {} -icount, {seconds:.0} s.\n\n{table}\n\n{calibration}{}{}",
        all.kernel,
        all.qemu,
        seen_text(&all.seen),
        all.written_page.as_ref().map(written_text).unwrap_or_default()
    ) + &memory_text(&all.memory)
}

fn memory_text(rounds: &[Memory]) -> String {
    let each = |of: fn(&Memory) -> i64| rounds_text(&rounds.iter().map(of).collect::<Vec<_>>());
    format!(
        "memory: {} KB by vmalloc(), {} KB of them the module; {} KB by alloc_percpu(); {} KB of slab\n",
        each(|m| m.vmalloc),
        each(|m| m.module),
        each(|m| m.percpu),
        each(|m| m.slab),
    )
}

/// Did the C module see what wakewatch saw? Two modules that do different things are no comparison.
fn seen_text(seen: &Seen) -> String {
    let of = |with: With, name: &str| -> Vec<u64> {
        let rounds = seen.get(&with).into_iter().flatten();
        rounds
            .map(|counters| counters.get(name).copied().unwrap_or_default())
            .collect()
    };
    let names = [
        "end_writeback",
        "windows_opened",
        "marks_freed",
        "unreferenced",
        "zero_ref",
        "tail",
        "reused",
        "unbalanced",
        "unlocked_start",
    ];
    let differ: Vec<String> = names
        .iter()
        .filter(|name| of(With::Wakewatch, name) != of(With::C, name))
        .map(|name| {
            format!(
                "{name} {:?} and {:?}",
                of(With::Wakewatch, name),
                of(With::C, name)
            )
        })
        .collect();
    let same = if differ.is_empty() {
        "wakewatch and the C module have counted the same events".to_string()
    } else {
        format!(
            "wakewatch and the C module have NOT counted the same events: {}",
            differ.join("; ")
        )
    };
    // bpftrace skips an event that comes in the middle of another one's program.
    format!(
        "{same}; ends of writeback: {:?}, bpftrace {:?}, fentry {:?}\n",
        of(With::Wakewatch, "end_writeback"),
        of(With::Bpftrace, "end_writeback"),
        of(With::Fentry, "end_writeback")
    )
}

/// How fast a writer would be if time were instructions: a figure without noise beside the measured one.
fn by_instructions(page: &Event) -> BTreeMap<With, f64> {
    let whole = page.nothing.iter().max().copied().unwrap_or_default() as f64;
    page.added
        .keys()
        .map(|&with| (with, whole / (whole + page.worst(with) as f64)))
        .collect()
}

fn written_text(page: &Event) -> String {
    let found = by_instructions(page);
    let of = |with: With| found.get(&with).copied().unwrap_or_default();
    format!(
        "by instructions alone a writer keeps {:.3} of its speed with wakewatch, {:.3} with empty direct calls, {:.3} with the C module, {:.3} with BPF fentry\n",
        of(With::Wakewatch),
        of(With::Direct),
        of(With::C),
        of(With::Fentry)
    )
}

fn throughput(accel: Accel, mb: u64, pairs: Vec<Pair>, load: [f64; 2]) -> Result<Throughput> {
    let rate = |us: u64| mb as f64 * 1e6 / us as f64;
    let off = quartiles(pairs.iter().map(|pair| rate(pair.off)).collect())?[1];
    let on = quartiles(pairs.iter().map(|pair| rate(pair.on)).collect())?[1];
    let each = pairs
        .iter()
        .map(|pair| pair.off as f64 / pair.on as f64)
        .collect();
    Ok(Throughput {
        accel,
        mb,
        ratio: on / off,
        quartiles: quartiles(each)?,
        off_mb_s: off,
        on_mb_s: on,
        load,
        pairs,
    })
}

fn throughput_text(found: &Throughput) -> String {
    format!(
        "\nWriting {} MB to ext4 on a loop device and syncing it, {} pairs, {:?}: {:.0} MB/s without wakewatch, {:.0} MB/s with it.\nRatio of the medians {:.3}; of the pairs {:.3} (half of them between {:.3} and {:.3}); the host's load was {:.1} before and {:.1} after.\n",
        found.mb,
        found.pairs.len(),
        found.accel,
        found.off_mb_s,
        found.on_mb_s,
        found.ratio,
        found.quartiles[1],
        found.quartiles[0],
        found.quartiles[2],
        found.load[0],
        found.load[1]
    )
}

fn goals(all: &Bench) -> Vec<Goal> {
    let mut goals = Vec::new();
    if !all.events.is_empty() {
        goals.push(events_goal(
            &all.events,
            With::C,
            1.0,
            "not above the C module",
        ));
        goals.push(events_goal(
            &all.events,
            With::Fentry,
            0.5,
            "under half of BPF fentry",
        ));
        goals.push(hook_goal(&all.events));
    }
    if let Some(page) = &all.written_page {
        let found = page.worst(With::Wakewatch);
        goals.push(Goal {
            goal: format!("at most {PAGE_GOAL} instructions more for a page written"),
            met: found <= PAGE_GOAL,
            found: found.to_string(),
        });
    }
    if let Some(found) = &all.throughput {
        goals.push(Goal {
            goal: "0.98 of the write throughput".to_string(),
            met: found.ratio >= 0.98,
            found: format!("{:.3}", found.ratio),
        });
    }
    goals
}

/// The dearest of the functions' hooks: of a case with one event in it.
fn hook_goal(events: &[Event]) -> Goal {
    let one = ["start_writeback", "end_writeback", "end_read"];
    let most = events
        .iter()
        .filter(|event| one.contains(&event.name.as_str()))
        .map(|event| event.worst(With::Direct))
        .max()
        .unwrap_or_default();
    Goal {
        goal: format!("at most {HOOK_GOAL} instructions for an empty direct hook"),
        met: most <= HOOK_GOAL,
        found: most.to_string(),
    }
}

fn events_goal(events: &[Event], to: With, limit: f64, goal: &str) -> Goal {
    let ratios: Vec<(&str, f64)> = events
        .iter()
        .filter_map(|event| Some((event.what.as_str(), event.ratio(to)?)))
        .collect();
    let above: Vec<String> = ratios
        .iter()
        .filter(|(_, ratio)| *ratio > limit)
        .map(|(what, ratio)| format!("{what} {ratio:.2}"))
        .collect();
    let found = if above.is_empty() {
        let worst = ratios
            .iter()
            .map(|(_, ratio)| *ratio)
            .fold(0.0f64, f64::max);
        format!("{worst:.2} at most")
    } else {
        format!(
            "above in {} of {}: {}",
            above.len(),
            ratios.len(),
            above.join("; ")
        )
    };
    Goal {
        goal: goal.to_string(),
        met: above.is_empty(),
        found,
    }
}

/// First quartile, median, third quartile, by the nearest of the values (a median of two is their mean).
fn quartiles(mut values: Vec<f64>) -> Result<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let at = |i: usize| values.get(i).copied().context("no values");
    let median = (at(n / 2)? + at(n.saturating_sub(1) / 2)?) / 2.0;
    Ok([at(n / 4)?, median, at((3 * n / 4).min(n - 1))?])
}

fn host_load() -> f64 {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(case: &str, medians: [u64; 8]) -> Vec<String> {
        let names = [
            "none",
            "kprobe",
            "ftrace",
            "direct",
            "wakewatch",
            "c",
            "bpftrace",
            "fentry",
        ];
        (1..=2)
            .flat_map(|round| {
                names.iter().zip(medians).map(move |(with, n)| {
                    format!("# count {with} {round} {case} min={n} p10={n} median={n} p90={n} max={n} calls=5")
                })
            })
            .collect()
    }

    fn cases(all: &[Vec<String>]) -> Cases {
        parse_counts(all.iter().flatten().map(String::as_str), &EVERYTHING)
            .unwrap()
            .0
    }

    #[test]
    fn memory_is_looked_at_in_each_round() {
        let line = "# memory 1 slab_kb=12 vmalloc_kb=900 percpu_kb=-4 module_kb=300";
        let memory = parse_memory([line, line].into_iter()).unwrap();
        assert_eq!((memory[0].vmalloc, memory[1].percpu), (900, -4));
        assert!(parse_memory([line].into_iter()).is_err());
        let lacking = parse_memory(["# memory 1 slab_kb=12"].into_iter());
        let said = format!("{:#}", lacking.unwrap_err());
        assert!(said.ends_with("no vmalloc_kb="), "{said}");
    }

    #[test]
    fn counts_become_rows() {
        let cases = cases(&[lines("free", [200, 210, 210, 205, 250, 240, 900, 700])]);
        let event = event(&cases, "free", "page freed", 1).unwrap();
        assert_eq!(event.nothing, [200, 200]);
        assert_eq!(event.worst(With::Wakewatch), 50);
        assert_eq!(event.ratio(With::C), Some(1.25));
        assert_eq!(event.ratio(With::Fentry), Some(0.1));
        let goal = events_goal(&[event], With::C, 1.0, "x");
        assert!(!goal.met && goal.found == "above in 1 of 1: page freed 1.25");
    }

    #[test]
    fn a_missing_round_is_an_error() {
        let mut all = lines("free", [1, 2, 3, 4, 5, 6, 7, 8]);
        all.pop();
        assert!(parse_counts(all.iter().map(String::as_str), &EVERYTHING).is_err());
    }

    #[test]
    fn calibration_must_come_out() {
        let good = cases(&[
            lines("nothing", [2; 8]),
            lines("nops_100", [102; 8]),
            lines("loop_1000", [2003; 8]),
        ]);
        assert_eq!(calibration(&good).unwrap().empty, 2);
        let clock = cases(&[
            lines("nothing", [30; 8]),
            lines("nops_100", [95; 8]),
            lines("loop_1000", [1040; 8]),
        ]);
        assert!(calibration(&clock).is_err());
        let unsteady = cases(&[
            lines("nothing", [2; 8]),
            lines("nops_100", [102, 102, 102, 102, 102, 102, 102, 103]),
            lines("loop_1000", [2003; 8]),
        ]);
        assert!(calibration(&unsteady).is_err());
    }

    #[test]
    fn pairs() {
        let text = [
            "# write off 1 us=100 mb=4",
            "# write on 2 us=220 mb=4",
            "# write on 1 us=110 mb=4",
            "# write off 2 us=200 mb=4",
        ];
        let (pairs, mb) = parse_pairs(text.into_iter()).unwrap();
        assert_eq!((pairs.len(), mb), (2, 4));
        let found = throughput(Accel::Tcg, mb, pairs, [0.0, 0.0]).unwrap();
        assert!((found.quartiles[1] - 1.0 / 1.1).abs() < 1e-9);
        assert!(parse_pairs(["# write off 1 us=100 mb=4"].into_iter()).is_err());
    }

    #[test]
    fn both_rounds_are_shown_where_they_differ() {
        assert_eq!(rounds_text(&[5, 5]), "5");
        assert_eq!(rounds_text(&[5, 6]), "5, 6");
    }
}
