// SPDX-License-Identifier: GPL-2.0

//! The proposals, side by side: each kernel runs the same races with wakewatch loaded, and one table
//! says which it loses, beside what the exhaustive model (tests/host/model) says of it.
//!
//! A race that kills its guest costs a boot; those that have not had their turn then go on in the
//! next one. What was measured is kept under everything that went in, so a run that was
//! interrupted goes on where it stopped.
//!
//! One file for each other part: `alarms`, `stress`, `price`; `reads`, the second table, which is about
//! the end of a read and has kernels of its own; and `page`, which shows them all.

mod alarms;
mod page;
mod price;
mod reads;
mod stress;

use crate::console::chief_splat;
use crate::debugfs;
use crate::env::Lab;
use crate::guest::{self, Boot, Guest};
use crate::ktap::{Status, Test};
use crate::kvm::{self, Accel};
use crate::live::without_live;
use crate::outcome::Outcome;
use crate::page::run::{self as drawn, Table};
use crate::results::{Results, Suite};
use crate::suites::Run;
use crate::table::table;
use anyhow::{anyhow, bail, Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// The kernels, in the order of the table, and what is special about each.
const ROWS: &[(&str, &str)] = &[
    (
        "broken",
        "no reference, the clear before the look for waiters, no loop",
    ),
    (
        "get-if-waiters",
        "a reference under the i_pages lock, if somebody waits",
    ),
    (
        "get-around",
        "a reference around clear and wake: 073861ed77b6",
    ),
    (
        "wait-loop",
        "the waiter loops, the waker does not look at the folio",
    ),
    ("wait-loop-waiter", "only the waiter's half: c2407cf7d22d"),
    ("wait-loop-waker", "only the waker's half"),
    (
        "writeback-holds-ref",
        "PG_writeback has a reference of its own",
    ),
    (
        "clear-under-lock-sketch",
        "the clear under the queue's lock, last",
    ),
    (
        "clear-under-lock",
        "the clear under the queue's lock, first",
    ),
    (
        "warn-zero-count-plain",
        "stock, and an assertion on the refcount",
    ),
    (
        "warn-zero-count",
        "stock, and an assertion on refcount and flags",
    ),
    (
        "warn-unlocked-start",
        "stock, and an assertion on the folio lock",
    ),
    (
        "stock",
        "6.12: a reference, clear and look in one XOR, a loop",
    ),
    ("stock-no-ref", "6.12 without its reference"),
    (
        "lost-wake",
        "nobody's proposal: looks for waiters before the clear",
    ),
];

/// The races: a script of tests/guest, and what is lost with it.
pub const RACES: &[(&str, &str)] = &[
    (
        "order0",
        "a waiter of the page's next life is woken, its writeback goes on",
    ),
    ("tail", "the waker looks at the flags of a tail page"),
    (
        "own",
        "a waiter is woken before its own writeback has ended",
    ),
    ("later", "a waiter is woken by the writeback before its own"),
    ("waits", "a wake-up is lost"),
    (
        "dma",
        "a truncation drops a page that the device has yet to read",
    ),
];

/// The kernel that shows that a lost wake-up is seen.
const CONTROL: &str = "lost-wake";

/// What there is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Races,
    Alarms,
    Stress,
    Price,
    Reads,
}

/// What became of a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It was run, and not lost.
    Holds,
    /// It was lost.
    Lost,
    /// It was not run as it must be: this says nothing about the kernel.
    Unknown,
}

impl Mark {
    fn sign(self) -> &'static str {
        match self {
            Self::Holds => "ok",
            Self::Lost => "LOST",
            Self::Unknown => "?",
        }
    }
}

/// One race on one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    pub mark: Mark,
    /// What shows it.
    pub evidence: String,
    /// Findings of wakewatch's during the race, by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Tasks that were woken by them.
    #[serde(default)]
    pub woken: u64,
    pub log: PathBuf,
}

/// All races on one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub key: String,
    /// Races that the model loses, with the shortest way there.
    #[serde(default)]
    pub model: BTreeMap<String, Vec<String>>,
    pub about: String,
    pub cells: BTreeMap<String, Cell>,
    #[serde(default)]
    price: Option<price::Price>,
    /// For kernels with an assertion.
    #[serde(default)]
    alarms: Option<alarms::Alarms>,
    #[serde(default)]
    stress: Option<stress::Stress>,
    /// Why there is nothing: it does not apply, or does not build.
    pub error: Option<String>,
    /// Of all of its guests.
    pub seconds: f64,
}

