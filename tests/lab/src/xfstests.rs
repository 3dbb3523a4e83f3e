// SPDX-License-Identifier: GPL-2.0

//! An xfstests tree in guests, with wakewatch's own verdict beside each result, and the difference between
//! two such runs. scripts/xfstests.sh has checked what was asked for, tests/guest/xfstests.sh runs the
//! tests and leaves a folder of each; here they are read, and a guest that died is followed by another
//! one that goes on at the next test. `compare` holds two runs against each other, `merge` makes one of parts, `suite` is the part of
//! `lab test`.

mod compare;
mod merge;
mod suite;

pub use compare::verb as compare_verb;
pub use merge::verb as merge_verb;
pub use suite::suite;

use crate::console::{Console, Findings, Stream};
use crate::debugfs::{self, by_verdict, callers_table, length, Caller, Snapshot};
use crate::env::Lab;
use crate::form::Form;
use crate::guest::{self, Boot, Guest, Record};
use crate::ktap::{Counts, Status, Test};
use crate::kvm::{self, Accel};
use crate::live::without_live;
use crate::outcome::Outcome;
use crate::results::{Results, Suite};
use anyhow::{bail, Context, Result};
use comfy_table::Table;
use merge::Shard;
use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What scripts/xfstests.sh says.
#[derive(clap::Args, Clone)]
pub struct Args {
    #[arg(long, value_name = "KEY")]
    kernel: String,
    /// Image of the guest's root
    #[arg(long)]
    root: PathBuf,
    /// Image of the built tree
    #[arg(long)]
    tree: PathBuf,
    #[command(flatten)]
    form: Form,
    /// Tests that are not run, with their reasons
    #[arg(long)]
    exclude: PathBuf,
    /// Seconds for a test
    #[arg(long)]
    limit: u64,
    /// For all of them
    #[arg(long)]
    minutes: u64,
    /// Of the guest
    #[arg(long)]
    memory: String,
    /// The tests as the user has named them
    #[arg(long)]
    asked: String,
    /// Which part of all tests these are: K/N, a colon, and what names the list
    #[arg(long, value_name = "K/N:LIST")]
    shard: Option<Shard>,
    /// Do not load wakewatch
    #[arg(long)]
    without: bool,
    #[arg(required = true)]
    tests: Vec<String>,
}

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mark {
    Pass,
    Fail,
    /// xfstests says that it can't be run here.
    NotRun,
    /// By the exclude file.
    Excluded,
    /// The guest died in it.
    Died,
    /// It did not end within its limit.
    Hung,
    /// There was no time left.
    NotReached,
}

impl Mark {
    fn text(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotRun => "not run",
            Self::Excluded => "excluded",
            Self::Died => "GUEST DIED",
            Self::Hung => "HUNG",
            Self::NotReached => "NOT REACHED",
        }
    }

    fn status(self) -> Status {
        match self {
            Self::Pass => Status::Pass,
            Self::NotRun | Self::Excluded => Status::Skip,
            Self::Fail | Self::Died | Self::Hung | Self::NotReached => Status::Fail,
        }
    }
}

/// What wakewatch says of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    /// Findings, reported or counted, by verdict.
    findings: BTreeMap<String, u64>,
    /// Call sites that have ended writeback without a reference to spare.
    unreferenced_sites: u64,
    windows: u64,
    /// Of the longest window that a wake has ended: at least 2 to this power, in ns.
    longest: Option<u32>,
    missed: u64,
}

impl Verdict {
    fn reports(&self) -> u64 {
        self.findings.values().sum()
    }

    /// For machines.
    fn properties(&self, mark: Mark) -> BTreeMap<String, String> {
        let mut all = vec![("reports".to_string(), self.reports())];
        all.extend(self.findings.iter().map(|(name, n)| (name.clone(), *n)));
        // Of a guest that died there is no more than its console.
        if mark != Mark::Died {
            let longest = self.longest.map_or(0, |power| 1u64 << power.min(63));
            let more = [
                ("unreferenced_sites", self.unreferenced_sites),
                ("windows", self.windows),
                ("longest_window_ns", longest),
                ("missed", self.missed),
            ];
            all.extend(more.map(|(name, n)| (name.to_string(), n)));
        }
        all.into_iter()
            .map(|(name, n)| (format!("wakewatch.{name}"), n.to_string()))
            .collect()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    test: String,
    mark: Mark,
    why: String,
    seconds: Option<f64>,
    /// Seconds of the host's CPUs that QEMU has used for it.
    #[serde(default)]
    cpu: Option<f64>,
    wakewatch: Option<Verdict>,
}

/// xfstests.json: a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    kernel: String,
    /// The directory of the kernel: its key in the cache.
    build: String,
    form: String,
    wakewatch: bool,
    asked: String,
    /// If it is a part of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shard: Option<Shard>,
    seconds: f64,
    boots: usize,
    rows: Vec<Row>,
    callers: Vec<Caller>,
}

