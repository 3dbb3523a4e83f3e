// SPDX-License-Identifier: GPL-2.0

//! A run's folder as data: its rows with their verdicts, its guests, and what those have said. Nothing but
//! what lies there is read, so that the page of an older run can be made, and compared with.

use super::story::Story;
use crate::console::{Console, Findings, Report, Stream};
use crate::debugfs::{self, Place, Snapshot};
use crate::guest::Record;
use crate::ktap::{self, Status, Test};
use crate::matrix;
use crate::outcome::Outcome;
use crate::repro::Judged;
use crate::xfstests;
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub struct Run {
    pub dir: PathBuf,
    /// The folder's.
    pub name: String,
    pub verb: String,
    pub tables: Vec<Table>,
    pub guests: Vec<Guest>,
    /// Tables as they were printed, by file.
    pub printed: Vec<(String, String)>,
    /// Other pages in the folder.
    pub pages: Vec<String>,
    /// Files that are there and can't be read, each with the reason.
    pub unread: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Table {
    pub caption: String,
    pub head: Vec<&'static str>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What it is about, which tells it from every other row of the run.
    pub key: String,
    /// None where a row is a measurement and no test.
    pub verdict: Option<Status>,
    /// What was to be seen, column by column.
    pub cells: Vec<String>,
    /// Why it is not as it must be, or was skipped, and what else was said.
    pub notes: Vec<String>,
    /// The guest that it was seen in.
    pub guest: Option<String>,
}

#[derive(Debug)]
pub struct Guest {
    /// Its folder, below the run's.
    pub name: String,
    pub record: Record,
    pub console: Console,
    /// Lines of the console with sources behind symbols, by their number.
    pub decoded: HashMap<usize, String>,
    pub findings: Findings,
    pub stories: Vec<Story>,
    /// By script.
    pub windows: BTreeMap<String, Windows>,
}

type ReadGuest = fn(&Path, String, Record) -> Guest;

/// Counts by power of two, in ns, of each call site.
pub type Windows = BTreeMap<Place, BTreeMap<u32, u64>>;

impl Run {
    /// All of it.
    pub fn read(dir: &Path) -> Result<Self> {
        Self::read_with(dir, Guest::read)
    }

    /// What a run is compared by: without the consoles, and what is in them.
    pub fn read_results(dir: &Path) -> Result<Self> {
        Self::read_with(dir, Guest::read_results)
    }

    fn read_with(dir: &Path, guest: ReadGuest) -> Result<Self> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let mut run = Self {
            dir: dir.to_path_buf(),
            verb: verb(&name).unwrap_or(&name).to_string(),
            name: name.into_owned(),
            ..Self::default()
        };
        run.find_guests(dir, 0, guest)?;
        run.read_tables();
        for file in ["certainty.txt", "bench.txt", "matrix.md"] {
            run.print(file.to_string());
        }
        let guests: Vec<String> = run.guests.iter().map(|g| g.name.clone()).collect();
        for guest in guests {
            run.print(format!("{guest}/table.md"));
        }
        if dir.join("matrix.html").is_file() {
            run.pages.push("matrix.html".to_string());
        }
        Ok(run)
    }

    fn print(&mut self, file: String) {
        if let Ok(text) = fs::read_to_string(self.dir.join(&file)) {
            self.printed.push((file, text));
        }
    }

    /// Guests are folders with a result of their own. A suite may have a folder with theirs in it.
    fn find_guests(&mut self, dir: &Path, depth: usize, guest: ReadGuest) -> Result<()> {
        let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        let mut dirs: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir() && !path.is_symlink())
            .collect();
        dirs.sort();
        for dir in dirs {
            let name = dir
                .strip_prefix(&self.dir)
                .unwrap_or(&dir)
                .to_string_lossy();
            match json::<Record>(&dir.join("result.json")) {
                // It answers whether there is a KVM that works, and nothing else.
                Some(Ok(record)) if record.scenario != "kvm-probe" => {
                    self.guests.push(guest(&dir, name.into_owned(), record));
                }
                Some(Ok(_)) => {}
                Some(Err(err)) => self.unread.push(format!("{name}/result.json: {err:#}")),
                None if depth < 1 => self.find_guests(&dir, depth + 1, guest)?,
                None => {}
            }
        }
        Ok(())
    }

    fn read_tables(&mut self) {
        let dir = self.dir.clone();
        if let Some(saved) = self.json::<xfstests::Saved>("xfstests.json") {
            let (title, tests) = saved.told();
            self.tables.push(tested(&title, &tests));
        } else if let Some(tables) = matrix::saved(&dir) {
            match tables {
                Ok(tables) => self.tables.extend(tables),
                Err(err) => self.unread.push(format!("matrix.json: {err:#}")),
            }
        } else if let Some(saved) = self.json::<Saved>("result.json") {
            match serde_json::from_value::<Vec<Judged>>(saved.data) {
                Ok(rows) => self.tables.push(judged(&rows)),
                Err(_) => self.tables.extend(saved.suites.iter().map(suite)),
            }
        } else {
            self.tables.extend(self.guests.iter().map(script));
        }
    }

    /// A file of the run's, if it is there and is what is wanted.
    fn json<T: DeserializeOwned>(&mut self, file: &str) -> Option<T> {
        match json(&self.dir.join(file))? {
            Ok(value) => Some(value),
            Err(err) => {
                self.unread.push(format!("{file}: {err:#}"));
                None
            }
        }
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.tables.iter().flat_map(|table| &table.rows)
    }

    pub fn stories(&self) -> impl Iterator<Item = (&Guest, &Story)> {
        let of = |guest| std::iter::repeat(guest);
        self.guests
            .iter()
            .flat_map(move |guest| of(guest).zip(&guest.stories))
    }
}

