// SPDX-License-Identifier: GPL-2.0

//! An xfstests tree in guests, with wakewatch's own verdict beside each result, and the difference between
//! two such runs. scripts/xfstests.sh has checked what was asked for, tests/guest/xfstests.sh runs the
//! tests and leaves a folder of each; a guest that died is followed by another one that goes on at the next test.
//! `read` says what such a folder means, `saved` is a run and its files, `compare` holds two against each other, `merge`
//! makes one of parts, `suite` is the part of `lab test`.

mod compare;
mod merge;
mod read;
mod saved;
mod suite;

pub use compare::verb as compare_verb;
pub use merge::verb as merge_verb;
pub use saved::Saved;
pub use suite::suite;

use crate::debugfs::{Caller, Snapshot};
use crate::env::Lab;
use crate::form::Form;
use crate::guest::{self, Boot, Guest};
use crate::kvm::{self, Accel};
use crate::outcome::Outcome;
use anyhow::{bail, Result};
use merge::Shard;
use read::{excludes, row};
use saved::{table, Mark, Row};
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
    let build = lab.kernel(&args.kernel)?.build();
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
        build,
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
    Ok(saved.tell(&dir))
}
