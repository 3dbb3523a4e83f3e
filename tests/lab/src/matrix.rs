// SPDX-License-Identifier: GPL-2.0

//! The proposals, side by side: each kernel runs the same races with wakewatch loaded, and one table
//! says which it loses, beside what the exhaustive model (tests/host/model) says of it.
//!
//! A race that kills its guest costs a boot; those that have not had their turn then go on in the
//! next one. What was measured is kept under everything that went in, so a run that was
//! interrupted goes on where it stopped.
//!
//! And what each costs: instructions of an end of writeback, counted as the bench does.

use crate::bench::{self, Spread};
use crate::console::chief_splat;
use crate::env::Lab;
use crate::guest::{self, Boot, Guest};
use crate::ktap::{Status, Test};
use crate::kvm::{self, Accel};
use crate::outcome::Outcome;
use crate::suites::Run;
use anyhow::{bail, Context, Result};
use comfy_table::{presets::ASCII_MARKDOWN, Table};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::DefaultHasher;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

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

/// The cases of ww_driver.c that have a price here, and how they are called. Of the write, 16 MB of it,
/// one page.
const PRICES: &[(&str, &str)] = &[
    ("start_writeback", "start"),
    ("end_writeback", "end"),
    ("end_writeback_wake", "end, stale PG_waiters"),
    ("end_writeback_waiter", "end, a task waits"),
    ("write_16_mb", "page written"),
];
const PAGES_WRITTEN: u64 = (16 << 20) / 4096;
/// Two readings of the counter with nothing between them.
const EMPTY: &str = "nothing";

/// What there is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Races,
    Price,
}

/// A spread for each round, by case.
type Price = BTreeMap<String, Vec<Spread>>;

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
    /// In ticks of the counter, those of its reading included.
    #[serde(default)]
    price: Option<Price>,
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
            error: None,
            seconds: 0.0,
        }
    }

    /// Instructions in each round, without those of the reading of the counter.
    fn instructions(&self, case: &str) -> Option<Vec<u64>> {
        let price = self.price.as_ref()?;
        let parts = if case.starts_with("write_") {
            PAGES_WRITTEN
        } else {
            1
        };
        let empty = price.get(EMPTY)?.first()?.median;
        let rounds = price.get(case)?.iter();
        Some(
            rounds
                .map(|spread| (spread.median.saturating_sub(empty) + parts / 2) / parts)
                .collect(),
        )
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
    let mut kernel = String::new();
    let mut rows = Vec::new();
    for (key, about) in ROWS {
        if failed.iter().any(|failed| failed == key) {
            let mut row = Row::new(key, about);
            row.error = Some("does not apply or does not build, see above".to_string());
            rows.push(row);
        } else if keys.iter().any(|asked| asked == key) {
            if part == Some(Part::Price) {
                rows.push(Row::new(key, about));
                continue;
            }
            let cached = cache_file(lab, key, accel)?;
            if let (false, Ok(text)) = (fresh, fs::read_to_string(&cached)) {
                let row: Row = serde_json::from_str(&text)
                    .with_context(|| format!("{} (remove it)", cached.display()))?;
                println!("{key}: measured before, {}", cached.display());
                rows.push(row);
                continue;
            }
            let row = measure(lab, key, &mut |boot| {
                let guest = guest::run(lab, accel, &run_dir, boot)?;
                kernel = guest.result.release.clone().unwrap_or_default();
                println!("  {}: {}", boot.name, guest.result.why);
                Ok(guest)
            })?;
            // Half of a result is none.
            if row.cells.values().all(|cell| cell.mark != Mark::Unknown) {
                fs::create_dir_all(cached.parent().context("no folder")?)?;
                let temp = cached.with_extension("new");
                fs::write(&temp, serde_json::to_string_pretty(&row)?)?;
                fs::rename(&temp, &cached)?;
            }
            rows.push(row);
        }
    }
    for row in &mut rows {
        row.model = modelled(&row.key);
        if part != Some(Part::Races) && row.error.is_none() {
            row.price = Some(price(lab, &row.key, &run_dir, fresh, &mut kernel)?);
        }
    }
    let text = match part {
        Some(Part::Price) => price_text(&rows),
        Some(Part::Races) => text(&rows),
        None => text(&rows) + "\n" + &price_text(&rows),
    };
    println!("\n{text}");
    fs::write(run_dir.join("matrix.md"), &text)?;
    let all = Matrix {
        races: RACES.iter().copied().collect(),
        kernel,
        qemu: &lab.qemu_version,
        accel,
        rows: &rows,
    };
    let json = run_dir.join("matrix.json");
    fs::write(&json, serde_json::to_string_pretty(&all)? + "\n")?;
    println!("{}", json.display());
    let known = |row: &Row| row.cells.values().all(|cell| cell.mark != Mark::Unknown);
    Ok(failed.is_empty() && rows.iter().all(known))
}

