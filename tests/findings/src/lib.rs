// SPDX-License-Identifier: GPL-2.0

//! What a kernel's log says was found: wakewatch's reports, and the kernel's own findings.
//!
//! The lab reads its guests' consoles with it, and `ww-repro findings` the log inside a guest, so both
//! mean the same by a finding; by one that nothing is to be concluded from, see [`live`] and [`server`]; and by
//! two that are told of one bug, see [`loss`].

pub mod live;
pub mod loss;
pub mod server;

use regex::{Captures, Regex};
use std::sync::LazyLock;

/// A finding of the kernel itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Splat {
    /// The line, as its reader counts.
    pub at: usize,
    /// Lines of it, from the page that was dumped for it to the end of its trace.
    pub lines: Vec<usize>,
    pub time: f64,
    /// The line without time stamp.
    pub text: String,
    /// Why a page was dumped right before it.
    pub page_dumped: Option<String>,
    /// The function of the RIP line after it.
    pub function: Option<String>,
    /// Of its call trace, what is certain: functions, the innermost first.
    pub callers: Vec<String>,
}

/// A report of wakewatch's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The headline, as its reader counts.
    pub at: usize,
    /// Lines of it, from rule to rule.
    pub lines: Vec<usize>,
    pub time: f64,
    /// When the finding was made, by the report's own word; it is printed a little later,
    /// and on a dying kernel by the panic notifier.
    pub made: Option<f64>,
    pub verdict: String,
    /// The rest of the headline, as "wake of PG_locked in folio_end_read".
    pub rest: String,
    /// Which page, "00000000c571d047 pfn 0x7cf3 pages 1 refcount 3 mapcount 0".
    pub page: Option<String>,
    /// Which file's the page is, "dev 7:0 ino 13 index 0".
    pub file: Option<String>,
    /// The story in one line, `key=value` words.
    pub story: String,
}

/// All that was found, in the order of the log.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub reports: Vec<Report>,
    pub splats: Vec<Splat>,
}

/// Takes the time stamp off a line of the kernel log: `[   12.5] `, perhaps with a caller, `[   12.5][  T99] `.
pub fn split_time(line: &str) -> (Option<f64>, &str) {
    // By hand: it is called for each line of every console, again and again.
    let stamped = || {
        let (time, rest) = line.strip_prefix('[')?.split_once(']')?;
        let time = time.trim_start_matches(' ');
        let (seconds, part) = time.split_once('.')?;
        if !is_number(seconds) || !is_number(part) {
            return None;
        }
        let rest = caller(rest).unwrap_or(rest);
        Some((time.parse().ok(), rest.strip_prefix(' ').unwrap_or(rest)))
    };
    stamped().unwrap_or((None, line))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

/// What is behind `[  T99]` or `[   C1]`.
fn caller(text: &str) -> Option<&str> {
    let (caller, rest) = text.strip_prefix('[')?.split_once(']')?;
    let number = caller.trim_start_matches(' ').strip_prefix(['T', 'C'])?;
    is_number(number).then_some(rest)
}

/// What stands before and after a report.
const RULE: &str = "=====";
const HEADLINE: &str = "BUG: wakewatch: ";
const PANIC: &str = "Kernel panic - not syncing";
/// Of a page's dump, before the finding that it was made for; with page_owner it has stacks.
const DUMP_LINES: usize = 60;

/// With these letters a finding of the kernel's begins.
const SPLAT_BEGINS: [char; 10] = ['B', 'E', 'I', 'K', 'O', 'W', 'g', 'k', 'r', 'w'];

/// Captures of a line that begins so.
fn captures<'a>(regex: &Regex, begin: &str, text: &'a str) -> Option<Captures<'a>> {
    text.starts_with(begin).then(|| regex.captures(text))?
}

/// What a line may belong to, while the log is read.
enum Inside {
    Nothing,
    Report,
    Splat,
}

