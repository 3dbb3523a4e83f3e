// SPDX-License-Identifier: GPL-2.0

//! What a guest's output says: the kernel's own findings, wakewatch's reports, and how
//! far the guest came.

pub use findings::{split_time, Findings, Report, Splat};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// Marks in the guest's output; see `guest::write_entry` and tests/guest/run.sh.
pub const MARK_START: &str = "# ww-lab: start";
pub const MARK_END: &str = "# ww-lab: end ";
/// The same in the kernel's log: the console is to show them.
pub const KMSG_START: &str = "ww-lab: start";
pub const KMSG_END: &str = "ww-lab: end of the script";
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

    pub fn kernel_said_nothing(&self) -> bool {
        self.kernel(self.all()).next().is_none()
    }

    /// Is this line of the lab's in the kernel's log?
    fn marked(&self, mark: &str) -> bool {
        self.kernel(self.all()).any(|(_, _, text)| text == mark)
    }

    /// Where of the script's time the console was heard: at its beginning, and at its end.
    pub fn heard(&self) -> (bool, bool) {
        (self.marked(KMSG_START), self.marked(KMSG_END))
    }

    /// Has the kernel come to running a program?
    pub fn came_to_init(&self) -> bool {
        self.kernel(self.all())
            .any(|(_, _, text)| text.starts_with("Run ") && text.ends_with(" as init process"))
    }

    /// Why it is not the kernel under test that has failed, if it has panicked before the script: it had no
    /// root, no init, an init that ended, or no memory for any of that.
    pub fn never_lived(&self) -> Option<String> {
        // Not of the kernel's own making.
        const OF_INIT: &[&str] = &[
            "Attempted to kill init!",
            "No working init found",
            "Requested init ",
            "Unable to mount root fs",
            "Out of memory",
            "out of memory",
            "System is deadlocked on memory",
        ];
        let panic = self.panic().filter(|_| !self.started())?;
        let what = if !self.came_to_init() {
            "the guest died before its init"
        } else if OF_INIT.iter().any(|part| panic.contains(part)) {
            "the guest's init died before the script"
        } else {
            return None;
        };
        let splats = self.splats(self.all());
        let why = chief_splat(&splats).map_or(panic, |splat| splat.summary());
        // With that in front, the kernel's reader of KTAP (kunit_parser.py) takes it for the end of the results.
        let why = why.trim_start_matches("Kernel panic - not syncing: ");
        Some(format!("{what}: {why}"))
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

    /// What was found, by the kernel and by wakewatch.
    pub fn findings(&self, range: Range<usize>) -> Findings {
        Findings::read(self.kernel(range))
    }

    /// Findings of the kernel, not of wakewatch, in order.
    pub fn splats(&self, range: Range<usize>) -> Vec<Splat> {
        self.findings(range).splats
    }

    pub fn reports(&self, range: Range<usize>) -> Vec<Report> {
        self.findings(range).reports
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

    /// The lines that are worth decoding: those with stacks, from the first of all findings on.
    pub fn traces(&self, findings: &Findings) -> Range<usize> {
        // Each new function costs a search in vmlinux; a guest that reports for a minute
        // repeats itself.
        const MOST: usize = 600;
        let has_stack = self
            .kernel(self.all())
            .any(|(_, _, text)| matches!(text.trim(), "Call Trace:" | "stack:"));
        let splat = findings.splats.first().map(|s| s.at);
        let report = findings.reports.first().map(|r| r.at);
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
        assert_eq!(c.traces(&c.findings(c.all())), 4..c.lines.len());
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
        assert_eq!(split_time("[   12.5][   C1]x"), (Some(12.5), "x"));
        assert_eq!(split_time("[   12.5]"), (Some(12.5), ""));
        assert_eq!(split_time("[   12.5] [x] y"), (Some(12.5), "[x] y"));
        for line in [
            "x [1.0]", "", "[", "[1.0", "[1] x", "[.5] x", "[1.] x", "[ 1.x] y", "[-1.0] x",
        ] {
            assert_eq!(split_time(line), (None, line));
        }
    }
}
