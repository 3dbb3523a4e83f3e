// SPDX-License-Identifier: GPL-2.0

//! `DELAY=auto`: first no delay, to see who ends writeback and reads, and then every place and length, one
//! after the other, each for some rounds. A kernel that dies of a step is booted again for the next one.

use super::judge::{self, Finding, Judgement, Rounds, Verdict};
use super::Args;
use crate::debugfs::Snapshot;
use crate::env::Lab;
use crate::guest::{self, Boot, Guest};
use crate::kvm::Accel;
use crate::table::table;
use anyhow::Result;
use regex::Regex;
use serde::Serialize;
use std::fs;
use std::path::Path;

/// Where, in the words of `amplify`, and what has to end for a delay to be there.
const PLACES: &[(&str, &str, Ends)] = &[
    ("before-clear", "where=before-clear", Ends::Writeback),
    ("after-clear", "where=after-clear", Ends::Writeback),
    (
        "before-wake-writeback",
        "where=before-wake bit=writeback",
        Ends::Writeback,
    ),
    (
        "before-wake-locked",
        "where=before-wake bit=locked",
        Ends::Reads,
    ),
];
/// How long, in microseconds.
const LENGTHS: &[u64] = &[100, 1_000, 10_000, 100_000];
/// Rounds of a step, if nobody has said.
const ROUNDS: u64 = 3;
/// The step without any delay.
const NONE: &str = "none";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Writeback,
    Reads,
}

impl Ends {
    /// The call sites of `callers`, and how often they were passed.
    fn sites(self, snapshot: &Snapshot) -> Vec<(&str, u64)> {
        let all = snapshot.callers.iter();
        let mine = all.filter(|((site, _), _)| match self {
            Self::Writeback => site == "end_writeback",
            Self::Reads => site != "end_writeback",
        });
        mine.map(|((_, caller), (calls, _))| (caller.as_str(), *calls))
            .collect()
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    name: String,
    words: String,
    us: u64,
}

impl Step {
    fn none() -> Self {
        Self {
            name: NONE.to_string(),
            words: "off".to_string(),
            us: 0,
        }
    }
}

/// What came of one.
#[derive(Serialize)]
struct Tried {
    step: String,
    words: String,
    rounds: Vec<Rounds>,
    delays: u64,
    findings: Vec<Finding>,
    /// The kernel's death, or that it stands still.
    died: Option<String>,
    /// Call sites with windows that were as long as the delay.
    held: Vec<String>,
}

/// The steps after the one without a delay. So many pages are left out that half of a round's time is the most
/// that goes into delays, if all go by as before.
fn steps(seen: &Snapshot, rounds: u64, limit: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, words, ends) in PLACES {
        let calls: u64 = ends.sites(seen).iter().map(|(_, calls)| calls).sum();
        if calls == 0 {
            continue;
        }
        for us in LENGTHS {
            let all = calls.div_ceil(rounds.max(1)) * us;
            let every = all.div_ceil(limit * 500_000).max(1);
            steps.push(Step {
                name: format!("{name}-{us}us"),
                words: format!("{words} us={us} every={every}"),
                us: *us,
            });
        }
    }
    steps
}

/// All of it; what is concluded, and the page.
pub fn run(
    lab: &Lab,
    accel: Accel,
    dir: &Path,
    args: &Args,
    boot: &Boot,
    finds: Option<&Regex>,
) -> Result<(Judgement, String, Vec<Guest>)> {
    let rounds = args.rounds.unwrap_or(ROUNDS);
    let mut guests = Vec::new();
    let mut tried: Vec<Tried> = Vec::new();
    let mut pending = vec![Step::none()];
    let mut seen = None;
    while !pending.is_empty() {
        let guest = one_boot(lab, accel, dir, boot, &pending, rounds, guests.len() + 1)?;
        let mut done = 0;
        for step in &pending {
            let Some(of) = outcome(&guest, step, finds) else {
                break;
            };
            done += 1;
            let died = of.died.is_some();
            tried.push(of);
            if died {
                break;
            }
        }
        guests.push(guest);
        if done == 0 || guest::interrupted() {
            break;
        }
        pending.drain(..done);
        if seen.is_none() {
            let none = guests[0].dir.join(format!("{NONE}.snapshot"));
            let snapshot = Snapshot::read(&none).unwrap_or_default();
            pending = steps(&snapshot, rounds, args.limit);
            seen = Some(snapshot);
        }
    }
    let judgement = conclude(&guests, &tried, finds);
    let text = page(&tried, &seen.unwrap_or_default());
    fs::write(
        dir.join("auto.json"),
        serde_json::to_string_pretty(&tried)? + "\n",
    )?;
    Ok((judgement, text, guests))
}

