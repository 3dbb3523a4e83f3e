// SPDX-License-Identifier: GPL-2.0

//! Whether a guest has shown what its plan says.

use super::plan::{Heard, Plan, Row, Said};
use crate::console::{chief_splat, Findings, Report, Splat};
use crate::debugfs;
use crate::guest::Guest;
use crate::ktap::{Status, Test};
use crate::live::without_live;
use crate::outcome::Outcome;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A row with what was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    pub kernel: String,
    pub scenario: String,
    pub kernel_said: String,
    pub wakewatch_said: String,
    /// What is not as it must be.
    pub wrong: Vec<String>,
    /// Guest time of the kernel's line.
    pub bug_at: Option<f64>,
    pub retries: Vec<String>,
    /// Findings of the live read race that came by themselves.
    pub live: usize,
    pub log: PathBuf,
    #[serde(skip)]
    pub last_lines: Vec<String>,
}

impl Judged {
    /// The same as a test's result.
    pub fn test(&self, detect: bool) -> Test {
        let detect = if detect { "" } else { " (the witness)" };
        let title = format!("{}: {}{detect}", self.kernel, self.scenario);
        let mut test = Test::new(title, Status::Pass);
        if !self.wrong.is_empty() {
            test.status = Status::Fail;
            test.notes = self.wrong.clone();
            test.notes.push(format!("log: {}", self.log.display()));
            test.notes.extend(self.last_lines.clone());
        }
        test
    }
}

impl Plan {
    pub fn judge(&self, guest: &Guest) -> Vec<Judged> {
        self.rows
            .iter()
            .map(|row| judge(self, row, guest))
            .collect()
    }
}

fn judge(plan: &Plan, row: &Row, guest: &Guest) -> Judged {
    let console = &guest.console;
    let section = if plan.rows.len() > 1 {
        console.section(row.script)
    } else {
        console.started().then(|| console.all())
    };
    let ran = section.is_some();
    let section = section.unwrap_or(0..0);
    let all = console.findings(section);
    // What this kernel may say by itself is no word about the scenario, unless it is about that.
    let found = match row.is_about_reads() {
        true => all.clone(),
        false => all.clone().others(),
    };
    let Findings { reports, splats } = &found;
    let splat = chief_splat(splats);
    let stats = guest.result.stats.get(row.script);

    let mut wrong = Vec::new();
    let mut victim = None;
    if !ran {
        wrong.push(format!(
            "did not run: the guest ended before, {}: {}",
            guest.result.outcome, guest.result.why
        ));
    } else {
        if let Some(why) = kernel_wrong(row.kernel, splat, guest.result.outcome) {
            wrong.push(why);
        }
        wrong.extend(wakewatch_wrong(row.wakewatch, reports, splat));
        if let Said::Nothing = row.kernel {
            wrong.extend(survivor_wrong(plan, row, guest, &all));
        }
        if row.hurt {
            match hurt(&guest.tests, row.wakewatch, reports) {
                Ok(pid) => victim = Some(pid),
                Err(why) => wrong.push(why),
            }
        }
    }
    let kernel_said = match splat {
        Some(splat) => splat.brief(),
        None if !ran => guest.result.outcome.to_string(),
        None => "nothing".to_string(),
    };
    let mut wakewatch_said = heard_text(plan.detect, row.wakewatch, reports, splat, stats);
    if let Some(pid) = victim {
        wakewatch_said.push_str(&format!(", victim: pid {pid}, whose call failed"));
    }
    Judged {
        kernel: plan.kernel.to_string(),
        scenario: row.scenario.to_string(),
        kernel_said,
        wakewatch_said,
        live: all.reports.len() - reports.len() + all.splats.len() - splats.len(),
        wrong,
        bug_at: splat.map(|s| s.time),
        retries: guest.result.retries.clone(),
        log: guest.dir.join("console.log"),
        last_lines: console.tail(20).iter().map(|l| l.text.clone()).collect(),
    }
}

fn kernel_wrong(want: Said, splat: Option<&Splat>, outcome: Outcome) -> Option<String> {
    match (want, splat) {
        (Said::Nothing, None) => None,
        (Said::Nothing, Some(splat)) => Some(format!(
            "the kernel must be silent, it said: {}",
            splat.text
        )),
        (Said::Bug { file, .. }, None) => Some(format!(
            "the kernel must hit a BUG at {file}NNNN, but: {outcome}"
        )),
        (
            Said::Bug {
                file,
                function,
                page_dumped,
            },
            Some(splat),
        ) => {
            if !splat.is_bug_at(file) {
                return Some(format!("not a BUG at {file}NNNN: {}", splat.summary()));
            }
            if let (Some(want), Some(have)) = (function, &splat.function) {
                // Inlined or split functions have suffixes.
                if have.split('.').next() != Some(want) {
                    return Some(format!("the BUG is in {have}(), not in {want}()"));
                }
            }
            let have = splat.page_dumped.as_deref();
            let one_of = |have: &str| page_dumped.iter().any(|want| have.contains(want));
            if !page_dumped.is_empty() && !have.is_some_and(one_of) {
                return Some(format!(
                    "page dumped because: {have:?}, not {page_dumped:?}"
                ));
            }
            (outcome != Outcome::Panic).then(|| format!("the guest ended in {outcome}"))
        }
    }
}

