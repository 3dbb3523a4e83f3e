// SPDX-License-Identifier: GPL-2.0

//! A kernel's log in a guest, judged as the lab judges a console: [`findings`] has the rule.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use anyhow::{Context, Result};
use findings::{Excuse, Findings};

/// Reads a log from stdin, and prints its findings, or the rest of it.
pub fn judge(rest: bool, loss: Option<&str>) -> Result<()> {
    let mut log = Vec::new();
    io::stdin().read_to_end(&mut log).context("stdin")?;
    let log = String::from_utf8_lossy(&log);
    let text = if rest {
        without_excused(&log)
    } else {
        list(&log, loss)
    };
    io::stdout().write_all(text.as_bytes()).context("stdout")
}

fn list(log: &str, loss: Option<&str>) -> String {
    let mut all = Findings::of_text(log);
    if let Some(headline) = loss {
        all = all.of_loss(headline);
    }
    let class = |excuse| match excuse {
        Some(Excuse::LiveRace) => "live",
        Some(Excuse::LateServer) => "late",
        None => "other",
    };
    let reports = all.reports.iter().map(|report| {
        (
            report.at,
            class(report.is_live().then_some(Excuse::LiveRace)),
            "wakewatch",
            report.headline(),
        )
    });
    let splats = all.splats.iter().map(|splat| {
        (
            splat.at,
            class(splat.excuse()),
            "kernel",
            splat.text.clone(),
        )
    });
    let mut lines: Vec<_> = reports.chain(splats).collect();
    lines.sort();
    let lines = lines
        .into_iter()
        .map(|(_, class, who, text)| format!("{class} {who} {text}\n"));
    lines.collect::<Vec<_>>().concat()
}

/// Another finding's lines stay, even in the middle of one that goes.
fn without_excused(log: &str) -> String {
    let all = Findings::of_text(log);
    let (mut go, mut stay) = (BTreeSet::<usize>::new(), BTreeSet::new());
    for (goes, lines) in all
        .reports
        .iter()
        .map(|report| (report.is_live(), &report.lines))
        .chain(
            all.splats
                .iter()
                .map(|splat| (splat.excuse().is_some(), &splat.lines)),
        )
    {
        if goes { &mut go } else { &mut stay }.extend(lines);
    }
    log.lines()
        .enumerate()
        .filter(|(at, _)| !go.contains(at) || stay.contains(at))
        .flat_map(|(_, line)| [line, "\n"])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[    7.0] ww-lab: begin x
[    8.0] =====
[    8.0] BUG: wakewatch: zero-ref wake of PG_locked in __read_end_io
[    8.0] stack:
[    8.0] WARNING: CPU: 0 PID: 1 at mm/x.c:1 f+0x1/0x2
[    8.0] wakewatch: story verdict=zero-ref clear_ns=1 freed=3 wake=5
[    8.0] =====
[    9.0] BUG: wakewatch: zero-ref wake of PG_writeback in ext4_finish_bio
";

    #[test]
    fn all_are_listed() {
        let listed = list(LOG, None);
        assert_eq!(listed.lines().count(), 3);
        assert!(listed.contains("other wakewatch zero-ref wake of PG_writeback in ext4_finish_bio"));
        assert!(listed.contains("other kernel WARNING: CPU: 0"));
    }

    #[test]
    fn nothing_else_goes_with_it() {
        let whole = LOG.replace(
            "[    8.0] WARNING: CPU: 0 PID: 1 at mm/x.c:1 f+0x1/0x2\n",
            "",
        );
        let rest = without_excused(&whole);
        assert!(rest.contains("begin x") && rest.contains("PG_writeback"));
        assert!(!rest.contains("PG_locked") && !rest.contains("=====") && !rest.contains("story"));
        assert!(without_excused(LOG).contains("WARNING: CPU: 0"));
    }
}