fn one_boot(
    lab: &Lab,
    accel: Accel,
    dir: &Path,
    boot: &Boot,
    steps: &[Step],
    rounds: u64,
    n: usize,
) -> Result<Guest> {
    let mut boot = boot.clone();
    boot.name = format!("{}-{n}", boot.name);
    boot.timeout *= steps.len() as u64;
    let lines = steps
        .iter()
        .map(|step| format!("{} {rounds} {}", step.name, step.words));
    let lines: Vec<String> = lines.collect();
    boot.env.push(("WW_STEPS".to_string(), lines.join("\n")));
    guest::run(lab, accel, dir, &boot)
}

/// What a step has come to in this guest, if it was begun.
fn outcome(guest: &Guest, step: &Step, finds: Option<&Regex>) -> Option<Tried> {
    let console = &guest.console;
    let section = console.section(&step.name)?;
    let file = |name: &str| guest.dir.join(format!("{}.{name}", step.name));
    let snapshot = Snapshot::read(&file("snapshot"));
    // Where it was not finished, its files have no names of their own yet.
    let finished = snapshot.is_some();
    let snapshot = snapshot.or_else(|| super::snapshot(&guest.dir));
    let rounds = match finished {
        true => fs::read_to_string(file("rounds")),
        false => fs::read_to_string(guest.dir.join("rounds")),
    };
    let rounds = judge::rounds(&rounds.unwrap_or_default());
    let mut findings = judge::of_log(console, &console.findings(section));
    findings.extend(judge::of_program(&rounds));
    judge::only(&mut findings, finds);
    let snapshot = snapshot.unwrap_or_default();
    Some(Tried {
        step: step.name.clone(),
        words: step.words.clone(),
        rounds,
        delays: snapshot.stat("delays"),
        findings,
        died: (!finished).then(|| guest.result.why.clone()),
        held: held(&snapshot, step.us),
    })
}

/// Call sites with a window that lasted as long as the delay, which is a power of two or more.
fn held(snapshot: &Snapshot, us: u64) -> Vec<String> {
    let power = (us * 1000).checked_ilog2().unwrap_or(63);
    let mut sites: Vec<String> = snapshot
        .windows
        .iter()
        .filter(|(_, lengths)| us > 0 && lengths.range(power..).any(|(_, n)| *n > 0))
        .map(|((_, caller), _)| function(caller).to_string())
        .collect();
    sites.dedup();
    sites
}

/// Of a call site: "ext4_finish_bio+0x19b/0x290".
fn function(site: &str) -> &str {
    site.split('+').next().unwrap_or(site)
}

fn conclude(guests: &[Guest], tried: &[Tried], finds: Option<&Regex>) -> Judgement {
    let mut whole = Judgement::of(&guests[0], finds);
    let mut findings: Vec<Finding> = Vec::new();
    for finding in tried.iter().flat_map(|of| &of.findings) {
        finding.clone().put_to(&mut findings);
    }
    let died = tried.iter().find_map(|of| Some((of, of.died.as_ref()?)));
    let noticed = tried.iter().find(|of| of.noticed());
    let last = guests.last().unwrap_or(&guests[0]);
    if tried.is_empty() || judge::is_of_the_lab(last) {
        (whole.verdict, whole.why) = (Verdict::Unknown, last.result.why.clone());
    } else if let Some((of, why)) = died {
        (whole.verdict, whole.why) = (Verdict::Died, format!("{}: {why}", of.step));
    } else if let Some(of) = noticed {
        let first = of.findings.iter().find(|f| f.excused.is_none());
        let first = first.map_or(String::new(), |f| format!("{}: {}", f.who, f.headline));
        (whole.verdict, whole.why) = (Verdict::Found, format!("{}: {first}", of.step));
    } else {
        let why = format!("{} steps", tried.len());
        (whole.verdict, whole.why) = (Verdict::Nothing, why);
    }
    whole.rounds = tried.iter().flat_map(|of| of.rounds.clone()).collect();
    whole.findings = findings;
    whole
}

