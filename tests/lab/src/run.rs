// SPDX-License-Identifier: GPL-2.0

//! `lab run`: a program of the user's, again and again in one guest, with wakewatch loaded; started by
//! scripts/run.sh, which has checked what was asked for, all but the words for wakewatch.

mod auto;
mod judge;
mod page;
mod suite;

pub use suite::suite;

use crate::amplify::Spec;
use crate::config::Config;
use crate::console::Console;
use crate::debugfs::{by_verdict, Snapshot};
use crate::env::{self, Lab};
use crate::form::Form;
use crate::guest::{self, quote, Boot, PATIENCE};
use crate::kvm;
use crate::results::{Results, Suite};
use anyhow::{bail, Context, Result};
use findings::Findings;
use judge::{Judgement, Verdict};
use regex::Regex;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What scripts/run.sh says.
#[derive(clap::Args)]
pub struct Args {
    #[arg(long, value_name = "KEY")]
    kernel: String,
    #[command(flatten)]
    what: What,
    /// What the program was built from
    #[arg(long, requires = "program")]
    source: Option<PathBuf>,
    /// No round begins after so many minutes of guest time
    #[arg(long)]
    minutes: Option<u64>,
    /// Rounds at most
    #[arg(long)]
    rounds: Option<u64>,
    /// Seconds for a round
    #[arg(long, default_value_t = 30)]
    limit: u64,
    #[arg(long, default_value_t = 2)]
    cpus: u8,
    #[arg(long, default_value = "2G")]
    memory: String,
    #[arg(long, value_enum, default_value = "loop")]
    disk: Disk,
    /// Words of wakewatch's `config`
    #[arg(long, default_value = "")]
    knobs: String,
    /// Windows to hold open, in the words of `amplify`; dev=fs is the file system
    #[arg(long)]
    delay: Option<String>,
    /// Only what matches is a finding
    #[arg(long, value_name = "REGEX")]
    finds: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// One of them.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// A program, already built
    #[arg(long)]
    program: Option<PathBuf>,
    #[arg(long)]
    script: Option<PathBuf>,
    /// For a shell
    #[arg(long, allow_hyphen_values = true)]
    command: Option<String>,
}

/// Where the file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Disk {
    /// On a loop device on shmem huge pages
    Loop,
    /// On a disk of the guest's
    Virtio,
    /// On a loop device on a file of the host's
    #[value(name = "9p")]
    P9,
}

impl Disk {
    fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Virtio => "virtio",
            Self::P9 => "9p",
        }
    }
}

/// As large as the image of the others, see tests/guest/program.sh.
const DISK_BYTES: u64 = 512 << 20;
/// Seconds without a line of the guest's, which says something every ten.
const STALL: u64 = 180;

/// The exit status, for scripts/run.sh.
pub fn verb(lab: &Lab, args: &Args) -> Result<u8> {
    let words = Words::new(args)?;
    env::memory_bytes(&args.memory)?;
    let dir = lab.run_dir("run")?;
    let mut boot = boot(lab, args, &words)?;
    let out = dir.join(&boot.name);
    let image = args.prepare(lab, &out, &mut boot)?;
    let accel = kvm::probe(lab, &dir, &|line| println!("{line}"))?;
    let title = title(args, &boot);
    println!("{title}\n# console: {}", out.join("console.log").display());
    let finds = words.finds.as_ref();
    let (judgement, text, guests) = match words.auto {
        true => auto::run(lab, accel, &dir, args, &boot, finds)?,
        false => {
            let guest = guest::run(lab, accel, &dir, &boot)?;
            let judgement = Judgement::of(&guest, finds);
            let text = page::page(&judgement, &guest);
            (judgement, text, vec![guest])
        }
    };
    drop(image);
    let text = format!("{title}\n{text}");
    fs::write(dir.join("table.md"), &text)?;
    println!("\n{text}");
    let seconds = guests.iter().map(|guest| guest.result.seconds).sum();
    let tests = judgement.tests(&boot.kernel.build());
    let results = Results {
        verb: "run",
        good: judgement.verdict == Verdict::Nothing,
        seconds,
        suites: vec![Suite::new("run", seconds, tests)],
        boots: guests.iter().map(|guest| &guest.result).collect(),
        data: serde_json::to_value(&judgement)?,
    };
    results.write(lab, &dir)?;
    if let (Verdict::Unknown, Some(guest)) = (judgement.verdict, guests.last()) {
        crate::print_tail(guest);
    }
    println!("# results: {}", dir.display());
    println!("{}: {}", judgement.verdict, judgement.why);
    Ok(judgement.verdict.status())
}

