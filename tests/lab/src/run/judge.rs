// SPDX-License-Identifier: GPL-2.0

//! What a run has found, and what is concluded from it.

use crate::console::Console;
use crate::debugfs;
use crate::guest::Guest;
use crate::ktap::{Status, Test};
use crate::outcome::Outcome;
use findings::{Excuse, Findings};
use regex::Regex;
use serde::Serialize;
use std::fs;

/// What a script is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Nothing,
    Found,
    /// The kernel's death, or that it stands still.
    Died,
    /// The lab has failed, or what was run has not run.
    Unknown,
}

impl Verdict {
    /// scripts/run.sh makes 0 to 3 of them, which anything may end with.
    pub fn status(self) -> u8 {
        match self {
            Self::Nothing => 10,
            Self::Found => 11,
            Self::Died => 12,
            Self::Unknown => 13,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing was found",
            Self::Found => "found",
            Self::Died => "the kernel died",
            Self::Unknown => "lab error",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    Wakewatch,
    Kernel,
    Program,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Wakewatch => "wakewatch",
            Self::Kernel => "the kernel",
            Self::Program => "the program",
        })
    }
}

/// What was said, as often as it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub who: Who,
    pub headline: String,
    pub count: u64,
    /// Guest time.
    pub first: Option<f64>,
    /// Why nothing is concluded from it.
    pub excused: Option<&'static str>,
    /// The first one, whole.
    pub story: Vec<String>,
}

/// Rounds that have ended in the same way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rounds {
    pub rounds: u64,
    pub first: u64,
    pub end: String,
    /// Of the first of them.
    pub last_line: String,
}

#[derive(Serialize)]
pub struct Judgement {
    pub verdict: Verdict,
    pub why: String,
    pub findings: Vec<Finding>,
    pub rounds: Vec<Rounds>,
}

/// Any kernel has it today (tests/findings).
const LIVE: &str = "the live read race";
/// The scheduler's word about a busy host (tests/findings).
const LATE_SERVER: &str = "the host hardly ran this guest";
/// A fuzzer's image has errors, and a disk that it takes away.
const OF_DATA: &str = "a bad image or device is enough";
const NOT_ASKED: &str = "not what FINDS= says";

impl Judgement {
    pub fn of(guest: &Guest, finds: Option<&Regex>) -> Self {
        let console = &guest.console;
        let mut findings = of_log(console, &console.findings(console.all()));
        let rounds = rounds(&fs::read_to_string(guest.dir.join("rounds")).unwrap_or_default());
        findings.extend(of_program(&rounds));
        if let Ok(text) = fs::read_to_string(guest.dir.join("does-not-die")) {
            let mut lines = text.lines();
            findings.push(Finding {
                who: Who::Program,
                headline: format!("does not die: {}", lines.next().unwrap_or_default()),
                count: 1,
                first: None,
                excused: None,
                story: lines.map(str::to_string).collect(),
            });
        }
        findings.extend(not_printed(guest, &findings));
        only(&mut findings, finds);
        let (verdict, why) = conclude(guest, &findings, &rounds, finds.is_some());
        Self {
            verdict,
            why,
            findings,
            rounds,
        }
    }
}

impl Judgement {
    /// The same as results: what nobody has anything to say against is a pass.
    pub fn tests(&self, build: &str) -> Vec<Test> {
        let ran = Test::of("the program ran", self.verdict != Verdict::Unknown, || {
            self.why.clone()
        });
        let died = Test::of("the kernel lives", self.verdict != Verdict::Died, || {
            self.why.clone()
        });
        let mut tests = vec![ran, died];
        for who in [Who::Wakewatch, Who::Kernel, Who::Program] {
            let of = |f: &&Finding| f.who == who && f.excused.is_none();
            let said = self.findings.iter().filter(of);
            let said: Vec<String> = said
                .map(|f| format!("{} ({})", f.headline, f.count))
                .collect();
            let mut test = Test::of(
                format!("{who} has no finding"),
                said.is_empty(),
                String::new,
            );
            test.notes = said;
            tests.push(test);
        }
        tests.into_iter().map(|test| test.about(build)).collect()
    }
}