fn wakewatch_wrong(want: Heard, reports: &[Report], splat: Option<&Splat>) -> Vec<String> {
    let line = |r: &Report| format!("{} {}", r.verdict, r.rest);
    match want {
        Heard::Nothing => match reports.first() {
            Some(report) => vec![format!(
                "wakewatch must be silent, it said: {}",
                line(report)
            )],
            None => Vec::new(),
        },
        Heard::Verdict {
            verdict,
            about,
            first,
            beside,
            story,
        } => {
            let wanted = |r: &&Report| r.verdict == verdict && r.rest.contains(about);
            let mut wrong = Vec::new();
            match (reports.iter().find(wanted), splat) {
                (None, _) => wrong.push(format!("wakewatch did not say {verdict} ({about})")),
                (Some(report), Some(splat)) if first && report.when() >= splat.time => {
                    wrong.push(format!(
                        "wakewatch said {verdict} only after the kernel's BUG"
                    ));
                }
                _ => {}
            }
            let told = |r: &Report| story.iter().all(|key| r.story.contains(&format!(" {key}")));
            if wrong.is_empty() && !reports.iter().filter(wanted).any(told) {
                wrong.push(format!("no report of {verdict} tells {}", story.join(", ")));
            }
            let other = |r: &&Report| !wanted(r) && !beside.contains(&r.verdict.as_str());
            if let Some(other) = reports.iter().find(other) {
                wrong.push(format!("wakewatch also said: {}", line(other)));
            }
            wrong
        }
    }
}

/// The task whose call has failed, by its own word (`10 of 11 pread()s, pid 87`), if a report of the
/// wanted verdict has it for a victim.
fn hurt(tests: &[Test], want: Heard, reports: &[Report]) -> Result<u32, String> {
    fn said(tests: &[Test]) -> Option<(u32, u32)> {
        let of = |test: &Test| {
            let (_, text) = test.name.rsplit_once(" (")?;
            let (failed, rest) = text.split_once(" of ")?;
            let (_, pid) = rest.rsplit_once(", pid ")?;
            Some((failed.parse().ok()?, pid.strip_suffix(')')?.parse().ok()?))
        };
        tests
            .iter()
            .find_map(|test| of(test).or_else(|| said(&test.children)))
    }
    let Heard::Verdict { verdict, about, .. } = want else {
        return Err("a row of a program that is hurt wants a verdict".to_string());
    };
    let (failed, pid) = said(tests).ok_or("the script does not say whose call has failed")?;
    if failed == 0 {
        return Err("no call has failed".to_string());
    }
    let word = format!("victim_pid={pid}");
    let told = |r: &Report| {
        r.verdict == verdict
            && r.rest.contains(about)
            && r.story.split(' ').any(|have| have == word)
    };
    match reports.iter().any(told) {
        true => Ok(pid),
        false => Err(format!("no report of {verdict} has pid {pid} for a victim")),
    }
}

/// A guest that stays alive must have done its work, and its counters must agree with the
/// console, where reports are rate-limited.
fn survivor_wrong(plan: &Plan, row: &Row, guest: &Guest, all: &Findings) -> Vec<String> {
    let mut wrong = Vec::new();
    let test = if plan.rows.len() > 1 {
        guest
            .tests
            .iter()
            .find(|test| test.name == row.script)
            .cloned()
    } else {
        Some(Test::group(row.script, guest.tests.clone()))
    };
    match test {
        Some(test) if test.status == Status::Pass => {}
        Some(test) => wrong.push(format!("{}: {}", row.script, first_failure(&test))),
        None => wrong.push(format!("{} has no result", row.script)),
    }
    let Some(stats) = guest.result.stats.get(row.script) else {
        wrong.push("wakewatch's counters were not saved".to_string());
        return wrong;
    };
    for name in row.moved {
        match stats.get(*name) {
            Some(&n) if n > 0 => {}
            have => wrong.push(format!("{name} must be above 0, it is {have:?}")),
        }
    }
    let allowed: Vec<String> = match row.wakewatch {
        Heard::Nothing => Vec::new(),
        Heard::Verdict {
            verdict, beside, ..
        } => beside
            .iter()
            .chain([&verdict])
            .map(|verdict| verdict.to_string())
            .collect(),
    };
    let mut counted = debugfs::findings(|name| stats.get(name).copied().unwrap_or(0));
    if !row.is_about_reads() {
        counted = without_live(counted, all);
    }
    for (verdict, n) in counted {
        if !allowed.contains(&verdict) {
            wrong.push(format!("wakewatch counted {n} of {verdict}"));
        }
    }
    wrong
}