// ------------------------------------------------------------------ wakewatch's verdict

/// What has come to it between two snapshots.
fn verdict(before: &Snapshot, after: &Snapshot) -> Verdict {
    let grown = |name: &str| after.stat(name).saturating_sub(before.stat(name));
    let sites = after.callers.iter().filter(|(place, (_, none))| {
        *none > before.callers.get(*place).map_or(0, |(_, before)| *before)
    });
    let longest = after.windows.iter().flat_map(|(place, counts)| {
        let old = before.windows.get(place);
        counts
            .iter()
            .filter(move |(power, n)| {
                **n > old.and_then(|old| old.get(power)).copied().unwrap_or(0)
            })
            .map(|(power, _)| *power)
    });
    let missed = after
        .stats
        .keys()
        .filter(|name| name.starts_with("missed_"));
    Verdict {
        findings: debugfs::findings(grown),
        unreferenced_sites: sites.count() as u64,
        windows: grown("windows_opened"),
        longest: longest.max(),
        missed: missed.map(|name| grown(name)).sum(),
    }
}

// ------------------------------------------------------------------ what check says

/// The first test case of an xunit file: nothing if it passed.
fn xunit(text: &str) -> Result<Option<(Mark, String)>> {
    let mut reader = Reader::from_str(text);
    let mut seen = false;
    loop {
        match reader.read_event()? {
            Event::Eof if seen => return Ok(None),
            Event::Eof => bail!("no test case in it"),
            Event::Start(tag) | Event::Empty(tag) => {
                let mark = match tag.name().as_ref() {
                    b"testcase" => {
                        seen = true;
                        continue;
                    }
                    b"failure" => Mark::Fail,
                    b"skipped" => Mark::NotRun,
                    _ => continue,
                };
                let message = match tag.try_get_attribute("message")? {
                    Some(message) => message
                        .normalized_value(XmlVersion::Implicit1_0)?
                        .trim()
                        .to_string(),
                    None => String::new(),
                };
                return Ok(Some((mark, message)));
            }
            _ => {}
        }
    }
}

/// What check says is about its own folders.
fn tidy(message: &str) -> String {
    let text = message.replace("/ww-results/", "");
    text.trim_start_matches(['-', ' ']).to_string()
}

/// What the folder of a test says, of a guest that has come to its end or not; nothing if the test was
/// not begun.
fn row(dir: &Path, test: &str, limit: u64, guest: &str, console: &Console) -> Option<Row> {
    if !dir.is_dir() {
        return None;
    }
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let (mark, why) = if let Some(had) = read("limit") {
        cut_off(had.trim(), limit)
    } else if let Some(status) = read("done") {
        judge(status.trim(), read("result.xml"), read("check.out"))
    } else {
        (Mark::Died, guest.to_string())
    };
    let before = Snapshot::read(&dir.join("before"));
    let all = console.findings(section(console, test));
    let left = all.clone().others();
    let wakewatch = match (before, Snapshot::read(&dir.join("after"))) {
        (Some(before), Some(after)) => {
            let mut verdict = verdict(&before, &after);
            verdict.findings = without_live(verdict.findings, &all);
            Some(verdict)
        }
        // All that there is of a guest that died is on its console.
        (Some(_), None) => Some(Verdict {
            findings: crate::console::count_verdicts(&left.reports),
            ..Verdict::default()
        }),
        _ => None,
    };
    let (mark, why) = match only_live(mark, &why, &all, &left) {
        Some(why) => (Mark::Pass, why),
        None => (mark, why),
    };
    let (mark, why) = both(mark, why, wakewatch.as_ref());
    Some(Row {
        test: test.to_string(),
        mark,
        why: tidy(&why),
        seconds: read("seconds").and_then(|text| text.trim().parse().ok()),
        cpu: cpu(console, test),
        wakewatch,
    })
}

