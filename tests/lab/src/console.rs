// SPDX-License-Identifier: GPL-2.0

//! What a guest's output says: the kernel's own findings, wakewatch's reports, and how
//! far the guest came.

use regex::Regex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

/// Marks in the guest's output; see `guest::write_entry` and tests/guest/run.sh.
pub const MARK_START: &str = "# ww-lab: start";
pub const MARK_END: &str = "# ww-lab: end ";
const MARK_BEGIN_SCRIPT: &str = "ww-lab: begin ";

/// Where a line came from: two pipes, so that the script's output and the console never
/// meet in the middle of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What the script prints.
    Script,
    /// The serial console, and what QEMU and virtme-ng say on stderr.
    Console,
}

#[derive(Debug)]
pub struct Line {
    pub stream: Stream,
    pub text: String,
    /// What QEMU had used of the host's CPUs when it came, if it was asked.
    pub cpu: Option<Duration>,
}

/// Everything a guest said, in the order of its coming.
#[derive(Debug, Default)]
pub struct Console {
    pub lines: Vec<Line>,
}

/// A finding of the kernel itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Splat {
    pub at: usize,
    pub time: f64,
    /// The line without time stamp.
    pub text: String,
    /// Why a page was dumped right before it.
    pub page_dumped: Option<String>,
    /// The function of the RIP line after it.
    pub function: Option<String>,
}

/// A headline of wakewatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub at: usize,
    pub time: f64,
    /// When the finding was made, by the report's own word; it is printed a little later,
    /// and on a dying kernel by the panic notifier.
    pub made: Option<f64>,
    pub verdict: String,
    /// The rest of the headline, as "wake of PG_locked in folio_end_read".
    pub rest: String,
    /// The story in one line, `key=value` words.
    pub story: String,
}

/// Takes the time stamp off a line of the kernel log.
pub fn split_time(line: &str) -> (Option<f64>, &str) {
    static TIME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\[ *([0-9]+\.[0-9]+)\](?:\[ *[TC][0-9]+\])? ?").expect("valid")
    });
    match TIME.captures(line) {
        Some(c) => (c[1].parse().ok(), &line[c[0].len()..]),
        None => (None, line),
    }
}

impl Console {
    pub fn push(&mut self, stream: Stream, text: String) {
        self.lines.push(Line {
            stream,
            text,
            cpu: None,
        });
    }

    /// Lines of the kernel's log. Without a time stamp it is QEMU or virtme-ng that speaks.
    fn kernel(&self, range: Range<usize>) -> impl Iterator<Item = (usize, f64, &str)> {
        let end = range.end.min(self.lines.len());
        (range.start.min(end)..end)
            .filter(|&i| self.lines[i].stream == Stream::Console)
            .filter_map(|i| {
                let (time, text) = split_time(&self.lines[i].text);
                Some((i, time?, text))
            })
    }

    pub fn all(&self) -> Range<usize> {
        0..self.lines.len()
    }

    /// What the script printed, without the lab's own marks.
    pub fn results(&self) -> impl Iterator<Item = &str> {
        self.script().filter(|line| !line.starts_with("# ww-lab: "))
    }

    fn script(&self) -> impl Iterator<Item = &str> {
        self.lines
            .iter()
            .filter(|line| line.stream == Stream::Script)
            .map(|line| line.text.as_str())
    }

    /// "6.12.117" of the line that every kernel begins with.
    pub fn release(&self) -> Option<&str> {
        self.kernel(self.all())
            .find_map(|(_, _, text)| text.strip_prefix("Linux version "))
            .and_then(|rest| rest.split(' ').next())
    }

    pub fn started(&self) -> bool {
        self.script().any(|text| text.starts_with(MARK_START))
    }

    /// The script's exit status, if it came to its end.
    pub fn ended(&self) -> Option<i32> {
        self.script()
            .find_map(|text| text.strip_prefix(MARK_END))
            .and_then(|rest| rest.trim().parse().ok())
    }

