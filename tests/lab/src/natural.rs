// SPDX-License-Identifier: GPL-2.0

//! `lab live`: how often the live read race is lost when nothing is delayed, and what comes of it: windows by
//! their length, wakes on pages that are somebody else's or nobody's, tasks woken by them, system calls that
//! failed. Zero is a result.

use crate::console::Report;
use crate::debugfs::{self, Snapshot};
use crate::env::Lab;
use crate::guest::{Boot, Guest};
use crate::outcome::Outcome;
use crate::soak;
use crate::table::table;
use anyhow::{bail, Result};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

/// What scripts/live.sh says.
#[derive(clap::Args)]
pub struct Args {
    #[arg(long, value_name = "KEY", default_value = "stock")]
    kernel: String,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Of the guest
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=64))]
    cpus: u8,
    /// Threads that keep the host's CPUs busy meanwhile
    #[arg(long, default_value_t = 0)]
    busy: u8,
    /// What goes on besides in the guest: nothing, realtime, interrupts
    #[arg(long, default_value = "nothing")]
    beside: String,
}

pub fn verb(lab: &Lab, args: &Args) -> Result<bool> {
    let mut boot = Boot::of_scripts(lab, &args.kernel, "live", &["live"])?;
    boot.timeout += args.minutes * 60;
    boot.live = true;
    boot.machine = vec!["--cpus".to_string(), args.cpus.to_string()];
    for (name, value) in [
        ("WW_SECONDS", (args.minutes * 60).to_string()),
        ("WW_BESIDE", args.beside.clone()),
    ] {
        boot.env.push((name.to_string(), value));
    }
    let busy = Busy::new(args.busy);
    let guest = soak::run(lab, &boot, &format!("{} min", args.minutes));
    drop(busy);
    let guest = guest?;
    let title = format!(
        "live read race on {}, {} CPUs, {} min, beside: {}; on the host: {} busy threads on {} CPUs",
        boot.kernel.build(),
        args.cpus,
        args.minutes,
        args.beside,
        args.busy,
        std::thread::available_parallelism()?
    );
    let text = format!("{title}\n\n{}", page(&guest)?);
    fs::write(guest.dir.join("table.md"), &text)?;
    println!("\n{text}");
    Ok(guest.result.outcome == Outcome::Pass)
}

/// Keeps the host busy while the value lives.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new(threads: u8) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let over = over.clone();
            std::thread::spawn(move || {
                while !over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(over)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn page(guest: &Guest) -> Result<String> {
    let Some(snapshot) = Snapshot::read(&guest.dir.join("snapshot")) else {
        bail!("the guest has left no counters: {}", guest.result);
    };
    let reads = guest.console.lines.iter().find_map(|line| {
        let (_, said) = line.text.split_once("ww-repro: ")?;
        said.contains("reads of a healthy file").then_some(said)
    });
    let mut counts = table(["", ""]);
    counts.add_row(["the programs said", reads.unwrap_or("nothing")]);
    for (name, what) in [
        ("unreferenced_reads", "ends of reads that no reference kept"),
        ("windows_woken", "windows that a wake has ended, of any bit"),
        ("reused", "wakes on pages that were somebody else's"),
        ("zero_ref", "wakes on free pages"),
        ("victims", "tasks woken by them"),
    ] {
        counts.add_row([what, &snapshot.stat(name).to_string()]);
    }
    let missed: u64 = snapshot
        .stats
        .iter()
        .filter(|(name, _)| name.starts_with("missed_"))
        .map(|(_, n)| n)
        .sum();
    counts.add_row(["events missed", &missed.to_string()]);
    let reports = guest.console.reports(guest.console.all());
    let lengths = lengths(&snapshot, &reports);
    let mut by_length = table([
        "window of",
        "windows",
        "lost",
        "share",
        "tasks woken by that",
    ]);
    for (power, length) in lengths {
        by_length.add_row([
            format!("{} and more", debugfs::length(power)),
            length.windows.to_string(),
            length.lost.to_string(),
            length.share(),
            length.victims.to_string(),
        ]);
    }
    Ok(format!("{counts}\n\n{by_length}\n"))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Length {
    windows: u64,
    lost: u64,
    victims: u64,
}

impl Length {
    /// Of its windows, those that were lost.
    fn share(&self) -> String {
        match (self.lost, self.windows) {
            (0, _) => "0".to_string(),
            (_, 0) => "-".to_string(),
            (lost, windows) => format!("{:.2} %", 100.0 * lost as f64 / windows as f64),
        }
    }
}

/// Windows of ends of reads by their length, and the reports of wakes that ended such.
fn lengths(snapshot: &Snapshot, reports: &[Report]) -> BTreeMap<u32, Length> {
    let mut all: BTreeMap<u32, Length> = BTreeMap::new();
    for ((site, _), windows) in &snapshot.windows {
        if site == "end_read" {
            for (power, n) in windows {
                all.entry(*power).or_default().windows += n;
            }
        }
    }
    for report in reports {
        let Some(power) = report.window_ns().and_then(u64::checked_ilog2) else {
            continue;
        };
        let length = all.entry(power).or_default();
        length.lost += 1;
        let victims = report.word("victims").and_then(|n| n.parse::<u64>().ok());
        length.victims += victims.unwrap_or(0);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_stands_beside_windows_of_its_length() {
        let snapshot = Snapshot::parse(
            "== stats\nwake: 3\n== windows\n\
             site=end_read caller=a+0x1/0x2 n=7 10:4 20:3\n\
             site=end_read caller=b+0x1/0x2 n=1 10:1\n\
             site=end_writeback caller=c+0x1/0x2 n=9 10:9\n",
        );
        let report = Report {
            story: " verdict=reused wake=1048577 victims=2 victim_pid=5".to_string(),
            ..Report::default()
        };
        let all = lengths(&snapshot, &[report, Report::default()]);
        let length = |windows, lost, victims| Length {
            windows,
            lost,
            victims,
        };
        let wanted = [(10, length(5, 0, 0)), (20, length(3, 1, 2))];
        assert_eq!(all, wanted.into_iter().collect());
        assert_eq!([&all[&10], &all[&20]].map(Length::share), ["0", "33.33 %"]);
        // Of another site's windows there are no lengths.
        assert_eq!(length(0, 1, 0).share(), "-");
    }
}