/// A test that had so many seconds. Less than its limit is what was left of the time for all of them, which is
/// not its fault.
fn cut_off(had: &str, limit: u64) -> (Mark, String) {
    match had.parse::<u64>() {
        Ok(s) if s < limit => {
            let why = format!("the time for all of them was over, {s} s after it began");
            (Mark::NotReached, why)
        }
        _ => (Mark::Hung, format!("did not end within {had} s")),
    }
}

/// By check's exit status, its xunit file and its output.
fn judge(status: &str, xml: Option<String>, out: Option<String>) -> (Mark, String) {
    let last = |out: Option<String>| {
        let out = out.unwrap_or_default();
        let line = out.lines().rev().find(|line| !line.trim().is_empty());
        line.unwrap_or("it said nothing").trim().to_string()
    };
    match xml.as_deref().map(xunit) {
        None => (
            Mark::Fail,
            format!("check ended with status {status}: {}", last(out)),
        ),
        Some(Err(err)) => (Mark::Fail, format!("result.xml can't be read: {err}")),
        Some(Ok(Some(found))) => found,
        Some(Ok(None)) if status == "0" => (Mark::Pass, String::new()),
        Some(Ok(None)) => (
            Mark::Fail,
            format!("check ended with status {status}: {}", last(out)),
        ),
    }
}

/// A finding fails its test also where check does not see it: it reads the log from the test's own start
/// on, and by then it has made and mounted a file system; and `report_limit` may have held it back.
fn both(mark: Mark, why: String, wakewatch: Option<&Verdict>) -> (Mark, String) {
    match wakewatch {
        Some(w) if mark == Mark::Pass && w.reports() > 0 => {
            let why = format!(
                "wakewatch has found {}, and not where check looks",
                by_verdict(&w.findings)
            );
            (Mark::Fail, why)
        }
        _ => (mark, why),
    }
}

/// check fails a test for whatever it sees in the log. Nothing but the live read race there is no failure.
fn only_live(mark: Mark, why: &str, all: &Findings, left: &Findings) -> Option<String> {
    let live = (all.reports.len() + all.splats.len()) - (left.reports.len() + left.splats.len());
    let clean = left.reports.is_empty() && left.splats.is_empty();
    (mark == Mark::Fail && why.contains("dmesg") && clean && live > 0).then(|| {
        format!("{live} of the live read race in the log, which check takes for a failure")
    })
}

/// The lines of a console from the beginning of a test to that of the next.
fn section(console: &Console, test: &str) -> std::ops::Range<usize> {
    const MARK: &str = "ww-lab: test ";
    let mark = format!("{MARK}{test}");
    let mut lines = console.lines.iter();
    let end = console.lines.len();
    let Some(at) = lines.rposition(|line| line.text.trim_end().ends_with(&mark)) else {
        return end..end;
    };
    let next = console.lines[at + 1..]
        .iter()
        .position(|line| line.text.contains(MARK));
    at..next.map_or(end, |n| at + 1 + n)
}

/// From the script's line before a test to the one after it.
fn cpu(console: &Console, test: &str) -> Option<f64> {
    let lines = console.lines.iter();
    let mut script = lines.filter(|line| line.stream == Stream::Script);
    let begin = format!("# run {test}");
    let before = script.find(|line| line.text == begin)?.cpu?;
    let after = script.next()?.cpu?;
    Some(after.checked_sub(before)?.as_secs_f64())
}

/// Names and reasons of the exclude file.
fn excludes(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .map(|(name, why)| (name.to_string(), why.trim().to_string()))
        .collect()
}

// ------------------------------------------------------------------ a run

fn boot(lab: &Lab, args: &Args, n: usize, tests: &[String], seconds: u64) -> Result<Boot> {
    let name = format!("{}-{n}", args.kernel);
    let mut boot = Boot::of_scripts(lab, &args.kernel, &name, &["xfstests"])?;
    boot.memory = args.memory.clone();
    // Making file systems, the tests' limit and some time to notice.
    boot.timeout = seconds + args.limit + 120;
    boot.stall = Some(args.limit + 120);
    boot.metered = true;
    for image in [&args.root, &args.tree] {
        boot.machine.push(format!(
            "--qemu-opts=-drive file={},if=virtio,format=raw,readonly=on",
            image.display()
        ));
    }
    let mut set = |name: &str, value: String| boot.env.push((name.to_string(), value));
    set("WW_TESTS", tests.join(" "));
    set("WW_LIMIT", args.limit.to_string());
    set("WW_SECONDS", seconds.to_string());
    if args.without {
        set("WW_WITHOUT", "1".to_string());
    }
    boot.env.extend(args.form.env());
    Ok(boot)
}