    /// Lines from the beginning of one script of run.sh to the beginning of the next:
    /// reports are printed a little after their cause. Everything, if there are no marks.
    pub fn section(&self, script: &str) -> Option<Range<usize>> {
        let marks: Vec<(usize, &str)> = self
            .kernel(self.all())
            .filter_map(|(i, _, text)| Some((i, text.strip_prefix(MARK_BEGIN_SCRIPT)?.trim())))
            .collect();
        let n = marks.iter().position(|&(_, name)| name == script)?;
        let end = marks.get(n + 1).map_or(self.lines.len(), |&(i, _)| i);
        Some(marks[n].0..end)
    }

    /// The panic's line, without which a guest has not panicked.
    pub fn panic(&self) -> Option<String> {
        self.kernel(self.all())
            .find(|(_, _, text)| text.starts_with("Kernel panic - not syncing"))
            .map(|(_, _, text)| text.to_string())
    }

    /// Findings of the kernel, not of wakewatch, in order.
    pub fn splats(&self, range: Range<usize>) -> Vec<Splat> {
        static SPLAT: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(concat!(
                r"^(?:kernel BUG at |BUG: |WARNING: |Oops: |general protection fault",
                r"|watchdog: BUG: |INFO: task .* blocked for more than |INFO: rcu.* detected ",
                r"|rcu: INFO: rcu.* detected |Kernel panic - not syncing",
                r"|EXT4-fs error |Buffer I/O error |I/O error, dev )"
            ))
            .expect("valid")
        });
        static RIP: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^RIP: [0-9a-f]+:([A-Za-z0-9_.]+)\+0x").expect("valid"));
        let mut splats: Vec<Splat> = Vec::new();
        let mut dumped = None;
        for (at, time, text) in self.kernel(range) {
            if let Some(why) = text.strip_prefix("page dumped because: ") {
                dumped = Some(why.to_string());
            } else if SPLAT.is_match(text) && !text.starts_with("BUG: wakewatch: ") {
                splats.push(Splat {
                    at,
                    time,
                    text: text.to_string(),
                    page_dumped: dumped.take(),
                    function: None,
                });
            } else if let (Some(rip), Some(splat)) = (RIP.captures(text), splats.last_mut()) {
                splat.function.get_or_insert_with(|| rip[1].to_string());
            }
        }
        // An oops repeats the BUG's RIP; the BUG itself has none between.
        for i in 1..splats.len() {
            if splats[i - 1].function.is_none() && splats[i].text.starts_with("Oops: ") {
                splats[i - 1].function = splats[i].function.clone();
            }
        }
        splats
    }

    pub fn reports(&self, range: Range<usize>) -> Vec<Report> {
        static MADE: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^report [0-9]+ at ([0-9]+\.[0-9]+) ").expect("valid"));
        let mut reports: Vec<Report> = Vec::new();
        for (at, time, text) in self.kernel(range) {
            if let Some((verdict, rest)) = text
                .strip_prefix("BUG: wakewatch: ")
                .and_then(|rest| rest.split_once(' '))
            {
                reports.push(Report {
                    at,
                    time,
                    made: None,
                    verdict: verdict.to_string(),
                    rest: rest.to_string(),
                    story: String::new(),
                });
            } else if let (Some(story), Some(report)) =
                (text.strip_prefix("wakewatch: story "), reports.last_mut())
            {
                report.story = story.to_string();
            } else if let (Some(made), Some(report)) = (MADE.captures(text), reports.last_mut()) {
                report.made = report.made.or(made[1].parse().ok());
            }
        }
        reports
    }

    /// wakewatch's reports as they stand on the console: from each headline up to a line
    /// that begins something else.
    pub fn report_text(&self) -> String {
        let mut out = String::new();
        let mut inside = false;
        let heads: Vec<usize> = self.reports(self.all()).iter().map(|r| r.at).collect();
        let splats: Vec<usize> = self.splats(self.all()).iter().map(|s| s.at).collect();
        for (at, _, text) in self.kernel(self.all()) {
            if heads.contains(&at) {
                inside = true;
            } else if splats.contains(&at) || text.starts_with("ww-lab: ") {
                inside = false;
            }
            if inside {
                out.push_str(&self.lines[at].text);
                out.push('\n');
            }
        }
        out
    }

    /// The lines that are worth decoding: those with stacks, from the first finding on.
    pub fn traces(&self) -> Range<usize> {
        // Each new function costs a search in vmlinux; a guest that reports for a minute
        // repeats itself.
        const MOST: usize = 600;
        let has_stack = self
            .kernel(self.all())
            .any(|(_, _, text)| matches!(text.trim(), "Call Trace:" | "stack:"));
        let splat = self.splats(self.all()).first().map(|s| s.at);
        let report = self.reports(self.all()).first().map(|r| r.at);
        match splat.into_iter().chain(report).min() {
            Some(first) if has_stack => first..self.lines.len().min(first + MOST),
            _ => 0..0,
        }
    }

    /// What QEMU or virtme-ng complained of, where a guest never came up.
    pub fn host_error(&self) -> Option<&str> {
        self.lines
            .iter()
            .map(|line| line.text.trim())
            // The lab's own signal is no complaint.
            .filter(|text| !text.contains("terminating on signal"))
            .find(|text| {
                text.starts_with("qemu-system-") && text.contains(": ")
                    || text.starts_with("qemu: ")
                    || text.starts_with("virtme-run: ")
                    || text.starts_with("vng: ")
                    || text.contains("not found")
            })
    }

    pub fn tail(&self, n: usize) -> &[Line] {
        &self.lines[self.lines.len().saturating_sub(n)..]
    }
}