/// What the model loses, of a mapping in the page cache, as that of the races is.
fn modelled(key: &str) -> BTreeMap<String, Vec<String>> {
    let proposals = wakewatch_model::proposals();
    let proposal = proposals.iter().find(|proposal| proposal.key == key);
    let found = proposal.map(|proposal| wakewatch_model::check(proposal, true));
    let lost = found.map(|found| found.lost).unwrap_or_default();
    lost.into_iter()
        .map(|(race, steps)| (race.to_string(), steps))
        .collect()
}

fn about(key: &str) -> Result<&'static str> {
    match ROWS.iter().find(|(row, _)| *row == key) {
        Some((_, about)) => Ok(about),
        None => {
            let keys: Vec<&str> = ROWS.iter().map(|(key, _)| *key).collect();
            bail!("no proposal `{key}`: there are {}", keys.join(", "))
        }
    }
}

/// Where the row is kept: its name has the kernel, the module, the reproducer and the scripts.
fn cache_file(lab: &Lab, key: &str, accel: Accel) -> Result<PathBuf> {
    let kernel = lab.kernel(key)?;
    let mut hash = DefaultHasher::new();
    kernel.dir.hash(&mut hash);
    lab.module(key).hash(&mut hash);
    format!("{accel:?} {}", lab.qemu_version).hash(&mut hash);
    let repro = std::env::var("WW_REPRO").context("WW_REPRO is not set")?;
    fs::read(&repro)
        .with_context(|| repro.clone())?
        .hash(&mut hash);
    let mut scripts: Vec<PathBuf> = RACES
        .iter()
        .map(|(race, _)| lab.guest_script(race))
        .collect();
    scripts.extend(["lib", "race", "run"].map(|name| lab.guest_script(name)));
    for script in scripts {
        fs::read(&script)
            .with_context(|| script.display().to_string())?
            .hash(&mut hash);
    }
    let name = format!("{key}-{:016x}.json", hash.finish());
    Ok(lab.cache.join("matrix").join(name))
}

/// Counts the instructions of a kernel, or takes what was counted before.
fn price(lab: &Lab, key: &str, run_dir: &Path, fresh: bool, release: &mut String) -> Result<Price> {
    let name = format!("WW_BENCH_{}", key.replace('-', "_"));
    let modules = std::env::var(&name).with_context(|| {
        format!("{name} is not set: start the matrix through scripts/matrix.sh")
    })?;
    let mut hash = DefaultHasher::new();
    lab.kernel(key)?.dir.hash(&mut hash);
    (&modules, &lab.qemu_version).hash(&mut hash);
    for script in ["lib", "price"] {
        fs::read(lab.guest_script(script))?.hash(&mut hash);
    }
    let file = format!("price-{key}-{:016x}.json", hash.finish());
    let cached = lab.cache.join("matrix").join(file);
    if let (false, Ok(text)) = (fresh, fs::read_to_string(&cached)) {
        println!("{key}: counted before, {}", cached.display());
        return serde_json::from_str(&text)
            .with_context(|| format!("{} (remove it)", cached.display()));
    }
    let name = format!("price-{key}");
    let mut boot = Boot::of_scripts(lab, key, &name, &["price"])?;
    boot.machine = bench::COUNTING.map(str::to_string).to_vec();
    boot.env.push(("WW_BENCH".to_string(), modules));
    let guest = guest::run(lab, Accel::Tcg, run_dir, &boot)?;
    println!("{key}: instructions: {}", guest.result.why);
    if guest.result.outcome != Outcome::Pass {
        let log = guest.dir.join("console.log");
        bail!("{name}: {}, {}", guest.result.why, log.display());
    }
    *release = guest.result.release.clone().unwrap_or_default();
    let price = bench::unhooked(guest.console.results()).with_context(|| name.clone())?;
    fs::create_dir_all(cached.parent().context("no folder")?)?;
    let temp = cached.with_extension("new");
    fs::write(&temp, serde_json::to_string_pretty(&price)?)?;
    fs::rename(&temp, &cached)?;
    Ok(price)
}