/// Whether it came to its end, and not to that of its tests.
fn came_to_its_end(guest: &Guest) -> bool {
    matches!(
        guest.result.outcome,
        Outcome::Pass | Outcome::Fail | Outcome::Skip
    )
}

/// Runs them all, in as many guests as it takes.
fn run(
    lab: &Lab,
    accel: Accel,
    dir: &Path,
    args: &Args,
    say: &dyn Fn(&str),
    live: bool,
) -> Result<Saved> {
    let begun = Instant::now();
    let end = begun + Duration::from_secs(args.minutes * 60);
    let excluded = excludes(&fs::read_to_string(&args.exclude)?);
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for test in &args.tests {
        if let Some(why) = excluded.get(test) {
            rows.insert(test.clone(), empty(test, Mark::Excluded, why));
        }
    }
    let mut pending: Vec<String> = args.tests.clone();
    pending.retain(|test| !rows.contains_key(test));
    let mut callers = BTreeMap::new();
    let mut boots = Vec::new();
    let build = lab.kernel(&args.kernel)?.dir;
    let results = dir.join("results");
    while !pending.is_empty() {
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        if left == 0 || guest::interrupted() {
            break;
        }
        let mut boot = boot(lab, args, boots.len() + 1, &pending, left)?;
        boot.live = live;
        say(&format!(
            "boot {}: {} tests from {} on",
            boot.name,
            pending.len(),
            pending[0]
        ));
        let guest = guest::run(lab, accel, dir, &boot)?;
        boots.push(guest.result.clone());
        let why = guest.result.why.clone();
        let tests = guest.dir.join("tests");
        let mut last = None;
        let mut done = 0;
        let mut hung = false;
        for test in &pending {
            let folder = tests.join(test);
            let Some(row) = row(&folder, test, args.limit, &why, &guest.console) else {
                break;
            };
            if guest::interrupted() && row.mark == Mark::Died {
                break;
            }
            hung |= row.mark == Mark::Hung;
            if matches!(row.mark, Mark::Died | Mark::Hung) {
                say(&format!("{test}: {} ({})", row.mark.text(), row.why));
            }
            last = Snapshot::read(&folder.join("after")).or(last);
            done += 1;
            let kept = results.join(test);
            fs::create_dir_all(kept.parent().unwrap_or(&results))?;
            fs::rename(&folder, &kept)?;
            rows.insert(test.clone(), row);
        }
        for (place, (calls, none)) in last.map(|last| last.callers).unwrap_or_default() {
            let sum = callers.entry(place).or_insert((0, 0));
            *sum = (sum.0 + calls, sum.1 + none);
        }
        let some = done > 0 || guest::interrupted();
        if !some && (left > 60 || !came_to_its_end(&guest)) {
            bail!(
                "the guest has not come to its first test: {why}; its log: {}",
                guest.dir.join("console.log").display()
            );
        }
        pending.drain(..done);
        if came_to_its_end(&guest) && !hung {
            break;
        }
    }
    let rows = args.tests.iter().map(|test| {
        let why = match guest::interrupted() {
            true => "interrupted",
            false => "the time for all of them was over",
        };
        let left = || empty(test, Mark::NotReached, why);
        rows.remove(test).unwrap_or_else(left)
    });
    let saved = Saved {
        kernel: args.kernel.clone(),
        build: build
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        form: args.form.form.clone(),
        wakewatch: !args.without,
        asked: args.asked.clone(),
        shard: args.shard.clone(),
        rows: rows.collect(),
        seconds: begun.elapsed().as_secs_f64().round(),
        boots: boots.len(),
        callers: Caller::all(callers),
    };
    saved.write(lab, dir, &boots)?;
    Ok(saved)
}

fn empty(test: &str, mark: Mark, why: &str) -> Row {
    Row {
        test: test.to_string(),
        mark,
        why: why.to_string(),
        seconds: None,
        cpu: None,
        wakewatch: None,
    }
}

