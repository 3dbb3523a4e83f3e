// SPDX-License-Identifier: GPL-2.0

//! What takes too long for `lab test`, in one guest. `lab soak`: everything at once, for as long as one
//! likes; what wakewatch reports meanwhile is kept, sorted by its stacks. `lab lifecycle`: the module
//! comes and goes. `lab stress` is a file of its own, and run as these are.

use crate::console::{split_time, Console};
use crate::env::Lab;
use crate::guest::{self, Boot, Guest};
use crate::ktap::Test;
use crate::kvm;
use crate::outcome::Outcome;
use crate::results::{Results, Suite};
use crate::suites::{guest_tests, Run};
use anyhow::{bail, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

pub fn verb(lab: &Lab, minutes: u64, memory: Option<String>) -> Result<bool> {
    if minutes == 0 {
        bail!("--minutes 0 shows nothing");
    }
    let mut boot = boot(lab, minutes)?;
    boot.live = true;
    if let Some(memory) = memory {
        crate::env::memory_bytes(&memory)?;
        boot.memory = memory;
    }
    passed(run(lab, &boot, &format!("{minutes} min")))
}

pub fn lifecycle(lab: &Lab, kernel: &str, cycles: u64) -> Result<bool> {
    if cycles == 0 {
        bail!("--cycles 0 shows nothing");
    }
    let mut boot = Boot::of_scripts(lab, kernel, "lifecycle", &["lifecycle"])?;
    boot.live = true;
    boot.env.push(("WW_CYCLES".to_string(), cycles.to_string()));
    passed(run(lab, &boot, &format!("{cycles} loads and unloads")))
}

/// Boots it, and shows what it says.
pub fn run(lab: &Lab, boot: &Boot, what: &str) -> Result<Guest> {
    let run_dir = lab.run_dir(&boot.name)?;
    let accel = kvm::probe(lab, &run_dir, &|line| println!("{line}"))?;
    println!(
        "{}: {}, {what}; its log: {}",
        boot.name,
        boot.kernel.build(),
        run_dir.join(&boot.name).join("console.log").display()
    );
    let guest = guest::run(lab, accel, &run_dir, boot)?;
    let reports = summary(&guest.console);
    fs::write(guest.dir.join("reports.by-stack"), &reports)?;
    print!("{reports}");
    println!("{}", guest.result);
    let name = boot.name.split('-').next().unwrap_or_default();
    let results = Results {
        verb: name,
        good: guest.result.outcome == Outcome::Pass,
        seconds: guest.result.seconds,
        suites: vec![Suite::new(
            &boot.name,
            guest.result.seconds,
            guest.tests.clone(),
        )],
        boots: vec![&guest.result],
        data: Value::Null,
    };
    results.write(lab, &run_dir)?;
    Ok(guest)
}

fn passed(guest: Result<Guest>) -> Result<bool> {
    Ok(guest?.result.outcome == Outcome::Pass)
}

/// A minute of it, for `lab test`.
pub fn suite(run: &mut Run) -> Result<Vec<Test>> {
    let boot = boot(run.lab, 1)?;
    Ok(guest_tests(&run.boot(&boot)?))
}

fn boot(lab: &Lab, minutes: u64) -> Result<Boot> {
    let mut boot = Boot::of_scripts(lab, "fixed", "soak", &["soak"])?;
    // The script's own limit is for one minute.
    boot.timeout += (minutes - 1) * 60;
    boot.env
        .push(("WW_MINUTES".to_string(), minutes.to_string()));
    boot.env.push(("WW_DETECT".to_string(), "1".to_string()));
    Ok(boot)
}

/// The reports of a console: how often each headline and stack came, with the first of them whole.
fn summary(console: &Console) -> String {
    let mut kinds: BTreeMap<Vec<String>, (usize, Vec<String>)> = BTreeMap::new();
    let heads: Vec<usize> = console
        .reports(console.all())
        .iter()
        .map(|report| report.at)
        .collect();
    for (n, &head) in heads.iter().enumerate() {
        let end = heads.get(n + 1).copied().unwrap_or(console.lines.len());
        let text: Vec<String> = console.lines[head..end]
            .iter()
            .filter_map(|line| match split_time(&line.text) {
                (Some(_), text) => Some(text.to_string()),
                (None, _) => None,
            })
            .take_while(|text| !text.starts_with("====="))
            .collect();
        let stack = text
            .iter()
            .skip_while(|text| *text != "stack:")
            .skip(1)
            .take_while(|text| text.starts_with(' '));
        let functions = stack.map(|text| text.trim().split('+').next().unwrap_or("").to_string());
        let kind = text.first().cloned().into_iter().chain(functions).collect();
        kinds.entry(kind).or_insert((0, text)).0 += 1;
    }
    let mut kinds: Vec<_> = kinds.into_values().collect();
    kinds.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let mut out = String::new();
    for (count, text) in kinds {
        out.push_str(&format!("# {count} times, the first one:\n"));
        for line in text {
            out.push_str(&format!("#   {line}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Stream;

    #[test]
    fn reports_are_counted_by_headline_and_stack() {
        let mut console = Console::default();
        for (time, caller) in [(1, "a"), (2, "b"), (3, "a")] {
            for text in [
                "=====",
                "BUG: wakewatch: reused wake of PG_locked in x",
                "",
                "stack:",
                " folio_wake_bit+0x5/0xe0",
                &format!(" {caller}+0x{time}/0x9"),
                "wakewatch: story verdict=reused",
                "=====",
            ] {
                console.push(Stream::Console, format!("[    {time}.000000] {text}"));
            }
            console.push(Stream::Script, "ok 1 x".to_string());
        }
        let text = summary(&console);
        let counts: Vec<&str> = text.lines().filter(|l| l.contains("times")).collect();
        assert_eq!(
            counts,
            ["# 2 times, the first one:", "# 1 times, the first one:"]
        );
        assert!(text.contains("a+0x1/0x9") && !text.contains("a+0x3/0x9"));
        assert!(text.contains("b+0x2/0x9") && !text.contains("ok 1"));
    }
}