impl Findings {
    /// Reads a log: lines with their number, time and text.
    pub fn read<'a>(log: impl Iterator<Item = (usize, f64, &'a str)>) -> Self {
        static SPLAT: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(concat!(
                r"^(?:kernel BUG at |BUG: |WARNING: |Oops: |general protection fault",
                r"|watchdog: BUG: |INFO: task .* blocked for more than |INFO: rcu.* detected ",
                r"|rcu: INFO: rcu.* detected |Kernel panic - not syncing",
                r"|EXT4-fs error |Buffer I/O error |I/O error, dev )"
            ))
            .expect("valid")
        });
        static MADE: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^report [0-9]+ at ([0-9]+\.[0-9]+) ").expect("valid"));
        static RIP: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^RIP: [0-9a-f]+:([A-Za-z0-9_.]+)\+0x").expect("valid"));
        static FRAME: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^ ([A-Za-z0-9_.]+)\+0x[0-9a-f]+/0x").expect("valid"));
        let mut all = Self::default();
        let mut inside = Inside::Nothing;
        let mut dumped = None;
        // Lines that belong to a finding whose own line is yet to come: a page's dump, or a rule.
        let mut before: Vec<usize> = Vec::new();
        let mut dump = false;
        for (at, time, text) in log {
            if let Some((verdict, rest)) = text
                .strip_prefix(HEADLINE)
                .and_then(|rest| rest.split_once(' '))
            {
                all.reports.push(Report {
                    at,
                    lines: before.drain(..).chain([at]).collect(),
                    time,
                    verdict: verdict.to_string(),
                    rest: rest.to_string(),
                    ..Report::default()
                });
                inside = Inside::Report;
                dump = false;
                continue;
            }
            // Few lines begin so, and a regex costs far more than a look at one letter.
            if text.starts_with(SPLAT_BEGINS) && SPLAT.is_match(text) {
                all.splats.push(Splat {
                    at,
                    lines: before.drain(..).chain([at]).collect(),
                    time,
                    text: text.to_string(),
                    page_dumped: dumped.take(),
                    ..Splat::default()
                });
                inside = Inside::Splat;
                dump = false;
                continue;
            }
            let rule = text.starts_with(RULE);
            let mut closes = false;
            match (&inside, all.reports.last_mut(), all.splats.last_mut()) {
                (Inside::Report, Some(report), _) => {
                    report.lines.push(at);
                    closes = rule;
                    if let (Some(page), true) = (text.strip_prefix("page "), text.contains(" pfn "))
                    {
                        report.page.get_or_insert_with(|| page.to_string());
                    } else if let Some(file) = text.strip_prefix("file ") {
                        report.file.get_or_insert_with(|| file.to_string());
                    } else if let Some(made) = captures(&MADE, "report ", text) {
                        report.made = report.made.or(made[1].parse().ok());
                    }
                }
                (Inside::Splat, _, Some(splat)) => {
                    splat.lines.push(at);
                    closes = text.starts_with("---[ end trace ");
                    if let Some(frame) = captures(&FRAME, " ", text) {
                        splat.callers.push(frame[1].to_string());
                    }
                }
                _ => {}
            }
            // Whatever another CPU has put between.
            if let (Some(story), Some(report)) = (
                text.strip_prefix("wakewatch: story "),
                all.reports.last_mut(),
            ) {
                report.story = story.to_string();
            }
            if let (Some(rip), Some(splat)) = (captures(&RIP, "RIP: ", text), all.splats.last_mut())
            {
                splat.function.get_or_insert_with(|| rip[1].to_string());
            }
            if closes {
                inside = Inside::Nothing;
                before.clear();
                continue;
            }
            // What comes before a finding's own line, perhaps in the middle of another one.
            if let Some(why) = text.strip_prefix("page dumped because: ") {
                dumped = Some(why.to_string());
            }
            let dump_goes_on = dump && before.len() < DUMP_LINES;
            if text.starts_with("page: refcount:") || rule {
                before = vec![at];
                dump = !rule;
            } else if dump_goes_on || text.contains("---[ cut here ]---") {
                before.push(at);
            } else {
                before.clear();
                dump = false;
            }
        }
        all.forget_cut_short();
        // An oops repeats the BUG's RIP; the BUG itself has none between.
        for i in 1..all.splats.len() {
            if all.splats[i - 1].function.is_none() && all.splats[i].text.starts_with("Oops: ") {
                all.splats[i - 1].function = all.splats[i].function.clone();
            }
        }
        all
    }

    /// A report that a panic cuts short is printed once more, whole, by the panic notifier: one finding, whose
    /// time is told by the second.
    fn forget_cut_short(&mut self) {
        let Some(panic) = (self.splats.iter()).find(|s| s.text.starts_with(PANIC)) else {
            return;
        };
        let after = self.reports.partition_point(|r| r.at < panic.at);
        let (Some(cut), Some(whole)) = (after.checked_sub(1), self.reports.get(after)) else {
            return;
        };
        let begun = &self.reports[cut];
        // All that it had come to say, the other one says too.
        let of_it = begun.page.is_none() || begun.page == whole.page;
        if begun.made.is_none() && begun.headline() == whole.headline() && of_it {
            self.reports.remove(cut);
        }
    }

    /// The same of a text, with or without time stamps. Lines are counted from 0.
    pub fn of_text(text: &str) -> Self {
        Self::read(text.lines().enumerate().map(|(at, line)| {
            let (time, text) = split_time(line);
            (at, time.unwrap_or(0.0), text)
        }))
    }
}