pub fn verb(lab: &Lab, args: &Args) -> Result<bool> {
    let dir = lab.run_dir("xfstests")?;
    let accel = kvm::probe(lab, &dir, &|line| println!("{line}"))?;
    let saved = run(lab, accel, &dir, args, &|line| println!("# {line}"), true)?;
    println!("\n{}\n\n{}", saved.title(), table(&saved));
    if !saved.callers.is_empty() {
        println!("\n{}", callers_table(&saved.callers));
    }
    println!("\nresults: {}", dir.display());
    let counts = saved.counts();
    println!("{counts}");
    Ok(counts.failed == 0 && counts.passed > 0)
}

impl Saved {
    /// All the files of a run.
    fn write(&self, lab: &Lab, dir: &Path, boots: &[Record]) -> Result<()> {
        fs::write(
            dir.join("xfstests.json"),
            serde_json::to_string_pretty(self)? + "\n",
        )?;
        self.results(boots).write(lab, dir)?;
        let mut text = self.title() + "\n\n" + &table(self).to_string() + "\n";
        if !self.callers.is_empty() {
            text.push_str(&format!("\n{}\n", callers_table(&self.callers)));
        }
        Ok(fs::write(dir.join("table.md"), text)?)
    }

    fn title(&self) -> String {
        let shard = self.shard.as_ref();
        format!(
            "xfstests on {}, {}, {}: {}{}, {} s, {} boots",
            self.build,
            self.form,
            if self.wakewatch {
                "wakewatch loaded"
            } else {
                "without wakewatch"
            },
            self.asked,
            shard.map_or(String::new(), |shard| format!(" ({shard})")),
            self.seconds,
            self.boots
        )
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.tests().iter().for_each(|test| counts += test.counts());
        counts
    }

    /// What it was, and what came of each test.
    pub fn told(&self) -> (String, Vec<Test>) {
        (self.title(), self.tests())
    }

    fn tests(&self) -> Vec<Test> {
        self.rows
            .iter()
            .map(|row| {
                let mut test = Test::new(&row.test, row.mark.status());
                if row.mark != Mark::Pass {
                    let mark = row.mark.text().to_lowercase();
                    test.notes.push(match row.why.is_empty() {
                        true => mark,
                        false => format!("{mark}: {}", row.why),
                    });
                }
                test.notes.extend(row.wakewatch.as_ref().map(|w| {
                    let findings = match w.reports() {
                        0 => "no report".to_string(),
                        _ => by_verdict(&w.findings),
                    };
                    format!("wakewatch: {findings}, {} windows", w.windows)
                }));
                test.seconds = row.seconds;
                let of = row.wakewatch.as_ref();
                test.properties = of.map_or(BTreeMap::new(), |w| w.properties(row.mark));
                let cpu = row
                    .cpu
                    .map(|s| ("cpu_seconds".to_string(), format!("{s:.1}")));
                test.properties.extend(cpu);
                test
            })
            .collect()
    }

    fn results<'a>(&self, boots: &'a [Record]) -> Results<'a> {
        let mut suite = Suite::new("xfstests", self.seconds, self.tests());
        let wakewatch = u8::from(self.wakewatch).to_string();
        for (name, value) in [
            ("kernel", &self.build),
            ("form", &self.form),
            ("wakewatch", &wakewatch),
        ] {
            suite
                .test
                .properties
                .insert(name.to_string(), value.clone());
        }
        suite.test.kernel = Some(self.build.clone());
        let counts = self.counts();
        Results {
            verb: "xfstests",
            good: counts.failed == 0 && counts.passed > 0,
            seconds: self.seconds,
            suites: vec![suite],
            boots: boots.iter().collect(),
            data: Value::Null,
        }
    }

    fn load(lab: &Lab, run: &Path) -> Result<Self> {
        let places = [run.to_path_buf(), lab.cache.join("runs").join(run)];
        let file = places.iter().map(|dir| dir.join("xfstests.json"));
        let file = file
            .into_iter()
            .find(|file| file.is_file())
            .with_context(|| format!("{}: no run of make xfstests", run.display()))?;
        serde_json::from_str(&fs::read_to_string(&file)?)
            .with_context(|| format!("{} can't be read", file.display()))
    }
}

fn seconds(s: Option<f64>) -> String {
    s.map_or(String::new(), |s| format!("{s:.1}"))
}

