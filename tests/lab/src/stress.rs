// SPDX-License-Identifier: GPL-2.0

//! `lab stress`: programs that every Debian has, and that look at what they read back, at work in one
//! guest, with or without a delay. scripts/stress.sh has checked what was asked for, all but the delay.

use crate::amplify::Spec;
use crate::debugfs::{self, callers_table, Caller, Snapshot};
use crate::env::{self, Lab};
use crate::form::Form;
use crate::guest::{Boot, Guest};
use crate::ktap::{Status, Test};
use crate::outcome::Outcome;
use crate::refusals;
use crate::soak;
use crate::suites::{guest_tests, Run};
use crate::table::table;
use anyhow::{bail, Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// What scripts/stress.sh says.
#[derive(clap::Args)]
pub struct Args {
    #[arg(long, value_name = "KEY", default_value = "fixed")]
    kernel: String,
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Of the guest; otherwise what the script asks for
    #[arg(long)]
    memory: Option<String>,
    /// Hold windows open: the words of `amplify`, without dev=
    #[arg(long)]
    delay: Option<String>,
    #[command(flatten)]
    form: Form,
}

pub fn verb(lab: &Lab, args: &Args) -> Result<bool> {
    let delay = args.delay.as_deref().map(delay).transpose()?.flatten();
    let mut boot = boot(lab, &args.kernel, args.minutes * 60, delay)?;
    boot.live = true;
    boot.env.extend(args.form.env());
    if let Some(memory) = &args.memory {
        env::memory_bytes(memory)?;
        boot.memory = memory.clone();
    }
    let form = &args.form.form;
    let guest = soak::run(lab, &boot, &format!("{form}, {} min", args.minutes))?;
    let title = format!(
        "stress on {}, {form}, {} min, delay: {}: {}",
        boot.kernel.build(),
        args.minutes,
        delay.unwrap_or("none"),
        guest.result.why
    );
    let text = page(&title, &guest);
    fs::write(guest.dir.join("table.md"), &text)?;
    println!("\n{text}");
    Ok(guest.result.outcome == Outcome::Pass)
}

/// What came of it, as the documents have it: the results, and what wakewatch has counted.
fn page(title: &str, guest: &Guest) -> String {
    let mut results = table(["result", ""]);
    for test in &guest.tests {
        let status = match test.status {
            Status::Pass => "ok",
            Status::Fail => "FAILED",
            Status::Skip => "skipped",
        };
        results.add_row([&test.name, status]);
    }
    let mut printed: BTreeMap<String, usize> = BTreeMap::new();
    for report in guest.console.reports(guest.console.all()) {
        *printed
            .entry(format!("{} {}", report.verdict, report.rest))
            .or_default() += 1;
    }
    let mut reports = table(["report", "printed"]);
    for (head, n) in &printed {
        reports.add_row([head, &n.to_string()]);
    }
    let mut text = format!("{title}\n\n{results}\n");
    if !printed.is_empty() {
        text.push_str(&format!("\n{reports}\n"));
    }
    let Some(snapshot) = Snapshot::read(&guest.dir.join("snapshot")) else {
        return text;
    };
    let mut counters = table(["counter", ""]);
    // What a run like this is asked about; the others where there is something to say.
    let always = ["end_writeback", "wake", "windows_opened"];
    let findings = debugfs::findings(|name| snapshot.stat(name));
    for (name, n) in &snapshot.stats {
        let finding = findings.contains_key(&name.replace('_', "-"));
        let lost = name.starts_with("missed_") || name.contains("dropped") || name == "delays";
        if always.contains(&name.as_str()) || *n > 0 && (finding || lost) {
            counters.add_row([name, &n.to_string()]);
        }
    }
    let callers = callers_table(&Caller::all(snapshot.callers));
    text.push_str(&format!("\n{counters}\n\n{callers}\n"));
    text
}

/// The module's own parser looks at the words, as it will in the guest, whose script adds the device.
fn delay(words: &str) -> Result<Option<&str>> {
    if words.trim() == "off" {
        return Ok(None);
    }
    match Spec::parse(words) {
        Ok(Some(spec)) if spec.dev.is_none() => Ok(Some(words)),
        Ok(_) => bail!("DELAY='{words}': dev= is the guest's to say"),
        Err(err) => bail!("DELAY='{words}': {err}"),
    }
}

/// A guest that runs stress.sh for so long.
pub fn boot(lab: &Lab, key: &str, seconds: u64, delay: Option<&str>) -> Result<Boot> {
    let mut boot = Boot::of_scripts(lab, key, &format!("stress-{key}"), &["stress"])?;
    // What has begun by then is finished, on a machine that may do other work as well.
    boot.timeout += seconds + seconds / 10;
    let mut set = |name: &str, value: String| boot.env.push((name.to_string(), value));
    set("WW_SECONDS", seconds.to_string());
    set("WW_DETECT", "1".to_string());
    set(
        "WW_FSX",
        std::env::var("WW_FSX").context("WW_FSX is not set")?,
    );
    let tree = std::env::var_os("XFSTESTS").map(PathBuf::from);
    let fsstress = tree.and_then(|tree| tree.join("ltp/fsstress").canonicalize().ok());
    if let Some(fsstress) = fsstress {
        set("WW_FSSTRESS", fsstress.display().to_string());
    }
    if let Some(delay) = delay {
        set("WW_AMPLIFY", delay.to_string());
    }
    Ok(boot)
}

/// The delay of the matrix: one page in so many, for long enough that others come by.
pub const DELAY: &str = "where=after-clear us=20000 every=50";

/// What is refused, and the words that say so. `{}` is where the trees are.
const REFUSED: &[refusals::Case] = &[
    (
        "a tree that is none",
        &["XFSTESTS={}/none"],
        "not an xfstests tree",
    ),
    ("a tree not built", &["XFSTESTS={}/unbuilt"], "not built"),
    (
        "a duration that is no number",
        &["DURATION=soon"],
        "a number of at least 1",
    ),
    (
        "no duration at all",
        &["DURATION=0"],
        "a number of at least 1",
    ),
    (
        "a form that isn't there",
        &["FORM=zfs"],
        "FORM=zfs: there are 4k",
    ),
    (
        "a kernel that isn't there",
        &["KERNEL=nope"],
        "no kernel 'nope'",
    ),
    (
        "too much memory asked for",
        &["MEMORY=4000G"],
        "too little memory",
    ),
    (
        "too little memory asked for",
        &["MEMORY=512M"],
        "need 1024M at least",
    ),
    ("too little disk", &["DISK_MB=999999999"], "too little disk"),
];

/// What is right, as others would say it.
const TAKEN: &[&str] = &["XFSTESTS={}/built", "FORM=xfs", "MEMORY=1536M"];

/// A slice of the stress, for `lab test`: *fixed* has nothing to say, and of *broken*, with the delay,
/// wakewatch has.
pub fn suite(run: &mut Run) -> Result<Vec<Test>> {
    let trees = run.dir.join("stress-trees");
    let mut tests = refusals::suite(run.lab, "stress", &trees, REFUSED, TAKEN)?;
    let guest = run.boot(&boot(run.lab, "fixed", 20, None)?)?;
    tests.extend(guest_tests(&guest));
    let guest = run.boot(&boot(run.lab, "broken", 20, Some(DELAY))?)?;
    // It need not be the kernel that says it: the delay is short, and so is the time.
    let said = guest
        .console
        .reports(guest.console.all())
        .iter()
        .any(|report| report.verdict == "unreferenced");
    let title = "broken, with a delay, is found out";
    tests.push(Test::of(title, said, || {
        let log = guest.dir.join("console.log");
        format!("{}, {}", guest.result, log.display())
    }));
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_understood_before_anything_boots() {
        assert_eq!(delay(DELAY).unwrap(), Some(DELAY));
        assert_eq!(delay("off").unwrap(), None);
        for (words, said) in [
            ("", "where="),
            ("where=after-clear", "us="),
            ("where=there us=1", "where=before-clear"),
            ("where=after-clear us=1 dev=7:0", "dev="),
        ] {
            let err = delay(words).unwrap_err().to_string();
            assert!(err.contains(said), "{words}: {err}");
        }
    }
}
