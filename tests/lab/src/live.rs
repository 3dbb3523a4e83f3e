// SPDX-License-Identifier: GPL-2.0

//! What came by itself, over one run and over all of them: losses of the live read race, which no test may
//! take for its own (the rule is in `findings::live`), and boots that had to be repeated.
//!
//! Losses are never hidden: each is shown in its run's summary, and kept with its story in the cache, in
//! `findings.jsonl`, a line of JSON each, which `lab findings` prints.

use crate::certainty::spread;
use crate::console::{Console, Findings};
use crate::env::Lab;
use crate::guest::{Boot, Record};
use crate::jsonl;
use crate::kernels::Hooked;
use crate::table::table;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A loss of the live read race.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Live {
    /// UTC.
    pub at: String,
    /// The kernel's key and its release.
    pub kernel: String,
    pub release: Option<String>,
    pub scenario: String,
    /// "wakewatch", or "kernel" where its assertion alone has seen it.
    pub told_by: String,
    pub headline: String,
    pub caller: String,
    /// From the clear to the wake.
    pub window_ns: Option<u64>,
    /// What the page was by the time of the wake.
    pub was: String,
    pub victims: u64,
    /// Delays of other pages that the guest had asked for: with none, this came without any help.
    pub delays: u64,
    /// The guest's folder, as long as it is there.
    pub log: PathBuf,
    pub story: String,
}

/// What a run's summary has to say besides its results.
#[derive(Debug, Default)]
pub struct Tally {
    /// Kernels that a guest was booted with, and how functions were hooked there.
    pub booted: Hooked,
    live: Vec<Live>,
    /// Guests whose scheduler has warned that the host hardly ran them, each with what it said.
    late: Vec<String>,
    /// Guests that were booted again, each with the reason.
    repeated: Vec<String>,
}

impl Tally {
    pub fn repeated(&mut self, guest: &str, why: &str) {
        self.repeated.push(format!("{guest} ({why})"));
    }

    /// Lines for the end of a summary: none if there was nothing.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let (natural, beside): (Vec<&Live>, Vec<&Live>) =
            self.live.iter().partition(|live| live.delays == 0);
        for (all, how) in [
            (natural, "natural"),
            (beside, "beside delays of other pages"),
        ] {
            if let Some(first) = all.first() {
                lines.push(format!(
                    "{} of the live read race, {how}: {}{} (make findings)",
                    counted(all.len(), "finding", "findings"),
                    first.headline,
                    if all.len() > 1 { ", ..." } else { "" },
                ));
            }
        }
        if let Some(first) = self.late.first() {
            lines.push(format!(
                "{} of the kernel's fair server, which was late, on a host that hardly ran the guest: {first}{}",
                counted(self.late.len(), "warning", "warnings"),
                if self.late.len() > 1 { ", ..." } else { "" },
            ));
        }
        if !self.repeated.is_empty() {
            lines.push(format!(
                "{} repeated: {}",
                counted(self.repeated.len(), "boot was", "boots were"),
                self.repeated.join("; ")
            ));
        }
        lines
    }
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Takes the losses of a guest that was not there to lose them, and keeps them. What the scheduler said is told.
pub fn collect(
    lab: &Lab,
    boot: &Boot,
    console: &Console,
    result: &Record,
    log: &Path,
) -> Result<Vec<Live>> {
    let findings = console.findings(console.all());
    lab.tally().late.extend(
        findings
            .late_servers()
            .map(|splat| format!("{} ({})", splat.summary(), result.scenario)),
    );
    if boot.provokes_reads {
        return Ok(Vec::new());
    }
    let all = of_guest(&findings, console, result, log);
    if !all.is_empty() {
        jsonl::keep(&file(&lab.cache), &all)?;
        lab.tally().live.extend(all.iter().cloned());
    }
    Ok(all)
}

fn of_guest(findings: &Findings, console: &Console, result: &Record, log: &Path) -> Vec<Live> {
    let story = |lines: &[usize]| {
        let text = lines.iter().map(|&at| console.lines[at].text.as_str());
        text.collect::<Vec<_>>().join("\n") + "\n"
    };
    let delays = result
        .stats
        .values()
        .filter_map(|stats| stats.get("delays"));
    let base = Live {
        at: crate::env::now(),
        kernel: result.kernel.clone(),
        release: result.release.clone(),
        scenario: result.scenario.clone(),
        told_by: String::new(),
        headline: String::new(),
        caller: String::new(),
        window_ns: None,
        was: String::new(),
        victims: 0,
        delays: delays.sum(),
        log: log.to_path_buf(),
        story: String::new(),
    };
    let reports = findings.live_reports().map(|report| Live {
        told_by: "wakewatch".to_string(),
        headline: report.headline(),
        caller: report.caller().to_string(),
        window_ns: report.window_ns(),
        was: report.was(),
        victims: report
            .word("victims")
            .and_then(|n| n.parse().ok())
            .unwrap_or(0),
        story: story(&report.lines),
        ..base.clone()
    });
    let splats = findings.live_splats().map(|splat| Live {
        told_by: "kernel".to_string(),
        headline: splat.summary(),
        caller: splat.waker().unwrap_or_default().to_string(),
        was: "free".to_string(),
        story: story(&splat.lines),
        ..base.clone()
    });
    reports.chain(splats).collect()
}

fn file(cache: &Path) -> PathBuf {
    cache.join("findings.jsonl")
}