impl Report {
    pub fn when(&self) -> f64 {
        self.made.unwrap_or(self.time)
    }
}

impl Splat {
    /// For a table: the assertion that dumped a page, or else the line.
    pub fn brief(&self) -> String {
        match &self.page_dumped {
            Some(why) => why.clone(),
            None => self.text.trim_end_matches('!').to_string(),
        }
    }

    /// "kernel BUG at fs/ext4/inode.c:2514 in mpage_prepare_extent_to_map()".
    pub fn summary(&self) -> String {
        let mut out = self.text.trim_end_matches('!').to_string();
        if self.is_bug_at("") {
            if let Some(function) = &self.function {
                out.push_str(&format!(" in {function}()"));
            }
        }
        if let Some(why) = &self.page_dumped {
            out.push_str(&format!(", {why}"));
        }
        out
    }

    /// Whether it is a `BUG()` in a file whose name begins so.
    pub fn is_bug_at(&self, file: &str) -> bool {
        self.text
            .strip_prefix("kernel BUG at ")
            .is_some_and(|rest| rest.trim_start_matches("./").starts_with(file))
    }
}

/// Counts of verdicts, by name.
pub fn count_verdicts(reports: &[Report]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for report in reports {
        *counts.entry(report.verdict.clone()).or_insert(0) += 1;
    }
    counts
}