impl Report {
    pub fn when(&self) -> f64 {
        self.made.unwrap_or(self.time)
    }

    /// "zero-ref wake of PG_locked in __read_end_io".
    pub fn headline(&self) -> String {
        format!("{} {}", self.verdict, self.rest)
    }

    /// "wake of PG_locked".
    pub fn event(&self) -> &str {
        self.rest
            .rsplit_once(" in ")
            .map_or(&self.rest, |(event, _)| event)
    }

    /// The caller that the headline names.
    pub fn caller(&self) -> &str {
        self.rest
            .rsplit_once(" in ")
            .map_or("", |(_, caller)| caller)
    }

    /// A word of its story.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.story
            .split(' ')
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Why a finding of the kernel's says nothing about what is tested, whatever that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Excuse {
    /// See [`live`].
    LiveRace,
    /// See [`server`].
    LateServer,
}

impl Splat {
    /// `None` for a finding that is one.
    pub fn excuse(&self) -> Option<Excuse> {
        if self.is_live() {
            Some(Excuse::LiveRace)
        } else if self.is_late_server() {
            Some(Excuse::LateServer)
        } else {
            None
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a guest whose report was being printed when its other CPU panicked.
    const CUT: &str = "\
[   12.827763] ------------[ cut here ]------------
[   12.828230] kernel BUG at fs/ext4/inode.c:2514!
[   12.829544] Oops: invalid opcode: 0000 [#1] SMP
[   12.854242] ==================================================================
[   12.854566] RDX: 0000000000000000 RSI: ffa0000000203700 RDI: ffffffff81e09120
[   12.854978] BUG: wakewatch: reused wake of PG_writeback in ext4_finish_bio
[   12.855987] page 00000000c571d047 pfn 0x7cf3 pages 1 refcount 3 mapcount 0
[   12.856274] FS:  000055557886d440(0000) GS:ff1100003ed00000(0000) knlGS:0000000000000000
[   12.857275] Kernel panic - not syncing: Fatal exception
[   12.860110] ==================================================================
[   12.860500] BUG: wakewatch: reused wake of PG_writeback in ext4_finish_bio
[   12.860961] page 00000000c571d047 pfn 0x7cf3 pages 1 refcount 3 mapcount 0
[   12.861969] report 10 at 12.826410 on CPU 0 in softirq, task ksoftirqd/0 pid 14
[   12.871845] wakewatch: story verdict=reused pfn=0x7cf3
[   12.872953] ==================================================================
";

    #[test]
    fn a_report_cut_short_by_a_panic_is_one_finding() {
        let found = Findings::of_text(CUT);
        assert_eq!(found.reports.len(), 1);
        assert_eq!(found.reports[0].when(), 12.826410);
        assert!(found.reports[0].when() < found.splats[0].time);
        // Cut before it named its page.
        let early = CUT.replacen("page 00000000c571d047", "", 1);
        assert_eq!(Findings::of_text(&early).reports.len(), 1);
        // With no_hash_pointers.
        let plain = CUT.replace("page 00000000c571d047", "page ffea0000001f3cc0");
        assert_eq!(Findings::of_text(&plain).reports.len(), 1);
        let other = plain.replacen("pfn 0x7cf3", "pfn 0x7cf4", 1);
        assert_eq!(Findings::of_text(&other).reports.len(), 2);
        // Another page's, another verdict, one that was whole, or no panic: two findings.
        for (from, to) in [
            ("c571d047", "c571d048"),
            ("reused wake", "zero-ref wake"),
            (
                "FS:  000055557886d440(0000)",
                "report 9 at 12.826400 on CPU 0",
            ),
            ("Kernel panic", "No panic"),
        ] {
            let other = CUT.replacen(from, to, 1);
            assert_eq!(Findings::of_text(&other).reports.len(), 2, "{from}");
        }
    }
}