/// `lab findings`: all that were kept, by kernel, caller and what the page was, and the newest story.
pub fn verb(lab: &Lab, stories: usize) -> Result<bool> {
    let path = file(&lab.cache);
    let all: Vec<Live> = jsonl::read(&path)?;
    if all.is_empty() {
        println!(
            "no loss of the live read race has come by itself yet; they would be in {}",
            path.display()
        );
        return Ok(true);
    }
    print!("{}", page(&all));
    for live in all.iter().rev().take(stories) {
        println!(
            "\n{}, {}, {}:\n{}",
            live.at,
            live.kernel,
            live.scenario,
            live.story.trim_end()
        );
    }
    println!(
        "\n{} in {}",
        counted(all.len(), "finding", "findings"),
        path.display()
    );
    Ok(true)
}

fn page(all: &[Live]) -> String {
    let mut groups: BTreeMap<_, Vec<&Live>> = BTreeMap::new();
    for live in all {
        let release = live.release.as_deref().unwrap_or("?");
        groups
            .entry((
                format!("{} {release}", live.kernel),
                live.caller.as_str(),
                live.was.as_str(),
                live.told_by.as_str(),
                if live.delays == 0 {
                    "none"
                } else {
                    "of other pages"
                },
            ))
            .or_default()
            .push(live);
    }
    let mut table = table([
        "kernel",
        "caller",
        "the page was",
        "told by",
        "delays",
        "times",
        "victims",
        "window",
    ]);
    for ((kernel, caller, was, by, delays), group) in groups {
        let mut ms: Vec<f64> = group
            .iter()
            .filter_map(|live| live.window_ns)
            .map(|ns| ns as f64 / 1e6)
            .collect();
        ms.sort_by(f64::total_cmp);
        let window = match spread(&ms) {
            None => "-".to_string(),
            Some((min, _, max)) if ms.len() < 2 || min == max => format!("{max:.2} ms"),
            Some((min, median, max)) => format!("{min:.2} to {max:.2} ms, median {median:.2}"),
        };
        let victims: u64 = group.iter().map(|live| live.victims).sum();
        table.add_row([
            &kernel,
            caller,
            was,
            by,
            delays,
            &group.len().to_string(),
            &victims.to_string(),
            &window,
        ]);
    }
    format!("{table}\n")
}

/// What a guest's counters have found, without what the live read race is to be thanked for.
pub fn without_live(
    mut counted: BTreeMap<String, u64>,
    findings: &Findings,
) -> BTreeMap<String, u64> {
    for report in findings.live_reports() {
        if let Some(n) = counted.get_mut(&report.verdict) {
            *n = n.saturating_sub(1);
        }
    }
    counted.retain(|_, n| *n > 0);
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Stream;
    use std::fs;

    fn live(caller: &str, window_ns: u64, delays: u64) -> Live {
        Live {
            at: "20201124-171419".to_string(),
            kernel: "stock".to_string(),
            release: Some("6.12.117".to_string()),
            scenario: "s".to_string(),
            told_by: "wakewatch".to_string(),
            headline: format!("zero-ref wake of PG_locked in {caller}"),
            caller: caller.to_string(),
            window_ns: Some(window_ns),
            was: "free".to_string(),
            victims: 1,
            delays,
            log: PathBuf::new(),
            story: "story\n".to_string(),
        }
    }

    #[test]
    fn a_summary_says_what_came_by_itself() {
        let mut tally = Tally::default();
        assert!(tally.lines().is_empty());
        tally.live.push(live("a", 1, 0));
        tally.repeated("one", "x");
        tally.late.push("WARNING: y (soak)".to_string());
        let lines = tally.lines();
        assert_eq!(
            lines,
            [
                "1 finding of the live read race, natural: zero-ref wake of PG_locked in a (make findings)",
                "1 warning of the kernel's fair server, which was late, on a host that hardly ran the guest: WARNING: y (soak)",
                "1 boot was repeated: one (x)"
            ]
        );
        tally.live.push(live("a", 1, 7));
        tally.repeated("two", "y");
        tally.late.push("WARNING: z (stress)".to_string());
        let lines = tally.lines();
        assert!(lines[1].starts_with("1 finding of the live read race, beside delays"));
        assert!(lines[2].starts_with("2 warnings") && lines[2].ends_with(" y (soak), ..."));
        assert_eq!(lines[3], "2 boots were repeated: one (x); two (y)");
    }

    #[test]
    fn all_runs_are_one_table() {
        let dir = std::env::temp_dir().join(format!("lab-findings-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        jsonl::keep(&file(&dir), &[live("a", 1_000_000, 0), live("b", 5, 0)]).unwrap();
        jsonl::keep(&file(&dir), &[live("a", 3_000_000, 0)]).unwrap();
        let text = fs::read_to_string(file(&dir)).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let all: Vec<Live> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(all.len(), 3);
        let page = page(&all);
        assert!(page.contains("1.00 to 3.00 ms, median 2.00"), "{page}");
        assert_eq!(page.lines().count(), 4);
    }

    #[test]
    fn counters_are_what_is_left() {
        let mut console = Console::default();
        for text in [
            "BUG: wakewatch: zero-ref wake of PG_locked in __read_end_io",
            "wakewatch: story verdict=zero-ref clear_ns=1 freed=2 wake=3",
            "BUG: wakewatch: zero-ref wake of PG_writeback in x",
        ] {
            console.push(Stream::Console, format!("[    1.000000] {text}"));
        }
        let findings = console.findings(console.all());
        let counted = BTreeMap::from([("zero-ref".to_string(), 2), ("tail".to_string(), 0)]);
        let left = without_live(counted, &findings);
        assert_eq!(left, BTreeMap::from([("zero-ref".to_string(), 1)]));
    }
}