/// `soak` of `20201124-171419-soak.2`.
pub fn verb(name: &str) -> Option<&str> {
    let mut parts = name.splitn(3, '-');
    let numbers = [(parts.next()?, 8), (parts.next()?, 6)];
    let stamped = numbers
        .iter()
        .all(|(part, len)| part.len() == *len && part.bytes().all(|c| c.is_ascii_digit()));
    let verb = parts.next()?;
    stamped.then(|| verb.split('.').next().unwrap_or(verb))
}

fn json<T: DeserializeOwned>(path: &Path) -> Option<Result<T>> {
    let text = fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).map_err(anyhow::Error::from))
}

/// A run's `result.json`, as far as a page is made of it (tests/lab/schema/result.json).
#[derive(Deserialize)]
struct Saved {
    suites: Vec<Test>,
    /// What only the verb knows: of those that have a list of rows, these.
    #[serde(default)]
    data: Value,
}

fn judged(rows: &[Judged]) -> Table {
    let head = vec!["kernel", "scenario", "the kernel said", "wakewatch said"];
    let mut seen = HashSet::new();
    let rows = rows.iter().map(|row| {
        let guest = row.log.parent().and_then(Path::file_name);
        let guest = guest.map(|name| name.to_string_lossy().into_owned());
        let mut key = format!("{}: {}", row.kernel, row.scenario);
        // Of many boots of one scenario each is a row.
        if !seen.insert(key.clone()) {
            key = format!("{key} ({})", guest.as_deref().unwrap_or("?"));
        }
        let mut notes = row.wrong.clone();
        notes.extend(row.retries.iter().map(|why| format!("booted twice: {why}")));
        if row.live > 0 {
            notes.push(format!("and {} of the live read race", row.live));
        }
        Row {
            key,
            verdict: Some(match row.wrong.is_empty() {
                true => Status::Pass,
                false => Status::Fail,
            }),
            cells: vec![
                row.kernel.clone(),
                row.scenario.clone(),
                row.kernel_said.clone(),
                row.wakewatch_said.clone(),
            ],
            notes,
            guest,
        }
    });
    Table {
        caption: "What must be seen, and what was".to_string(),
        rows: rows.collect(),
        head,
    }
}

fn suite(test: &Test) -> Table {
    let mut table = tested(&test.name, &test.children);
    // One that could not run has no children.
    if test.children.is_empty() {
        leaves(test, "", &mut table.rows);
    }
    // The same test may be in several suites.
    for row in &mut table.rows {
        row.key = format!("{}: {}", test.name, row.key);
    }
    table
}

/// A row for every leaf.
fn tested(caption: &str, tests: &[Test]) -> Table {
    let mut rows = Vec::new();
    tests.iter().for_each(|test| leaves(test, "", &mut rows));
    Table {
        caption: caption.to_string(),
        head: vec!["test"],
        rows,
    }
}

fn leaves(test: &Test, path: &str, rows: &mut Vec<Row>) {
    let name = match path.is_empty() {
        true => test.name.clone(),
        false => format!("{path}: {}", test.name),
    };
    if test.children.is_empty() {
        let log = test.notes.iter().find_map(|note| {
            let (_, log) = note.split_once("log: ")?;
            let guest = Path::new(log.trim()).parent()?.file_name()?;
            Some(guest.to_string_lossy().into_owned())
        });
        rows.push(Row {
            key: name.clone(),
            verdict: Some(test.status),
            cells: vec![name],
            notes: test.notes.clone(),
            guest: log,
        });
        return;
    }
    for child in &test.children {
        leaves(child, &name, rows);
    }
}