/// What was asked for in words, understood before anything boots.
struct Words {
    delay: Option<String>,
    /// Not one delay, but all.
    auto: bool,
    finds: Option<Regex>,
}

impl Words {
    fn new(args: &Args) -> Result<Self> {
        if !args.knobs.trim().is_empty() {
            if let Err(err) = Config::default().with(&args.knobs) {
                bail!("KNOBS='{}': {err}", args.knobs);
            }
        }
        let auto = args.delay.as_deref() == Some("auto");
        let delay = args.delay.as_deref().filter(|_| !auto);
        let delay = delay.map(self::delay).transpose()?.flatten();
        let finds = args.finds.as_deref().map(Regex::new).transpose();
        let finds = finds.map_err(|err| {
            let why = err.to_string();
            let last = why.lines().last().unwrap_or_default().to_string();
            anyhow::anyhow!("FINDS='{}': {last}", args.finds.as_deref().unwrap_or(""))
        })?;
        Ok(Self { delay, auto, finds })
    }
}

/// The module's own parser looks at the words, as it will in the guest.
fn delay(words: &str) -> Result<Option<String>> {
    match Spec::parse(&words.replace("dev=fs", "dev=7:15")) {
        Ok(None) => Ok(None),
        Ok(Some(_)) => Ok(Some(words.replace(',', " "))),
        Err(err) => bail!("DELAY='{words}': {err}"),
    }
}

fn boot(lab: &Lab, args: &Args, words: &Words) -> Result<Boot> {
    let mut boot = Boot::of_scripts(lab, &args.kernel, "guest", &["program"])?;
    let slow = boot.timeout / (60 * PATIENCE);
    let seconds = match (args.minutes, args.rounds) {
        (Some(minutes), _) => minutes * 60,
        // Between rounds there is some cleaning up.
        (None, Some(rounds)) => rounds * (args.limit + 10),
        (None, None) => bail!("--minutes or --rounds is wanted"),
    };
    // With DELAY=auto it is of each step.
    boot.timeout += (seconds + args.limit) * slow;
    boot.stall = Some(STALL.max(args.limit) * slow);
    boot.memory = args.memory.clone();
    boot.live = true;
    boot.tell = Some(tell);
    boot.provokes_reads = words.delay.is_some() || words.auto;
    // The names that reproducers take for granted.
    boot.append.push("loop.max_loop=16".to_string());
    boot.machine
        .extend(["--cpus".to_string(), args.cpus.to_string()]);
    let mut set = |name: &str, value: String| boot.env.push((name.to_string(), value));
    set("WW_DETECT", "1".to_string());
    set("WW_DISK", args.disk.name().to_string());
    set("WW_KNOBS", args.knobs.replace(',', " "));
    set("WW_LIMIT", args.limit.to_string());
    set(
        "WW_SECONDS",
        args.minutes.map_or(String::new(), |n| (n * 60).to_string()),
    );
    set("WW_ROUNDS", args.rounds.unwrap_or(0).to_string());
    if let Some(delay) = &words.delay {
        set("WW_AMPLIFY", delay.clone());
    }
    boot.env.extend(args.form.env());
    Ok(boot)
}

/// A file that is gone with the value.
struct Image(PathBuf);

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Args {
    /// Puts what the guest needs into its folder, and returns its disk, if the host has it.
    fn prepare(&self, lab: &Lab, dir: &Path, boot: &mut Boot) -> Result<Option<Image>> {
        fs::create_dir_all(dir)?;
        if let Some(source) = &self.source {
            keep(source, dir, "program.c")?;
        }
        self.what.put(lab, dir, boot)?;
        let image = match self.disk {
            Disk::Loop => return Ok(None),
            // The guest makes it.
            Disk::P9 => return Ok(Some(Image(dir.join("fs.img")))),
            Disk::Virtio => dir.join("disk.img"),
        };
        fs::File::create(&image)?.set_len(DISK_BYTES)?;
        let drive = format!("file={},if=virtio,format=raw,cache=unsafe", image.display());
        boot.machine.push(format!("--qemu-opts=-drive {drive}"));
        Ok(Some(Image(image)))
    }
}

/// A copy in the guest's folder.
fn keep(path: &Path, dir: &Path, name: &str) -> Result<PathBuf> {
    let to = dir.join(name);
    fs::copy(path, &to).with_context(|| path.display().to_string())?;
    Ok(to)
}

impl What {
    fn name(&self, source: Option<&PathBuf>) -> String {
        let path = source.or(self.script.as_ref());
        match (path, &self.command) {
            (Some(path), _) => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into(),
            (None, Some(command)) => format!("'{command}'"),
            (None, None) => "a program".to_string(),
        }
    }