impl Tried {
    fn noticed(&self) -> bool {
        self.died.is_some() || self.findings.iter().any(|f| f.excused.is_none())
    }

    fn said(&self, who: judge::Who) -> String {
        let of = |f: &&Finding| f.who == who;
        let said = self.findings.iter().filter(of).map(|f| {
            let excused = f.excused.map_or(String::new(), |why| format!(", {why}"));
            format!("{} ({}{excused})", f.headline, f.count)
        });
        said.collect::<Vec<_>>().join("; ")
    }
}

fn page(tried: &[Tried], seen: &Snapshot) -> String {
    let mut steps = table([
        "step",
        "amplify",
        "rounds",
        "delays",
        "wakewatch",
        "the kernel",
        "the program",
        "died",
    ]);
    for of in tried {
        let rounds: u64 = of.rounds.iter().map(|kind| kind.rounds).sum();
        steps.add_row([
            of.step.clone(),
            of.words.clone(),
            rounds.to_string(),
            of.delays.to_string(),
            of.said(judge::Who::Wakewatch),
            of.said(judge::Who::Kernel),
            of.said(judge::Who::Program),
            of.died.clone().unwrap_or_default(),
        ]);
    }
    let mut sites = table(["call site", "calls without a delay", "held in", "named in"]);
    for (place, (calls, _)) in &seen.callers {
        let name = function(&place.1);
        let in_steps = |of: &dyn Fn(&Tried) -> bool| {
            let steps = tried.iter().filter(|tried| of(tried));
            steps
                .map(|of| of.step.clone())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let named = |of: &Tried| {
            let ours = |f: &Finding| f.who == judge::Who::Wakewatch;
            let mut all = of.findings.iter().filter(|f| ours(f));
            all.any(|f| f.headline.ends_with(&format!(" in {name}")))
        };
        sites.add_row([
            format!("{} in {}", place.0, place.1),
            calls.to_string(),
            in_steps(&|of| of.held.iter().any(|held| held == name)),
            in_steps(&named),
        ]);
    }
    let noticed = tried.iter().filter(|of| of.noticed());
    let noticed: Vec<&str> = noticed.map(|of| of.step.as_str()).collect();
    let noticed = match noticed.is_empty() {
        true => "no step".to_string(),
        false => noticed.join(", "),
    };
    format!("\n{steps}\n\nsomething was noticed in: {noticed}\n\n{sites}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "\
== stats
wake: 1
== callers
site=end_writeback calls=3000 none=0 spare_min=1 spare_max=2 verdict=held caller=ext4_finish_bio+0x19b/0x290
== windows
site=end_writeback caller=ext4_finish_bio+0x19b/0x290 n=9 16:7 20:2
";

    #[test]
    fn places_that_are_never_passed_are_left_out() {
        let steps = steps(&Snapshot::parse(SEEN), 3, 10);
        assert_eq!(steps.len(), 3 * LENGTHS.len());
        assert_eq!(steps[0].words, "where=before-clear us=100 every=1");
        // A thousand in a round: 100 ms each would be 100 s, of which there are 5.
        assert_eq!(steps[3].words, "where=before-clear us=100000 every=20");
        for step in &steps {
            assert!(
                crate::amplify::Spec::parse(&step.words).is_ok(),
                "{}",
                step.words
            );
        }
        assert!(super::steps(&Snapshot::default(), 3, 10).is_empty());
    }

    #[test]
    fn sites_are_held_as_long_as_the_delay() {
        let seen = Snapshot::parse(SEEN);
        assert_eq!(held(&seen, 1_000), ["ext4_finish_bio"]);
        assert!(held(&seen, 10_000).is_empty());
        assert!(held(&seen, 0).is_empty());
    }
}
