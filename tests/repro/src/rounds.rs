// SPDX-License-Identifier: GPL-2.0

//! Somebody else's program, again and again: each round in an empty directory, for a limited time, and with
//! nothing of it left when it is over. What it says goes to a file, how it ended is counted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::sys;

/// The most that is kept of what it says, for all rounds.
const KEPT: u64 = 8 << 20;
/// Between two lines of progress.
const TICK: Duration = Duration::from_secs(10);
/// For processes to die in, once they are told to.
const DYING: Duration = Duration::from_secs(60);
/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(20);
/// As kselftest has it.
const SKIPPED: i32 = 4;

#[derive(clap::Args)]
pub struct Args {
    /// Where each round has a directory of its own
    dir: PathBuf,
    /// Where `program.log` and `rounds` go
    out: PathBuf,
    /// No round begins after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Rounds at most
    #[arg(long)]
    rounds: Option<u64>,
    /// Seconds for a round; what runs then is killed
    #[arg(long, default_value_t = 30)]
    limit: u64,
    /// Written at each line of progress: wakewatch's files, by name
    #[arg(long)]
    snapshot: Option<PathBuf>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    argv: Vec<String>,
}

/// How a round ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Exit(i32),
    Signal(i32),
    /// It would have gone on.
    Limit(u64),
}

impl End {
    fn of(status: ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => Self::Signal(signal),
            None => Self::Exit(status.code().unwrap_or(-1)),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(SKIPPED) => write!(f, "skipped"),
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Limit(seconds) => write!(f, "killed after {seconds} s"),
        }
    }
}

/// What is known of all rounds that have ended in the same way.
#[derive(Default)]
struct Kind {
    rounds: u64,
    first: u64,
    last_line: String,
}

/// Runs it, and says whether there was anything of it that would not die.
pub fn run(args: &Args) -> Result<bool> {
    sys::adopt_orphans().context("can't adopt orphans")?;
    let mut watch = Watch::new(args)?;
    let mut kinds: BTreeMap<End, Kind> = BTreeMap::new();
    let mut round = 0;
    let over = |rounds: u64, since: Instant| {
        args.rounds.is_some_and(|most| rounds >= most)
            || args
                .seconds
                .is_some_and(|most| since.elapsed() >= Duration::from_secs(most))
    };
    loop {
        round += 1;
        watch.round = round;
        let (end, last_line) = one(args, &mut watch)?;
        let kind = kinds.entry(end).or_default();
        kind.rounds += 1;
        if kind.rounds == 1 {
            kind.first = round;
            kind.last_line = last_line;
        }
        write_rounds(&args.out.join("rounds"), &kinds)?;
        if let Some(alive) = end_all() {
            println!("does not die: {alive}");
            fs::write(args.out.join("does-not-die"), alive + "\n")?;
            watch.tick();
            return Ok(false);
        }
        empty(&args.dir);
        if over(round, watch.begun) {
            break;
        }
    }
    watch.tick();
    Ok(true)
}

/// A line a kind: how many rounds, the first of them, how they ended, and the last line that the first one said.
fn write_rounds(path: &Path, kinds: &BTreeMap<End, Kind>) -> Result<()> {
    let mut text = String::new();
    for (end, kind) in kinds {
        let line = kind.last_line.replace(['\t', '\r'], " ");
        text.push_str(&format!("{}\t{}\t{end}\t{line}\n", kind.rounds, kind.first));
    }
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path).with_context(|| path.display().to_string())
}

/// Progress, and what outlives a kernel that dies.
struct Watch<'a> {
    args: &'a Args,
    begun: Instant,
    next: Instant,
    round: u64,
    log: Log,
}

impl<'a> Watch<'a> {
    fn new(args: &'a Args) -> Result<Self> {
        let begun = Instant::now();
        Ok(Self {
            args,
            begun,
            next: begun + TICK,
            round: 0,
            log: Log::append(&args.out.join("program.log"))?,
        })
    }

    fn look(&mut self) {
        if Instant::now() >= self.next {
            self.tick();
            self.next = Instant::now() + TICK;
        }
    }

    /// The lab says how much was found by then.
    fn tick(&mut self) {
        if let Some(from) = &self.args.snapshot {
            let to = self.args.out.join("snapshot");
            if let Err(e) = snapshot(from, &to) {
                println!("{}: {e:#}", to.display());
            }
        }
        println!(
            "# ww-run: {} s, round {}",
            self.begun.elapsed().as_secs(),
            self.round
        );
    }
}

/// As lib.sh's snapshot() writes it.
fn snapshot(from: &Path, to: &Path) -> Result<()> {
    let mut text = String::new();
    for name in ["stats", "callers", "windows"] {
        text.push_str(&format!("== {name}\n"));
        text.push_str(&fs::read_to_string(from.join(name))?);
    }
    let new = to.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(&new, to)?)
}

/// What the program says, as much of it as is kept.
struct Log {
    file: File,
    room: u64,
    /// There was more, and that is said.
    cut: bool,
}