/// What the script of a guest has said, for verbs that have no other table.
fn script(guest: &Guest) -> Table {
    let outcome = guest.record.outcome;
    let tests = ktap::parse(guest.console.results());
    let tests = crate::outcome::settle(outcome, &guest.record.why, tests);
    let mut table = tested(&guest.name, &tests);
    if table.rows.is_empty() {
        table.rows.push(Row {
            key: guest.name.clone(),
            verdict: Some(match outcome {
                Outcome::Pass => Status::Pass,
                Outcome::Skip => Status::Skip,
                _ => Status::Fail,
            }),
            cells: vec![guest.name.clone()],
            notes: vec![guest.record.why.clone()],
            guest: None,
        });
    }
    let not_ok = table.rows.iter_mut();
    for row in not_ok.filter(|row| row.verdict != Some(Status::Pass)) {
        row.guest = Some(guest.name.clone());
    }
    table
}

impl Guest {
    /// Its results alone.
    fn read_results(dir: &Path, name: String, record: Record) -> Self {
        let ktap = fs::read_to_string(dir.join("ktap")).unwrap_or_default();
        Self {
            name,
            record,
            console: console(&ktap, &ktap),
            decoded: HashMap::new(),
            findings: Findings::default(),
            stories: Vec::new(),
            windows: BTreeMap::new(),
        }
    }

    fn read(dir: &Path, name: String, record: Record) -> Self {
        let read = |file: &str| fs::read(dir.join(file)).unwrap_or_default();
        let text = |file: &str| String::from_utf8_lossy(&read(file)).into_owned();
        let console = console(&text("console.log"), &text("script.log"));
        let findings = console.findings(console.all());
        let decoded = decoded(&console, &findings, &text("decoded.log"));
        let line = |at: usize| {
            let raw = console.lines[at].text.as_str();
            (raw, decoded.get(&at).map(String::as_str))
        };
        let mut stories: Vec<Story> = findings
            .reports
            .iter()
            .map(|report| Story::read(report, line))
            .collect();
        let mut known: HashSet<String> = stories.iter().map(|s| s.number.clone()).collect();
        let mut windows = BTreeMap::new();
        for (file, stem) in files(dir) {
            match file.rsplit('.').next() {
                // What the console has not got: a guest's own file has the last ones, whole.
                Some("reports") if file.contains('.') => {
                    let text = text(&file);
                    let lines: Vec<&str> = text.lines().collect();
                    let more = Findings::of_text(&text).reports;
                    let more = more.iter().map(|report: &Report| Story {
                        at: None,
                        ..Story::read(report, |at| (lines[at], None))
                    });
                    stories.extend(more.filter(|story| known.insert(story.number.clone())));
                }
                Some("windows") => {
                    let text = format!("== windows\n{}", text(&file));
                    windows.insert(stem, Snapshot::parse(&text).windows);
                }
                Some("snapshot") => {
                    let of = format!("{}, at its end", record.scenario);
                    windows.insert(of, Snapshot::parse(&text(&file)).windows);
                }
                _ => {}
            }
        }
        if let Some(after) = after_tests(dir) {
            windows.insert("after its tests".to_string(), after);
        }
        windows.retain(|_, windows: &mut Windows| !windows.is_empty());
        Self {
            name,
            record,
            console,
            decoded,
            findings,
            stories,
            windows,
        }
    }
}

/// Names of files, and the same without what is behind the last dot, in their order.
fn files(dir: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<(String, String)> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((name, path.file_stem()?.to_string_lossy().into_owned()))
        })
        .collect();
    names.sort();
    names
}

/// xfstests' guests keep what there was after each test: the last one has it all, and that is the one with the most.
fn after_tests(dir: &Path) -> Option<Windows> {
    let below = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let tests = below(&dir.join("tests"))
        .into_iter()
        .flat_map(|group| below(&group));
    let windows = tests.filter_map(|test| Some(Snapshot::read(&test.join("after"))?.windows));
    let sum = |windows: &Windows| {
        windows
            .values()
            .flat_map(|counts| counts.values())
            .sum::<u64>()
    };
    windows.max_by_key(sum)
}

/// A console as it was kept. Which of the two streams a line came by is not in the file; but what the script
/// has said is in another one, in the same order.
fn console(log: &str, ktap: &str) -> Console {
    let mut console = Console::default();
    let mut script = ktap.lines().peekable();
    for line in log.lines() {
        let said = script.next_if(|said| *said == line).is_some();
        let stream = match said || line.starts_with("# ww-lab: ") {
            true => Stream::Script,
            false => Stream::Console,
        };
        console.push(stream, line.to_string());
    }
    console
}