/// What each costs; both rounds where they differ.
fn price_text(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    let mut header = vec!["kernel"];
    header.extend(PRICES.iter().map(|(_, what)| *what));
    header.push("speed");
    table.set_header(header);
    // The last case is the write.
    let written = |row: &Row| -> Option<f64> {
        let price = row.price.as_ref()?.get(PRICES.last()?.0)?;
        let rounds = price.len().max(1) as f64;
        Some(price.iter().map(|s| s.median as f64).sum::<f64>() / rounds)
    };
    let broken = rows
        .iter()
        .find(|row| row.key == "broken")
        .and_then(written);
    for row in rows.iter().filter(|row| row.price.is_some()) {
        let mut cells = vec![row.key.clone()];
        for (case, _) in PRICES {
            let counted = row.instructions(case);
            cells.push(counted.map_or("?".to_string(), |rounds| bench::rounds_text(&rounds)));
        }
        cells.push(match (broken, written(row)) {
            (Some(broken), Some(this)) => format!("{:.4}", broken / this),
            _ => "-".to_string(),
        });
        table.add_row(cells);
    }
    format!(
        "{table}\n\nInstructions of folio_start_writeback() and folio_end_writeback(), and of a page of 16 MB\n\
         written and synced; medians of two rounds, both where they differ. `speed` is what a writer\n\
         has of that of `broken`, if time were instructions.\n"
    )
}

/// Runs all races on a kernel, in as many guests as it takes.
fn measure(lab: &Lab, key: &str, run: &mut dyn FnMut(&Boot) -> Result<Guest>) -> Result<Row> {
    println!("{key}: {}", about(key)?);
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
    let splats = console.splats(section.clone());
    let splat = chief_splat(&splats);
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
    let reports = crate::console::count_verdicts(&console.reports(section));
    let counted = guest.result.stats.get(race).map(|stats| {
        let names = [
            "zero_ref",
            "tail",
            "reused",
            "unreferenced",
            "not_writeback",
            "unlocked_start",
        ];
        names
            .iter()
            .filter_map(|name| Some((name.replace('_', "-"), *stats.get(*name)?)))
            .filter(|(_, n)| *n > 0)
            .collect()
    });
    Some(Cell {
        mark,
        evidence,
        verdicts: counted.unwrap_or(reports),
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
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN);
    let mut header = vec!["kernel"];
    header.extend(RACES.iter().map(|(race, _)| *race));
    header.push("wakewatch said");
    table.set_header(header);
    for row in rows {
        let mut cells = vec![row.key.clone()];
        for (race, _) in RACES {
            let measured = row.cells.get(*race).map_or("-", |cell| cell.mark.sign());
            let model = match row.model.contains_key(*race) {
                true => Mark::Lost.sign(),
                false => Mark::Holds.sign(),
            };
            cells.push(if measured == model {
                measured.to_string()
            } else {
                format!("{measured} / {model}")
            });
        }
        let mut said: BTreeMap<&str, u64> = BTreeMap::new();
        for cell in row.cells.values() {
            for (verdict, n) in &cell.verdicts {
                *said.entry(verdict).or_default() += n;
            }
        }
        cells.push(match &row.error {
            Some(_) => "not built".to_string(),
            None if said.is_empty() => "nothing".to_string(),
            None => said.keys().copied().collect::<Vec<_>>().join(", "),
        });
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