impl Log {
    fn append(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| path.display().to_string())?;
        let there = file.metadata()?.len();
        Ok(Self {
            file,
            room: KEPT.saturating_sub(there),
            // An earlier round has said it.
            cut: there > KEPT,
        })
    }

    fn write(&mut self, bytes: &[u8]) {
        let most = bytes.len().min(self.room as usize);
        if self.file.write_all(&bytes[..most]).is_ok() {
            self.room -= most as u64;
            if most < bytes.len() && !self.cut {
                let _ = self
                    .file
                    .write_all(b"\n# it said more, which is not kept\n");
                self.cut = true;
            }
        }
    }
}

/// The last line that is not empty, of what comes in pieces.
#[derive(Default)]
struct LastLine {
    last: String,
    begun: Vec<u8>,
}

impl LastLine {
    /// Of a line that goes on for ever.
    const LONGEST: usize = 300;

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end(),
                _ if self.begun.len() < Self::LONGEST => self.begun.push(byte),
                _ => {}
            }
        }
    }

    fn end(&mut self) {
        let line = String::from_utf8_lossy(&self.begun).trim().to_string();
        if !line.is_empty() {
            self.last = line;
        }
        self.begun.clear();
    }
}

fn one(args: &Args, watch: &mut Watch) -> Result<(End, String)> {
    let dir = args.dir.join(format!("round-{}", watch.round));
    fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
    watch
        .log
        .write(format!("# round {}\n", watch.round).as_bytes());
    let (mut said, say) = sys::pipe().context("pipe")?;
    let mut child = Command::new(&args.argv[0])
        .args(&args.argv[1..])
        .current_dir(&dir)
        .env("TMPDIR", &dir)
        .stdin(Stdio::null())
        .stdout(say.try_clone()?)
        .stderr(say)
        .process_group(0)
        .spawn()
        .with_context(|| args.argv[0].clone())?;
    let mut last = LastLine::default();
    let end = wait(args, watch, &mut child, &mut said, &mut last)?;
    last.end();
    Ok((end, last.last))
}

fn wait(
    args: &Args,
    watch: &mut Watch,
    child: &mut Child,
    said: &mut File,
    last: &mut LastLine,
) -> Result<End> {
    let limit = Instant::now() + Duration::from_secs(args.limit);
    let mut read = |watch: &mut Watch| {
        let mut buf = [0; 4096];
        // Nothing more for now, or for ever: the rest of it is killed.
        while let Ok(n @ 1..) = said.read(&mut buf) {
            watch.log.write(&buf[..n]);
            last.take(&buf[..n]);
        }
    };
    loop {
        read(watch);
        watch.look();
        if let Some(status) = child.try_wait()? {
            read(watch);
            return Ok(End::of(status));
        }
        if Instant::now() >= limit {
            return Ok(End::Limit(args.limit));
        }
        thread::sleep(LOOK);
    }
}

/// Kills all that is left of a round, and returns one that would not die, if there is one, with its stack.
fn end_all() -> Option<String> {
    let since = Instant::now();
    loop {
        for &pid in &descendants(std::process::id() as i32) {
            sys::kill(pid);
        }
        // Orphans come to us, and are found the next time.
        match sys::reap() {
            Ok(true) => continue,
            Ok(false) => {}
            Err(_) => return None,
        }
        if since.elapsed() > DYING {
            return descendants(std::process::id() as i32)
                .first()
                .map(|&pid| describe(pid));
        }
        thread::sleep(LOOK);
    }
}

/// All processes below one.
fn descendants(root: i32) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid): Option<i32> = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let of = found[next];
        found.extend(
            parents
                .iter()
                .filter(|(_, up)| *up == of)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found.split_off(1)
}

/// Of /proc/PID/stat: the name, which may have anything in it, ends with the last parenthesis.
fn parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn describe(pid: i32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    format!(
        "{} pid {pid}\n{}",
        read("comm").trim(),
        read("stack").trim_end()
    )
}

/// Takes away what a round has left in its directory, mounts first, as far as that goes.
fn empty(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(dir) && point != dir)
        .collect();
    for point in below.iter().rev() {
        let _ = sys::detach(point);
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("round-") {
            continue;
        }
        match fs::remove_dir_all(entry.path()) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                println!("{}: {e}", entry.path().display());
                // A name of its own is all that the next round needs.
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_comes_in_pieces() {
        let mut last = LastLine::default();
        last.take(b"one\ntw");
        last.take(b"o\n\n");
        last.take(&[b'x'; 1000]);
        assert_eq!(last.last, "two");
        last.end();
        assert_eq!(last.last.len(), LastLine::LONGEST);
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (a) b) (c)) S 7 12 12 0"), Some(7));
        assert_eq!(parent(""), None);
    }

    #[test]
    fn what_it_says_has_an_end() {
        let path = std::env::temp_dir().join(format!("ww-rounds-{}", std::process::id()));
        let mut log = Log::append(&path).unwrap();
        log.room = 4;
        log.write(b"abc");
        log.write(b"defgh");
        log.write(b"ijk");
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(text.starts_with("abcd\n# it said more"), "{text}");
        assert_eq!(text.matches("# it said more").count(), 1);
    }

    #[test]
    fn ends_have_names() {
        assert_eq!(End::Exit(4).to_string(), "skipped");
        assert_eq!(End::Exit(1).to_string(), "exit status 1");
        assert_eq!(End::Signal(11).to_string(), "signal 11");
        assert_eq!(End::Limit(30).to_string(), "killed after 30 s");
    }
}