fn conclude(
    guest: &Guest,
    findings: &[Finding],
    rounds: &[Rounds],
    asked: bool,
) -> (Verdict, String) {
    let result = &guest.result;
    let counted: Vec<&Finding> = findings.iter().filter(|f| f.excused.is_none()).collect();
    // Where the guest's script has not begun, nothing of the program has run.
    if result.outcome == Outcome::LabError || !guest.console.started() {
        return (Verdict::Unknown, result.why.clone());
    }
    if matches!(result.outcome, Outcome::Panic | Outcome::Timeout) {
        return match asked && counted.is_empty() {
            true => (
                Verdict::Unknown,
                format!("the kernel died of something else: {}", result.why),
            ),
            false => (Verdict::Died, result.why.clone()),
        };
    }
    let set_up = guest.tests.first();
    if set_up.is_none_or(|test| test.status != Status::Pass) {
        let why = set_up.and_then(|test| test.notes.first().cloned());
        let why = why.unwrap_or(result.why.clone());
        return (Verdict::Unknown, format!("not set up: {why}"));
    }
    if let Some(first) = counted.first() {
        let more = match counted.len() {
            1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        return (
            Verdict::Found,
            format!("{}: {}{more}", first.who, first.headline),
        );
    }
    let total: u64 = rounds.iter().map(|kind| kind.rounds).sum();
    let skipped = rounds.iter().filter(|kind| kind.end == "skipped");
    let skipped: u64 = skipped.map(|kind| kind.rounds).sum();
    if total == 0 {
        let why = format!("no round has come to an end: {}", result.why);
        return (Verdict::Unknown, why);
    }
    if skipped == total {
        let why = format!("{total} rounds, and every one was skipped");
        return (Verdict::Unknown, why);
    }
    let limit = rounds.iter().find(|kind| kind.end.starts_with("killed"));
    let limit = limit.map_or(String::new(), |kind| {
        format!(", {} of them {}", kind.rounds, kind.end)
    });
    (Verdict::Nothing, format!("{total} rounds{limit}"))
}

/// Nothing is concluded from what was not asked for, if something was.
pub fn only(findings: &mut [Finding], finds: Option<&Regex>) {
    let Some(finds) = finds else { return };
    for finding in findings {
        let said = format!("{}: {}", finding.who, finding.headline);
        finding.excused = (!finds.is_match(&said)).then_some(NOT_ASKED);
    }
}

/// Was there no guest to speak of, or none that was set up?
pub fn is_of_the_lab(guest: &Guest) -> bool {
    guest.result.outcome == Outcome::LabError
        || guest.result.outcome == Outcome::Fail
            && guest
                .tests
                .first()
                .is_none_or(|test| test.status != Status::Pass)
}

impl Finding {
    /// Counts it with those that say the same, at another time.
    pub fn put_to(self, findings: &mut Vec<Finding>) {
        let same = |f: &&mut Finding| {
            (f.who, &f.headline, f.excused) == (self.who, &self.headline, self.excused)
        };
        match findings.iter_mut().find(same) {
            Some(other) => other.count += self.count,
            None => findings.push(self),
        }
    }
}

/// By headline, in the order of their first.
pub fn of_log(console: &Console, all: &Findings) -> Vec<Finding> {
    let text = |lines: &[usize]| -> Vec<String> {
        let text = lines.iter().map(|&at| console.lines[at].text.clone());
        text.collect()
    };
    let reports = all.reports.iter().map(|report| {
        let excused = report.is_live().then_some(LIVE);
        let who = Who::Wakewatch;
        (
            report.at,
            who,
            report.headline(),
            report.when(),
            excused,
            &report.lines,
        )
    });
    let splats = all.splats.iter().enumerate();
    // What a dying kernel says of the same thing.
    let splats = splats.filter(|(n, splat)| {
        *n == 0
            || !["Oops: ", "Kernel panic - "]
                .iter()
                .any(|head| splat.text.starts_with(head))
    });
    let splats = splats.map(|(_, splat)| {
        let of_data = ["EXT4-fs error ", "Buffer I/O error ", "I/O error, dev "];
        let excused = match splat.excuse() {
            Some(Excuse::LiveRace) => Some(LIVE),
            Some(Excuse::LateServer) => Some(LATE_SERVER),
            None => of_data
                .iter()
                .any(|head| splat.text.starts_with(head))
                .then_some(OF_DATA),
        };
        let who = Who::Kernel;
        (
            splat.at,
            who,
            splat.summary(),
            splat.time,
            excused,
            &splat.lines,
        )
    });
    let mut said: Vec<_> = reports.chain(splats).collect();
    said.sort_by_key(|(at, ..)| *at);
    let mut findings: Vec<Finding> = Vec::new();
    for (_, who, headline, time, excused, lines) in said {
        let finding = Finding {
            who,
            headline,
            count: 1,
            first: Some(time),
            excused,
            story: text(lines),
        };
        finding.put_to(&mut findings);
    }
    findings
}

pub fn of_program(rounds: &[Rounds]) -> impl Iterator<Item = Finding> + '_ {
    let bad = |kind: &&Rounds| {
        kind.end.starts_with("signal ")
            || kind.end.starts_with("exit status ") && kind.end != "exit status 0"
    };
    rounds.iter().filter(bad).map(|kind| Finding {
        who: Who::Program,
        headline: kind.end.clone(),
        count: kind.rounds,
        first: None,
        excused: None,
        story: vec![format!("round {}: {}", kind.first, kind.last_line)],
    })
}