fn first_failure(test: &Test) -> String {
    if let Some(child) = test.children.iter().find(|t| t.status == Status::Fail) {
        return format!("{}: {}", child.name, first_failure(child));
    }
    let why = test.notes.join(", ");
    match test.status {
        Status::Skip => format!("skipped: {why}"),
        _ if why.is_empty() => "not ok".to_string(),
        _ => why,
    }
}

/// What wakewatch said, the wanted first, with counts: its own where the guest could save them.
fn heard_text(
    detect: bool,
    want: Heard,
    reports: &[Report],
    splat: Option<&Splat>,
    stats: Option<&std::collections::BTreeMap<String, u64>>,
) -> String {
    let mut seen: Vec<String> = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    let mut sorted: Vec<&Report> = reports.iter().collect();
    if let Heard::Verdict { verdict, .. } = want {
        sorted.sort_by_key(|report| report.verdict != verdict);
    }
    for report in sorted {
        if seen.contains(&report.verdict) {
            continue;
        }
        seen.push(report.verdict.clone());
        let printed = reports
            .iter()
            .filter(|r| r.verdict == report.verdict)
            .count();
        let counted = stats.and_then(|stats| stats.get(&report.verdict.replace('-', "_")));
        let mut text = report.verdict.clone();
        if let Some(bit) = report.rest.split(' ').find(|word| word.starts_with("PG_")) {
            text.push_str(&format!(" of {bit}"));
        }
        match counted {
            Some(n) if *n > 1 => text.push_str(&format!(" ({n} times)")),
            // Reports are rate-limited: there may have been more.
            None if printed > 1 => text.push_str(&format!(" ({printed})")),
            _ => {}
        }
        if let Some(splat) = splat.filter(|splat| report.when() < splat.time) {
            text.push_str(&format!(", {:.2} s before", splat.time - report.when()));
        }
        texts.push(text);
    }
    match (texts.is_empty(), detect) {
        (false, _) => texts.join("; "),
        (true, true) => "nothing".to_string(),
        (true, false) => "nothing (off)".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{ORDER0_BUG, PLANS, TAIL_BUG};
    use super::*;
    use crate::env::Needs;
    use std::path::Path;

    fn report(at: usize, verdict: &str, rest: &str) -> Report {
        Report {
            at,
            time: at as f64,
            verdict: verdict.to_string(),
            rest: rest.to_string(),
            ..Report::default()
        }
    }

    fn bug(at: usize, text: &str, function: &str, dumped: Option<&str>) -> Splat {
        Splat {
            at,
            time: at as f64,
            text: text.to_string(),
            page_dumped: dumped.map(str::to_string),
            function: Some(function.to_string()),
            ..Splat::default()
        }
    }

    #[test]
    fn the_kernels_bug() {
        let good = bug(
            9,
            "kernel BUG at fs/ext4/inode.c:2514!",
            "mpage_prepare_extent_to_map",
            None,
        );
        let check = |splat: &Splat, outcome| kernel_wrong(ORDER0_BUG, Some(splat), outcome);
        assert_eq!(check(&good, Outcome::Panic), None);
        assert!(check(&good, Outcome::Timeout).is_some());
        let elsewhere = bug(9, "kernel BUG at fs/ext4/inode.c:99!", "ext4_other", None);
        assert!(check(&elsewhere, Outcome::Panic).is_some());
        let other = bug(
            9,
            "kernel BUG at mm/filemap.c:99!",
            "mpage_prepare_extent_to_map",
            None,
        );
        assert!(check(&other, Outcome::Panic).is_some());
        assert!(kernel_wrong(ORDER0_BUG, None, Outcome::Pass).is_some());
        assert!(kernel_wrong(Said::Nothing, Some(&good), Outcome::Panic).is_some());
        assert!(kernel_wrong(Said::Nothing, None, Outcome::Pass).is_none());
        let why = Some("VM_BUG_ON_PAGE(page->compound_head & 1)");
        let tail = bug(9, "kernel BUG at include/linux/page-flags.h:316!", "f", why);
        assert_eq!(kernel_wrong(TAIL_BUG, Some(&tail), Outcome::Panic), None);
        let why = Some("VM_BUG_ON_PAGE(page->compound_info & 1)");
        let tail = bug(9, "kernel BUG at include/linux/page-flags.h:355!", "f", why);
        assert_eq!(kernel_wrong(TAIL_BUG, Some(&tail), Outcome::Panic), None);
        let why = Some("VM_BUG_ON_PAGE(PageTail(page))");
        let tail = bug(9, "kernel BUG at include/linux/page-flags.h:316!", "f", why);
        assert!(kernel_wrong(TAIL_BUG, Some(&tail), Outcome::Panic).is_some());
        let tail = bug(
            9,
            "kernel BUG at include/linux/page-flags.h:316!",
            "f",
            None,
        );
        assert!(kernel_wrong(TAIL_BUG, Some(&tail), Outcome::Panic).is_some());
    }

    #[test]
    fn wakewatchs_verdicts() {
        let want = Heard::Verdict {
            verdict: "unreferenced",
            about: "end of writeback",
            first: true,
            beside: &[],
            story: &[],
        };
        let splat = bug(9, "kernel BUG at a.c:1!", "f", None);
        let good = report(5, "unreferenced", "end of writeback in f");
        let late = report(10, "unreferenced", "end of writeback in f");
        let other = report(6, "tail", "wake of PG_writeback in f");
        let wrong = |reports: &[Report]| wakewatch_wrong(want, reports, Some(&splat)).len();
        assert_eq!(wrong(std::slice::from_ref(&good)), 0);
        assert_eq!(wrong(std::slice::from_ref(&late)), 1);
        let story = |story| match want {
            Heard::Verdict {
                verdict,
                about,
                first,
                beside,
                ..
            } => Heard::Verdict {
                verdict,
                about,
                first,
                beside,
                story,
            },
            Heard::Nothing => want,
        };
        let told = Report {
            story: "verdict=unreferenced freed=12 freed_cpu=1".to_string(),
            ..good.clone()
        };
        let untold = |report: &Report, want| {
            wakewatch_wrong(want, std::slice::from_ref(report), Some(&splat)).len()
        };
        assert_eq!(untold(&told, story(&["freed="])), 0);
        assert_eq!(untold(&told, story(&["freed=", "allocated="])), 1);
        assert_eq!(untold(&good, story(&["freed="])), 1);
        // Printed after the BUG by the panic notifier, but made before it.
        let flushed = Report {
            made: Some(8.5),
            ..late
        };
        assert_eq!(wrong(&[flushed]), 0);
        assert_eq!(wrong(&[good.clone(), other.clone()]), 1);
        assert_eq!(wrong(std::slice::from_ref(&other)), 2);
        assert_eq!(wrong(&[]), 1);
        assert_eq!(
            wakewatch_wrong(Heard::Nothing, std::slice::from_ref(&good), None).len(),
            1
        );
        assert_eq!(
            heard_text(true, want, &[good.clone(), good, other], Some(&splat), None),
            "unreferenced (2), 4.00 s before; tail of PG_writeback, 3.00 s before"
        );
        assert_eq!(
            heard_text(false, Heard::Nothing, &[], None, None),
            "nothing (off)"
        );
    }

    #[test]
    fn who_was_hurt_is_the_victim() {
        let want = Heard::Verdict {
            verdict: "reused",
            about: "PG_locked",
            first: false,
            beside: &[],
            story: &[],
        };
        let script =
            |name: &str| vec![Test::group("read-eio", vec![Test::new(name, Status::Pass)])];
        let tests = script("pread() said EIO (10 of 11 pread()s, pid 87)");
        let victim = |verdict, pid: u32| Report {
            story: format!("verdict={verdict} victims=2 victim_pid=8 victim_pid={pid}"),
            ..report(1, verdict, "wake of PG_locked in f")
        };
        let hurt = |tests: &[Test], report| hurt(tests, want, &[report]);
        assert_eq!(hurt(&tests, victim("reused", 87)), Ok(87));
        assert!(hurt(&tests, victim("reused", 871)).is_err());
        assert!(hurt(&tests, victim("zero-ref", 87)).is_err());
        let none = script("pread() said EIO (0 of 11 pread()s, pid 87)");
        assert!(hurt(&none, victim("reused", 87)).is_err());
        assert!(hurt(&script("pread() said EIO ()"), victim("reused", 87)).is_err());
    }

    #[test]
    fn rows_about_reads_are_those_whose_scripts_say_so() {
        let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest");
        for row in PLANS.iter().flat_map(|plan| plan.rows) {
            let needs = Needs::of(&guest.join(format!("{}.sh", row.script))).unwrap();
            assert_eq!(needs.provokes_reads, row.is_about_reads(), "{}", row.script);
        }
    }

    #[test]
    fn every_row_of_a_shared_boot_is_survived_but_the_last() {
        for plan in PLANS {
            for row in &plan.rows[..plan.rows.len() - 1] {
                assert!(matches!(row.kernel, Said::Nothing), "{}", plan.name);
            }
        }
    }
}