/// Lines with sources, by the number of the console's line. They begin where the console's stacks do; what does
/// not fit together is left out.
fn decoded(console: &Console, findings: &Findings, text: &str) -> HashMap<usize, String> {
    let first = console.traces(findings).start;
    let lines = text.lines().enumerate().map(|(n, line)| (first + n, line));
    lines
        .take_while(|(at, line)| {
            let raw = console.lines.get(*at).map(|line| line.text.as_str());
            // Up to the first symbol they are the same.
            raw.is_some_and(|raw| line.starts_with(raw.split("+0x").next().unwrap_or(raw)))
        })
        .filter(|(at, line)| *line != console.lines[*at].text)
        .map(|(at, line)| (at, line.to_string()))
        .collect()
}

/// The counters of a guest's findings, by verdict, of all of its scripts.
pub fn counted(record: &Record) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for stats in record.stats.values() {
        for (verdict, n) in debugfs::findings(|name| stats.get(name).copied().unwrap_or(0)) {
            *all.entry(verdict).or_insert(0) += n;
        }
    }
    // A script in which the guest died has left no counters.
    for (verdict, n) in &record.verdicts {
        let counted = all.entry(verdict.clone()).or_insert(0);
        *counted = (*counted).max(*n);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::samples::Folder;

    #[test]
    fn verbs_of_folders() {
        assert_eq!(verb("20201124-171419-soak"), Some("soak"));
        assert_eq!(verb("20201124-171419-stress-fixed.2"), Some("stress-fixed"));
        for name in [
            "results",
            "20201124-171419",
            "2020-1124-soak",
            "x0201124-171419-soak",
        ] {
            assert_eq!(verb(name), None, "{name}");
        }
    }

    #[test]
    fn streams_are_told_apart_again() {
        let console = console(
            "[    0.1] Linux version 6\n# ww-lab: start\n[    0.2] BUG: said by a script\n[    0.3] BUG: the kernel's\n# ww-lab: end 0\n",
            "[    0.2] BUG: said by a script\n",
        );
        let splats = console.splats(console.all());
        assert_eq!(splats.len(), 1);
        assert_eq!(splats[0].text, "BUG: the kernel's");
        assert_eq!(console.ended(), Some(0));
    }

    #[test]
    fn sources_are_put_to_their_lines() {
        let log = "[    1.0] x\n[    2.0] BUG: wakewatch: tail wake of PG_locked in f\n[    2.0] stack:\n[    2.0]  f+0x1/0x2\n";
        let console = console(log, "");
        let text = "[    2.0] BUG: wakewatch: tail wake of PG_locked in f\n[    2.0] stack:\n[    2.0]  f+0x1/0x2 (a.c:1)\n";
        let findings = console.findings(console.all());
        let found = decoded(&console, &findings, text);
        assert_eq!(
            found,
            HashMap::from([(3, "[    2.0]  f+0x1/0x2 (a.c:1)".to_string())])
        );
        // Of another log.
        assert!(decoded(&console, &findings, "[    9.0] f+0x1/0x2 (a.c:1)\n").is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let folder = Folder::of_run("unread");
        fs::write(folder.path().join("result.json"), "{").unwrap();
        fs::create_dir_all(folder.path().join("bad")).unwrap();
        fs::write(folder.path().join("bad/result.json"), "[]").unwrap();
        let run = Run::read(folder.path()).unwrap();
        assert_eq!(run.guests.len(), 1);
        assert!(
            run.unread[0].starts_with("bad/result.json: ")
                && run.unread[1].starts_with("result.json: "),
            "{:?}",
            run.unread
        );
    }

    #[test]
    fn reports_that_the_console_lacks_are_in_the_guests_own_file() {
        let folder = Folder::of_run("lacks");
        let report = |n: u32| {
            format!("BUG: wakewatch: tail wake of PG_locked in f\nreport {n} at 1.5 on CPU 0 in task, task a pid 1\n=====\n")
        };
        let on_console = format!("\n{}", report(1).trim_end()).replace('\n', "\n[    1.6] ");
        folder.guest("g", "pass", &on_console, "");
        fs::write(folder.path().join("g/x.reports"), report(1) + &report(2)).unwrap();
        let run = Run::read(folder.path()).unwrap();
        let guest = run.guests.iter().find(|guest| guest.name == "g").unwrap();
        let seen: Vec<_> = guest
            .stories
            .iter()
            .map(|s| (s.number.as_str(), s.at.is_some()))
            .collect();
        assert_eq!(
            seen,
            [("report 1 at 1.5", true), ("report 2 at 1.5", false)]
        );
    }
}