impl Row {
    fn new(key: &str, about: &str) -> Self {
        Self {
            key: key.to_string(),
            model: BTreeMap::new(),
            about: about.to_string(),
            cells: BTreeMap::new(),
            price: None,
            alarms: None,
            stress: None,
            error: None,
            seconds: 0.0,
        }
    }

    /// What a race's cell says, and of which kind it is: measured, and the model where it says otherwise.
    fn sign(&self, race: &str) -> (String, &'static str) {
        let measured = self.cells.get(race).map(|cell| cell.mark);
        let model = match self.model.contains_key(race) {
            true => Mark::Lost,
            false => Mark::Holds,
        };
        match measured {
            None => ("-".to_string(), ""),
            Some(mark) if mark != model => {
                (format!("{} / {}", mark.sign(), model.sign()), "differs")
            }
            Some(Mark::Lost) => (Mark::Lost.sign().to_string(), "lost"),
            Some(mark) => (mark.sign().to_string(), "ok"),
        }
    }

    /// Verdicts of wakewatch during the races.
    fn said(&self) -> String {
        let cells = self.cells.values();
        let said: BTreeSet<&str> = cells
            .flat_map(|cell| cell.verdicts.keys().map(String::as_str))
            .collect();
        match &self.error {
            Some(_) => "not built".to_string(),
            None if said.is_empty() => "nothing".to_string(),
            None => said.into_iter().collect::<Vec<_>>().join(", "),
        }
    }
}

/// matrix.json.
#[derive(Serialize)]
struct Matrix<'a> {
    races: BTreeMap<&'a str, &'a str>,
    kernel: String,
    qemu: &'a str,
    accel: Accel,
    rows: &'a [Row],
    /// The fixes for the end of a read.
    reads: &'a [Row],
}

/// Of matrix.json, what the results page shows.
#[derive(Deserialize)]
struct Saved {
    rows: Vec<Row>,
    reads: Vec<Row>,
}

/// The tables of a run in this folder, if it is one of the matrix: what became of each race.
pub fn saved(dir: &Path) -> Option<Result<Vec<Table>>> {
    let text = fs::read_to_string(dir.join("matrix.json")).ok()?;
    let saved: Result<Saved> = serde_json::from_str(&text).map_err(anyhow::Error::from);
    Some(saved.map(|saved| {
        let parts = [
            ("Ends of writeback", &saved.rows, RACES),
            ("Ends of reads", &saved.reads, reads::RACES),
        ];
        parts
            .into_iter()
            .filter(|(_, rows, _)| !rows.is_empty())
            .map(|(caption, rows, races)| raced(caption, rows, races))
            .collect()
    }))
}

fn raced(caption: &str, rows: &[Row], races: &[(&'static str, &str)]) -> Table {
    let names = races.iter().map(|(race, _)| *race);
    let head = ["kernel"].into_iter().chain(names.clone());
    let row = |row: &Row| {
        let signs = names.clone().map(|race| row.sign(race).0);
        let cells = [row.key.clone()].into_iter().chain(signs);
        drawn::Row {
            key: format!("{caption}: {}", row.key),
            verdict: None,
            cells: cells.chain([row.said()]).collect(),
            notes: row.error.iter().cloned().collect(),
            guest: None,
        }
    };
    Table {
        caption: caption.to_string(),
        head: head.chain(["wakewatch said"]).collect(),
        rows: rows.iter().map(row).collect(),
    }
}

/// One run of `lab matrix`.
struct Lane<'a> {
    lab: &'a Lab,
    run_dir: PathBuf,
    accel: Accel,
    /// Measure again what was measured before.
    fresh: bool,
}

impl Lane<'_> {
    fn boot(&self, accel: Accel, boot: &Boot) -> Result<Guest> {
        let guest = guest::run(self.lab, accel, &self.run_dir, boot)?;
        println!("  {}: {}", boot.name, guest.result.why);
        Ok(guest)
    }

    /// What was measured before with the same kernel, QEMU, scripts and `goes_in`, or what `measure` says
    /// now, which is kept if it is `whole`: half of a result is none.
    fn kept<T: Serialize + DeserializeOwned>(
        &self,
        what: &str,
        key: &str,
        goes_in: &[String],
        scripts: &[&str],
        whole: impl Fn(&T) -> bool,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let mut hash = DefaultHasher::new();
        self.lab.kernel(key)?.dir.hash(&mut hash);
        (&self.lab.qemu_version, goes_in).hash(&mut hash);
        for script in scripts {
            let path = self.lab.guest_script(script);
            fs::read(&path)
                .with_context(|| path.display().to_string())?
                .hash(&mut hash);
        }
        let file = format!("{what}-{key}-{:016x}.json", hash.finish());
        let cached = self.lab.cache.join("matrix").join(file);
        if let (false, Ok(text)) = (self.fresh, fs::read_to_string(&cached)) {
            println!("{key}: {what} measured before, {}", cached.display());
            return serde_json::from_str(&text)
                .with_context(|| format!("{} (remove it)", cached.display()));
        }
        let result = measure()?;
        if whole(&result) {
            fs::create_dir_all(cached.parent().context("no folder")?)?;
            let temp = cached.with_extension("new");
            fs::write(&temp, serde_json::to_string_pretty(&result)?)?;
            fs::rename(&temp, &cached)?;
        }
        Ok(result)
    }
}