fn table(saved: &Saved) -> Table {
    let mut table = crate::table::table([
        "test",
        "xfstests",
        "s",
        "cpu s",
        "reports",
        "unreferenced sites",
        "windows",
        "longest >=",
        "missed",
        "why",
    ]);
    for row in &saved.rows {
        let mut cells = vec![
            row.test.clone(),
            row.mark.text().to_string(),
            seconds(row.seconds),
            seconds(row.cpu),
        ];
        match &row.wakewatch {
            Some(w) => {
                cells.push(match w.reports() {
                    0 => "0".to_string(),
                    _ => by_verdict(&w.findings),
                });
                // Of a guest that died there is no more than its console.
                if row.mark == Mark::Died {
                    cells.extend(std::iter::repeat_n(String::new(), 4));
                } else {
                    cells.extend([
                        w.unreferenced_sites.to_string(),
                        w.windows.to_string(),
                        w.longest.map_or(String::new(), length),
                        w.missed.to_string(),
                    ]);
                }
            }
            None => cells.extend(std::iter::repeat_n(String::new(), 5)),
        }
        cells.push(row.why.clone());
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
== stats
end_writeback: 10
unreferenced: 0
windows_opened: 100
missed_wake: 1
missed_end_writeback: 0
== callers
site=end_writeback calls=96 none=0 spare_min=1 spare_max=2 verdict=held caller=ext4_finish_bio+0x19b/0x290
== windows
site=end_writeback caller=ext4_finish_bio+0x19b/0x290 n=9 16:7 20:2
table open=3 freed=0 room=1024
";
    const AFTER: &str = "\
== stats
end_writeback: 30
unreferenced: 4
zero_ref: 1
windows_opened: 150
missed_wake: 3
missed_end_writeback: 1
== callers
site=end_writeback calls=98 none=0 spare_min=1 spare_max=2 verdict=held caller=ext4_finish_bio+0x19b/0x290
site=end_writeback calls=4 none=4 spare_min=0 spare_max=0 verdict=unreferenced caller=iomap_finish_ioend+0x1/0x2
== windows
site=end_writeback caller=ext4_finish_bio+0x19b/0x290 n=10 16:7 17:1 20:2
table open=3 freed=0 room=1024
";

    #[test]
    fn a_verdict_is_what_has_come_to_it() {
        let (before, after) = (Snapshot::parse(BEFORE), Snapshot::parse(AFTER));
        let w = verdict(&before, &after);
        assert_eq!(w.reports(), 5);
        assert_eq!(by_verdict(&w.findings), "unreferenced 4, zero-ref 1");
        assert_eq!((w.unreferenced_sites, w.windows, w.missed), (1, 50, 3));
        // The two of 2^20 were there before.
        assert_eq!(w.longest, Some(17));
        assert_eq!(length(17), "131 us");
        let same = verdict(&after, &after);
        assert_eq!(same, Verdict::default());
    }

    #[test]
    fn xunit_is_read() {
        let file = |inner: &str| {
            format!("<?xml version=\"1.0\"?>\n<testsuite name=\"xfstests\"><properties><property name=\"A\" value=\"b\"/></properties>\n<testcase classname=\"xfstests.global\" name=\"generic/029\" time=\"4\">{inner}</testcase></testsuite>")
        };
        assert_eq!(xunit(&file("")).unwrap(), None);
        let bad = "<failure message=\"- output &lt;mismatch&gt;\" type=\"TestFail\" /><system-err><![CDATA[<x>]]></system-err>";
        let (mark, why) = xunit(&file(bad)).unwrap().unwrap();
        assert_eq!((mark, why.as_str()), (Mark::Fail, "- output <mismatch>"));
        let skip = "<skipped message=\"no quota\" />";
        assert_eq!(xunit(&file(skip)).unwrap().unwrap().0, Mark::NotRun);
        assert!(xunit("<testsuite></testsuite>").is_err());
        assert!(xunit("<testsuite><a></b>").is_err());
    }

    #[test]
    fn a_test_without_a_word_has_failed() {
        let xml = "<testsuite><testcase name=\"a\" time=\"1\"></testcase></testsuite>".to_string();
        let judged = |status: &str, xml| judge(status, xml, Some("x\nno mkfs\n\n".to_string()));
        assert_eq!(judged("0", Some(xml.clone())).0, Mark::Pass);
        assert_eq!(judged("1", Some(xml)).0, Mark::Fail);
        let (mark, why) = judged("0", None);
        assert_eq!(mark, Mark::Fail);
        assert!(why.ends_with("no mkfs"));
        assert_eq!(judged("0", Some("<a".to_string())).0, Mark::Fail);
    }

    #[test]
    fn cpu_time_is_from_the_line_before_to_the_line_after() {
        let mut console = Console::default();
        for (stream, text, ms) in [
            (Stream::Script, "# run generic/029", 5000),
            (Stream::Console, "[    1.0] run fstests", 0),
            (Stream::Script, "#   9.9 s", 7500),
            (Stream::Script, "ok 1 generic/029", 9000),
            (Stream::Script, "# run generic/030", 9100),
        ] {
            console.push(stream, text.to_string());
            console.lines.last_mut().unwrap().cpu = Some(Duration::from_millis(ms));
        }
        assert_eq!(cpu(&console, "generic/029"), Some(2.5));
        // The guest has died in it.
        assert_eq!(cpu(&console, "generic/030"), None);
        assert_eq!(cpu(&console, "generic/031"), None);
    }

    #[test]
    fn who_has_no_time_left_does_not_hang() {
        assert_eq!(cut_off("600", 600).0, Mark::Hung);
        assert_eq!(cut_off("", 600).0, Mark::Hung);
        assert_eq!(cut_off("599", 600).0, Mark::NotReached);
    }

    #[test]
    fn a_finding_fails_its_test() {
        let found = Verdict {
            findings: [("tail".to_string(), 2)].into(),
            ..Verdict::default()
        };
        let pass = |w: Option<&Verdict>| both(Mark::Pass, String::new(), w).0;
        assert_eq!(pass(None), Mark::Pass);
        assert_eq!(pass(Some(&Verdict::default())), Mark::Pass);
        let (mark, why) = both(Mark::Pass, String::new(), Some(&found));
        assert!(mark == Mark::Fail && why.contains("tail 2"));
        // What check says of it goes first.
        let why = both(Mark::Fail, "x".to_string(), Some(&found)).1;
        assert_eq!(why, "x");
    }

    pub fn saved(wakewatch: bool, rows: &[(&str, Mark, f64)]) -> Saved {
        let rows = rows.iter().map(|&(test, mark, seconds)| Row {
            test: test.to_string(),
            mark,
            why: "why <&> \u{1b}".to_string(),
            seconds: Some(seconds),
            cpu: Some(seconds / 2.0),
            wakewatch: wakewatch.then(|| Verdict {
                findings: [("tail".to_string(), 2)].into(),
                longest: Some(10),
                ..Verdict::default()
            }),
        });
        Saved {
            kernel: "fixed".to_string(),
            build: "fixed-0".to_string(),
            form: "4k".to_string(),
            wakewatch,
            asked: "quick".to_string(),
            shard: None,
            seconds: 9.0,
            boots: 1,
            rows: rows.collect(),
            callers: Vec::new(),
        }
    }

    #[test]
    fn results_in_three_forms() {
        let run = saved(
            true,
            &[
                ("generic/029", Mark::Pass, 2.0),
                ("b", Mark::Hung, 1.0),
                ("c", Mark::NotRun, 0.5),
            ],
        );
        let text = table(&run).to_string();
        assert!(
            text.contains("| generic/029 | pass")
                && text.contains("tail 2")
                && text.contains("1 us")
        );
        let results = run.results(&[]);
        let xml = crate::junit::write("xfstests", &results.suites).unwrap();
        for (part, n) in [("tests=\"3\"", 2), ("failures=\"1\"", 2), ("<skipped", 1)] {
            assert_eq!(xml.matches(part).count(), n, "{part}: {xml}");
        }
        assert!(xml.contains("<property name=\"wakewatch.reports\" value=\"2\"/>"));
        assert!(xml.contains("<property name=\"wakewatch.longest_window_ns\" value=\"1024\"/>"));
        assert!(xml.contains("hung: why &lt;&amp;&gt; "));
        // What is written can be read.
        assert_eq!(xunit(&xml).unwrap().unwrap().0, Mark::Fail);
        let again = crate::ktap::parse(crate::ktap::document(&run.tests()).lines());
        let mut counts = Counts::default();
        again.iter().for_each(|test| counts += test.counts());
        assert_eq!(counts, run.counts());
        assert_eq!(counts.to_string(), "1 passed, 1 failed, 1 skipped");
        let json = serde_json::to_string(&run).unwrap();
        let back: Saved = serde_json::from_str(&json).unwrap();
        assert_eq!(back.rows[1].mark, Mark::Hung);
    }

    #[test]
    fn exclusions_have_reasons() {
        let found = excludes("# x y\n\ngeneric/476  too long for it\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found["generic/476"], "too long for it");
    }
}