/// What was counted and never told: the console was lost, or the guest, before it was printed.
fn not_printed(guest: &Guest, findings: &[Finding]) -> Vec<Finding> {
    let Some(snapshot) = super::snapshot(&guest.dir) else {
        return Vec::new();
    };
    let told = |verdict: &str| {
        let mut wakewatch = findings.iter().filter(|f| f.who == Who::Wakewatch);
        wakewatch.any(|f| f.headline.starts_with(&format!("{verdict} ")))
    };
    debugfs::findings(|name| snapshot.stat(name))
        .into_iter()
        .filter(|(verdict, _)| !told(verdict))
        .map(|(verdict, count)| Finding {
            who: Who::Wakewatch,
            headline: format!("{verdict}, counted and not printed"),
            count,
            first: None,
            excused: None,
            story: Vec::new(),
        })
        .collect()
}

/// As ww-repro writes them.
pub fn rounds(text: &str) -> Vec<Rounds> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.splitn(4, '\t');
            Some(Rounds {
                rounds: words.next()?.parse().ok()?,
                first: words.next()?.parse().ok()?,
                end: words.next()?.to_string(),
                last_line: words.next()?.to_string(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Stream;

    fn console(text: &str) -> Console {
        let mut console = Console::default();
        for line in text.lines() {
            console.push(Stream::Console, line.to_string());
        }
        console
    }

    const LOG: &str = "\
[    1.000000] BUG: wakewatch: unreferenced end of writeback in a
[    1.000001] file dev 7:0 ino 13 index 0
[    1.000002] =====
[    2.000000] BUG: wakewatch: unreferenced end of writeback in a
[    3.000000] EXT4-fs error (device loop0): x
[    4.000000] kernel BUG at fs/ext4/inode.c:2514!
[    4.000001] Oops: invalid opcode: 0000 [#1]
[    4.000002] RIP: 0010:f+0x1/0x2
[    4.000003] Kernel panic - not syncing: Fatal exception
";

    #[test]
    fn findings_by_headline() {
        let console = console(LOG);
        let all = of_log(&console, &console.findings(console.all()));
        let brief: Vec<_> = all
            .iter()
            .map(|f| (f.headline.as_str(), f.count, f.excused))
            .collect();
        assert_eq!(
            brief,
            [
                ("unreferenced end of writeback in a", 2, None),
                ("EXT4-fs error (device loop0): x", 1, Some(OF_DATA)),
                ("kernel BUG at fs/ext4/inode.c:2514 in f()", 1, None),
            ]
        );
        assert_eq!(all[0].first, Some(1.0));
        assert_eq!(all[0].story.len(), 3);
    }

    #[test]
    fn a_program_that_fails_is_a_finding() {
        let text = "3\t1\texit status 0\tfine\n1\t4\tsignal 11\t\n2\t5\tkilled after 9 s\tx\n1\t9\tskipped\tno\n";
        let all = rounds(text);
        assert_eq!(all.len(), 4);
        let found: Vec<_> = of_program(&all).map(|f| f.headline).collect();
        assert_eq!(found, ["signal 11"]);
    }
}