/// The reproducer and the module: what `goes_in` wherever a race is run.
fn programs(lab: &Lab, key: &str) -> Result<Vec<String>> {
    let repro = std::env::var("WW_REPRO").context("WW_REPRO is not set")?;
    let mut hash = DefaultHasher::new();
    fs::read(&repro)
        .with_context(|| repro.clone())?
        .hash(&mut hash);
    Ok(vec![
        format!("{:016x}", hash.finish()),
        format!("{:?}", lab.module(key)),
    ])
}

/// Runs `work` on all of `rows`, on so many at a time. The first error is the whole's.
fn each(
    rows: &mut [Row],
    workers: usize,
    work: impl Fn(&mut Row) -> Result<()> + Sync,
) -> Result<()> {
    let queue = Mutex::new(rows.iter_mut());
    let next = || queue.lock().ok().and_then(|mut rows| rows.next());
    std::thread::scope(|scope| {
        let run = || -> Result<()> {
            while let Some(row) = next() {
                work(row)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

/// `lab matrix`: the rows of `keys`, and an empty one for each that could not be built; everything of
/// them, or one part.
pub fn verb(
    lab: &Lab,
    keys: &[String],
    failed: &[String],
    fresh: bool,
    part: Option<Part>,
) -> Result<bool> {
    for key in keys.iter().chain(failed) {
        about(key)?;
    }
    let run_dir = lab.run_dir("matrix")?;
    let accel = kvm::probe(lab, &run_dir, &|line| println!("{line}"))?;
    let lane = Lane {
        lab,
        run_dir,
        accel,
        fresh,
    };
    let asked = |only| part.is_none_or(|part| part == only);
    let (mut rows, mut broken) = asked_for(ROWS, keys, failed);
    let (mut reads, mut broken_reads) = asked_for(reads::ROWS, keys, failed);
    // A kernel of both tables has a row in each.
    if part.is_some_and(|part| part != Part::Reads) {
        (reads, broken_reads) = (Vec::new(), Vec::new());
    }
    if part == Some(Part::Reads) {
        (rows, broken) = (Vec::new(), Vec::new());
    }
    let begun = Instant::now();
    if asked(Part::Races) {
        // One at a time: they are races.
        each(&mut rows, 1, |row| {
            let races: Vec<&str> = RACES.iter().map(|(race, _)| *race).collect();
            let scripts = [&races[..], &["lib", "race", "run"]].concat();
            let whole = |row: &Row| row.cells.values().all(|cell| cell.mark != Mark::Unknown);
            let goes_in = programs(lab, &row.key)?;
            *row = lane.kept("races", &row.key, &goes_in, &scripts, whole, || {
                println!("{}: {}", row.key, row.about);
                measure(lab, &row.key, &mut |boot| lane.boot(accel, boot))
            })?;
            Ok(())
        })?;
        progress(begun, "the races are run");
    }
    if asked(Part::Alarms) {
        each(&mut rows, 2, |row| {
            row.alarms = alarms::measure(&lane, &row.key)?;
            Ok(())
        })?;
        progress(begun, "the assertions are tried");
    }
    if asked(Part::Stress) {
        each(&mut rows, stress::AT_A_TIME, |row| {
            if row.key != CONTROL {
                row.stress = Some(stress::measure(&lane, &row.key)?);
            }
            Ok(())
        })?;
        progress(begun, "the stress is over");
    }
    if asked(Part::Price) {
        // Instructions are counted: who else uses the machine makes no difference.
        each(&mut rows, 2, |row| {
            row.price = Some(price::measure(&lane, &row.key, "price")?);
            Ok(())
        })?;
        progress(begun, "the instructions are counted");
    }
    if !reads.is_empty() {
        each(&mut reads, 1, |row| reads::measure(&lane, row))?;
        each(&mut reads, 2, |row| {
            row.price = Some(price::measure(&lane, &row.key, "price-reads")?);
            Ok(())
        })?;
        progress(begun, "the ends of reads are done");
    }
    rows.append(&mut broken);
    reads.append(&mut broken_reads);
    for row in &mut rows {
        row.model = modelled(&row.key);
    }
    for row in &mut reads {
        row.model = reads::modelled(&row.key);
    }
    let parts = [
        (Part::Races, text(&rows)),
        (Part::Stress, stress::text(&rows)),
        (Part::Price, price::text(&rows)),
        (Part::Reads, reads::text(&reads)),
    ];
    let shown = |part| match part {
        Part::Reads => !reads.is_empty(),
        Part::Stress => !rows.is_empty() && (asked(part) || asked(Part::Alarms)),
        _ => !rows.is_empty() && asked(part),
    };
    let text: Vec<String> = parts
        .into_iter()
        .filter(|(part, _)| shown(*part))
        .map(|(_, text)| text)
        .collect();
    let text = text.join("\n");
    println!("\n{text}");
    let run_dir = &lane.run_dir;
    fs::write(run_dir.join("matrix.md"), &text)?;
    let all = Matrix {
        races: RACES.iter().copied().collect(),
        kernel: release(lab, keys)?,
        qemu: &lab.qemu_version,
        accel,
        rows: &rows,
        reads: &reads,
    };
    let json = run_dir.join("matrix.json");
    fs::write(&json, serde_json::to_string_pretty(&all)? + "\n")?;
    let html = run_dir.join("matrix.html");
    fs::write(&html, page::page(&all))?;
    println!("{}\n{}", json.display(), html.display());
    let known = |row: &Row| {
        row.error.is_none()
            && row.cells.values().all(|cell| cell.mark != Mark::Unknown)
            && row
                .stress
                .as_ref()
                .is_none_or(|stress| stress.mark != Mark::Unknown)
    };
    let good = rows.iter().chain(&reads).all(known);
    let seconds = begun.elapsed().as_secs_f64();
    let of_rows = |rows: &[Row]| -> Vec<Test> { rows.iter().map(|row| row.test(lab)).collect() };
    let suites = [("writeback", of_rows(&rows)), ("reads", of_rows(&reads))];
    let results = Results {
        verb: "matrix",
        good,
        seconds,
        suites: suites
            .into_iter()
            .filter(|(_, tests): &(_, Vec<Test>)| !tests.is_empty())
            .map(|(name, tests)| Suite::new(name, seconds, tests))
            .collect(),
        // Of rows that were kept there are none.
        boots: Vec::new(),
        data: serde_json::to_value(&all)?,
    };
    results.write(lab, run_dir)?;
    Ok(good)
}

impl Row {
    /// For machines: whether it is known is what a run is judged by, and what is known a note.
    fn test(&self, lab: &Lab) -> Test {
        if let Some(error) = &self.error {
            return Test::fail(&self.key, error);
        }
        let cells = self.cells.iter().map(|(race, cell)| {
            let mut test = match cell.mark {
                Mark::Unknown => Test::new(race, Status::Fail),
                _ => Test::new(race, Status::Pass),
            };
            test.notes
                .push(format!("{}: {}", cell.mark.sign(), cell.evidence));
            test
        });
        let mut test = match self.cells.is_empty() {
            true => Test::new(&self.key, Status::Pass),
            false => Test::group(&self.key, cells.collect()),
        };
        test.kernel = lab.kernel(&self.key).ok().map(|kernel| kernel.build());
        test
    }
}

/// The rows of a table for `keys`, and one for each of `failed`.
fn asked_for(table: &[(&str, &str)], keys: &[String], failed: &[String]) -> (Vec<Row>, Vec<Row>) {
    let mut rows = Vec::new();
    let mut broken = Vec::new();
    for (key, about) in table {
        let mut row = Row::new(key, about);
        if failed.iter().any(|failed| failed == key) {
            row.error = Some("does not apply or does not build, see above".to_string());
            broken.push(row);
        } else if keys.iter().any(|asked| asked == key) {
            rows.push(row);
        }
    }
    (rows, broken)
}

/// Of all kernels: they are built from one tree.
fn release(lab: &Lab, keys: &[String]) -> Result<String> {
    let key = keys.first().context("no kernel")?;
    let file = lab
        .kernel(key)?
        .dir
        .join("kdir/include/config/kernel.release");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_string())
}

fn progress(begun: Instant, what: &str) {
    println!("{what}, {:.0} s", begun.elapsed().as_secs_f64());
}

/// What the model loses, of a mapping in the page cache, as that of the races is.
fn modelled(key: &str) -> BTreeMap<String, Vec<String>> {
    let proposals = wakewatch_model::proposals();
    let Some(proposal) = proposals.iter().find(|proposal| proposal.key == key) else {
        return BTreeMap::new();
    };
    let found = wakewatch_model::check(proposal, true);
    println!("{key}: the model has {} states", found.states);
    let lost = found.lost.into_iter();
    // No proposal is about the end of a read.
    lost.filter(|(race, _)| *race != "late-unlock")
        .map(|(race, steps)| (race.to_string(), steps))
        .collect()
}

fn about(key: &str) -> Result<&'static str> {
    match ROWS.iter().chain(reads::ROWS).find(|(row, _)| *row == key) {
        Some((_, about)) => Ok(about),
        None => {
            let all = ROWS.iter().chain(reads::ROWS);
            let keys: BTreeSet<&str> = all.map(|(key, _)| *key).collect();
            let keys: Vec<&str> = keys.into_iter().collect();
            bail!("no proposal `{key}`: there are {}", keys.join(", "))
        }
    }
}

/// Runs all races on a kernel, in as many guests as it takes.
fn measure(lab: &Lab, key: &str, run: &mut dyn FnMut(&Boot) -> Result<Guest>) -> Result<Row> {
    let mut row = Row::new(key, about(key)?);
    let mut left: Vec<&str> = RACES.iter().map(|(race, _)| *race).collect();
    // There is only one thing to be seen there, and all else hangs of it.
    left.retain(|race| key != CONTROL || *race == "waits");
    // Of those that are alone in their guest there is no second try.
    let mut guests = 0;
    while !left.is_empty() && guests < RACES.len() {
        guests += 1;
        let name = format!("matrix-{key}-{guests}");
        // A guest of one script has no subtests: run.sh always, so that there is one way to read it.
        let mut boot = Boot::of_scripts(lab, key, &name, &left)?;
        let mut argv = vec![lab.guest_script("run").display().to_string()];
        argv.extend(left.iter().map(|race| race.to_string()));
        boot.argv = argv;
        boot.env.push(("WW_DETECT".to_string(), "1".to_string()));
        boot.append.push("oops=panic".to_string());
        let guest = run(&boot)?;
        row.seconds += guest.result.seconds;
        let before = left.len();
        left.retain(|race| match cell(&guest, race) {
            Some(cell) => {
                row.cells.insert(race.to_string(), cell);
                false
            }
            None => true,
        });
        if left.len() == before {
            break;
        }
    }
    for race in left {
        row.cells.insert(
            race.to_string(),
            Cell {
                mark: Mark::Unknown,
                evidence: "no guest came to it".to_string(),
                verdicts: BTreeMap::new(),
                woken: 0,
                log: PathBuf::new(),
            },
        );
    }
    Ok(row)
}

/// What a guest has to say about a race; nothing if it ended before.
fn cell(guest: &Guest, race: &str) -> Option<Cell> {
    let console = &guest.console;
    let section = console.section(race)?;
    let all = console.findings(section);
    let left = all.clone().others();
    let splat = chief_splat(&left.splats);
    let test = guest.tests.iter().find(|test| test.name == race);
    let (mark, evidence) = match (test, splat) {
        // What the kernel itself says outweighs all else.
        (_, Some(splat)) => (Mark::Lost, splat.summary()),
        (Some(test), None) => match test.status {
            Status::Pass => (Mark::Holds, "survived".to_string()),
            _ => failed(race, test),
        },
        (None, None) => (
            Mark::Unknown,
            format!("{}: {}", guest.result.outcome, guest.result.why),
        ),
    };
    // Counters where the guest lived to save them: reports are rate-limited.
    let reports = crate::console::count_verdicts(&left.reports);
    let counted = guest.result.stats.get(race);
    let counted =
        counted.map(|stats| debugfs::findings(|name| stats.get(name).copied().unwrap_or(0)));
    let counted = counted.map(|counted| without_live(counted, &all));
    let woken = guest.result.stats.get(race).and_then(|s| s.get("victims"));
    Some(Cell {
        mark,
        evidence,
        verdicts: counted.unwrap_or(reports),
        woken: woken.copied().unwrap_or(0),
        log: guest.dir.join("console.log"),
    })
}

/// A script that failed: `ww-repro` has seen what it looks for, or could not look.
fn failed(race: &str, test: &Test) -> (Mark, String) {
    let leaf = test
        .children
        .iter()
        .find(|child| child.status == Status::Fail)
        .unwrap_or(test);
    // EXIT_SEEN of tests/repro/src/main.rs, as race.sh words it.
    if leaf.name.ends_with("ww-repro ended with status 6") {
        let what = RACES.iter().find(|(name, _)| *name == race);
        let what = what.map_or("", |(_, what)| *what);
        (Mark::Lost, format!("seen by ww-repro: {what}"))
    } else {
        (Mark::Unknown, leaf.name.clone())
    }
}

/// The table and what is behind each loss, readable at 100 columns.
fn text(rows: &[Row]) -> String {
    let mut header = vec!["kernel"];
    header.extend(RACES.iter().map(|(race, _)| *race));
    header.push("wakewatch said");
    let mut table = table(header);
    for row in rows {
        let mut cells = vec![row.key.clone()];
        cells.extend(RACES.iter().map(|(race, _)| row.sign(race).0));
        cells.push(row.said());
        table.add_row(cells);
    }
    let mut out =
        format!("{table}\n\nMeasured; after a stroke the model, where it says otherwise.\n\n");
    for (race, what) in RACES {
        out.push_str(&format!("- `{race}`: {what}\n"));
    }
    out.push('\n');
    for row in rows {
        out.push_str(&format!("- **{}**: {}\n", row.key, row.about));
        if let Some(error) = &row.error {
            out.push_str(&format!("  - {error}\n"));
        }
        for (race, _) in RACES {
            if let Some(cell) = row.cells.get(*race).filter(|cell| cell.mark != Mark::Holds) {
                let sign = cell.mark.sign();
                out.push_str(&format!("  - {race} {sign}: {}\n", cell.evidence));
            }
            for (n, step) in row.model.get(*race).into_iter().flatten().enumerate() {
                if n == 0 {
                    out.push_str(&format!("  - {race}, the shortest way of the model:\n"));
                }
                out.push_str(&format!("    {}. {step}\n", n + 1));
            }
        }
    }
    out
}

/// What must come of it, for `lab test`: the bug in all its forms, and what the merged fix leaves of it.
const EXPECTED: &[(&str, &[(&str, Mark)])] = &[
    (
        "broken",
        &[
            ("order0", Mark::Lost),
            ("tail", Mark::Lost),
            ("own", Mark::Holds),
            ("later", Mark::Lost),
            ("waits", Mark::Holds),
            ("dma", Mark::Lost),
        ],
    ),
    (
        "get-around",
        &[
            ("order0", Mark::Holds),
            ("tail", Mark::Holds),
            ("own", Mark::Holds),
            ("later", Mark::Lost),
            ("waits", Mark::Holds),
            ("dma", Mark::Lost),
        ],
    ),
];

pub fn suite(run: &mut Run) -> Result<Vec<Test>> {
    let lab = run.lab;
    let mut tests = Vec::new();
    for (key, expected) in EXPECTED {
        let row = measure(lab, key, &mut |boot| {
            let guest = run.boot(boot)?;
            if guest.result.outcome == Outcome::LabError {
                bail!("{}: {}", boot.name, guest.result.why);
            }
            Ok(guest)
        })?;
        for (race, mark) in *expected {
            let title = format!("{key}: {race} {}", mark.sign());
            tests.push(match row.cells.get(*race) {
                Some(cell) if cell.mark == *mark => Test::new(title, Status::Pass),
                Some(cell) => {
                    let log = cell.log.display();
                    let seen = cell.mark.sign();
                    Test::fail(title, format!("{seen}: {}, {log}", cell.evidence))
                }
                None => Test::fail(title, "no result"),
            });
        }
    }
    Ok(tests)
}