    /// Into the guest's folder: what is run, as it is now, and one name for whichever it is. A script is run
    /// where it is, for what it finds beside itself; the copy is for the record.
    fn put(&self, lab: &Lab, dir: &Path, boot: &mut Boot) -> Result<()> {
        let mut text = "#!/bin/bash\n".to_string();
        if let Some(program) = &self.program {
            let program = keep(program, dir, "program")?;
            text.push_str(&format!("exec {}\n", quote(&program.display().to_string())));
        } else if let Some(script) = &self.script {
            let executable = fs::metadata(script)?.permissions().mode() & 0o111 != 0;
            let interpreter = if executable { "" } else { "/bin/bash " };
            keep(script, dir, "script")?;
            let place = script.parent().unwrap_or(Path::new("/"));
            if guest::is_hidden(place) && !place.starts_with(&lab.cache) {
                boot.machine.push(format!("--rodir={}", place.display()));
            }
            boot.env
                .push(("WW_SHARED".to_string(), place.display().to_string()));
            let script = quote(&script.display().to_string());
            text.push_str(&format!("exec {interpreter}{script}\n"));
        } else if let Some(command) = &self.command {
            text.push_str(&format!("{command}\n"));
        }
        let path = dir.join("command");
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        boot.env
            .push(("WW_PROGRAM".to_string(), path.display().to_string()));
        Ok(())
    }
}

/// What of it is said in one line, before and after.
fn title(args: &Args, boot: &Boot) -> String {
    let disk = match args.form.fstyp.as_str() {
        "tmpfs" => String::new(),
        _ => format!(" on {}", args.disk.name()),
    };
    let time = match (args.minutes, args.rounds) {
        (Some(minutes), _) => format!("{minutes} min"),
        (None, rounds) => format!("{} rounds", rounds.unwrap_or(0)),
    };
    format!(
        "run of {} on {}, {}{disk}, {} CPUs, {time}, knobs: {}, delay: {}",
        args.what.name(args.source.as_ref()),
        boot.kernel.build(),
        args.form.form,
        args.cpus,
        if args.knobs.is_empty() {
            "none"
        } else {
            &args.knobs
        },
        args.delay.as_deref().unwrap_or("none"),
    )
}

/// What begins a line of progress, of ww-repro's.
const PROGRESS: &str = "# ww-run: ";

/// Progress with what was found so far.
fn tell(console: &Console, line: &str) -> Option<String> {
    let at = line.strip_prefix(PROGRESS)?;
    Some(format!(
        "# {at}: {}",
        so_far(&console.findings(console.all()))
    ))
}

fn so_far(all: &Findings) -> String {
    let (mut wakewatch, mut live) = (BTreeMap::new(), 0);
    for report in &all.reports {
        match report.is_live() {
            true => live += 1,
            false => *wakewatch.entry(report.verdict.clone()).or_insert(0) += 1,
        }
    }
    let mut parts = Vec::new();
    if !wakewatch.is_empty() {
        parts.push(format!("wakewatch: {}", by_verdict(&wakewatch)));
    }
    if live > 0 {
        parts.push(format!("the live read race: {live}"));
    }
    let splats: Vec<_> = all
        .splats
        .iter()
        .filter(|splat| splat.excuse().is_none())
        .collect();
    if let Some(first) = splats.first() {
        parts.push(format!("the kernel: {} ({})", splats.len(), first.brief()));
    }
    match parts.is_empty() {
        true => "no findings".to_string(),
        false => parts.join("; "),
    }
}

/// The tables as the guest has left them, if it came so far.
fn snapshot(dir: &Path) -> Option<Snapshot> {
    Snapshot::read(&dir.join("snapshot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_may_name_the_file_system() {
        let words = "where=after-clear us=60000 dev=fs every=2";
        assert_eq!(delay(words).unwrap().as_deref(), Some(words));
        assert_eq!(delay("off").unwrap(), None);
        let err = delay("where=after-clear").unwrap_err().to_string();
        assert!(err.contains("us="), "{err}");
    }

    #[test]
    fn progress_counts_by_verdict() {
        let all = Findings::of_text(
            "[    1.0] BUG: wakewatch: unreferenced end of writeback in a\n\
             [    1.1] BUG: wakewatch: unreferenced end of writeback in b\n\
             [    1.2] kernel BUG at fs/a.c:1!\n",
        );
        assert_eq!(
            so_far(&all),
            "wakewatch: unreferenced 2; the kernel: 1 (kernel BUG at fs/a.c:1)"
        );
        assert_eq!(so_far(&Findings::default()), "no findings");
    }
}