/// The splat that says most: a `BUG()` before an oops before anything else.
pub fn chief_splat(splats: &[Splat]) -> Option<&Splat> {
    splats
        .iter()
        .find(|s| s.is_bug_at(""))
        .or_else(|| splats.first())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn console(text: &str) -> Console {
        let mut console = Console::default();
        for line in text.lines() {
            let stream = if line.starts_with("[ ") || line.starts_with("qemu") {
                Stream::Console
            } else {
                Stream::Script
            };
            console.push(stream, line.to_string());
        }
        console
    }

    const ORDER0: &str = "\
[    0.000000] Linux version 6.12.117 (x@y) (clang) #1 SMP
# ww-lab: start
KTAP version 1
[    5.100000] ww-lab: begin sync
[    5.900000] BUG: wakewatch: unreferenced end of writeback in folio_end_writeback
[    5.900001] report 0 at 5.880000 on CPU 0 in task, task kworker/u9:1 pid 86
[    5.900002] Call Trace:
[    6.000000] ww-lab: end sync 0
[    6.100000] ww-lab: begin order0
[    8.000000] BUG: wakewatch: unreferenced end of writeback in folio_end_writeback
[    8.512345] kernel BUG at fs/ext4/inode.c:2514!
[    8.512346] Oops: invalid opcode: 0000 [#1] PREEMPT SMP
[    8.512347] CPU: 1 UID: 0 PID: 99 Comm: ww-repro
[    8.512348] RIP: 0010:mpage_prepare_extent_to_map+0x3c1/0x4a0
[    8.512349] Call Trace:
[    8.600000] Kernel panic - not syncing: Fatal exception
";

    #[test]
    fn order0() {
        let c = console(ORDER0);
        assert_eq!(c.release(), Some("6.12.117"));
        assert!(c.started());
        assert_eq!(c.ended(), None);
        assert_eq!(
            c.panic().as_deref(),
            Some("Kernel panic - not syncing: Fatal exception")
        );
        let sync = c.section("sync").unwrap();
        assert!(c.splats(sync.clone()).is_empty());
        let reports = c.reports(sync);
        assert_eq!(reports.len(), 1);
        assert_eq!((reports[0].time, reports[0].when()), (5.9, 5.88));
        let section = c.section("order0").unwrap();
        let splats = c.splats(section.clone());
        let bug = chief_splat(&splats).unwrap();
        assert_eq!(bug.time, 8.512345);
        assert!(bug.is_bug_at("fs/ext4/inode.c:"));
        assert_eq!(
            bug.summary(),
            "kernel BUG at fs/ext4/inode.c:2514 in mpage_prepare_extent_to_map()"
        );
        assert!(c.reports(section)[0].at < bug.at);
        assert_eq!(c.section("tail"), None);
        assert_eq!(c.traces(), 4..c.lines.len());
    }

    #[test]
    fn tail() {
        let c = console(
            "[    9.000000] BUG: wakewatch: tail wake of PG_writeback in folio_end_writeback\n\
             [    9.100000] page dumped because: VM_BUG_ON_PAGE(page->compound_head & 1)\n\
             [    9.200000] ------------[ cut here ]------------\n\
             [    9.300000] kernel BUG at ./include/linux/page-flags.h:316!\n",
        );
        let splats = c.splats(c.all());
        assert_eq!(splats.len(), 1);
        assert!(splats[0].is_bug_at("include/linux/page-flags.h:"));
        assert!(splats[0]
            .page_dumped
            .as_deref()
            .unwrap()
            .contains("compound_head & 1"));
        let reports = c.reports(c.all());
        assert_eq!(reports[0].verdict, "tail");
        assert_eq!(
            reports[0].rest,
            "wake of PG_writeback in folio_end_writeback"
        );
    }

    #[test]
    fn script_output_is_never_the_kernels() {
        // A script that prints a kernel log is not one that has a BUG.
        let c = console("BUG: unable to handle page fault\n# ww-lab: start\n# ww-lab: end 3\n");
        assert!(c.splats(c.all()).is_empty());
        assert_eq!(c.ended(), Some(3));
    }

    #[test]
    fn report_text_stops_at_a_splat() {
        let c = console(ORDER0);
        let text = c.report_text();
        assert!(text.contains("Call Trace"));
        assert!(!text.contains("kernel BUG"));
        assert!(!text.contains("ww-lab"));
    }

    #[test]
    fn time_stamps() {
        assert_eq!(split_time("[   12.5] x"), (Some(12.5), "x"));
        assert_eq!(split_time("[   12.5][  T99] x"), (Some(12.5), "x"));
        assert_eq!(split_time("x [1.0]"), (None, "x [1.0]"));
    }
}
