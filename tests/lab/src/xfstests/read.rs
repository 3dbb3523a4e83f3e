// SPDX-License-Identifier: GPL-2.0

//! What the folder of a test says: check's own word, and wakewatch's beside it.

use super::saved::{Mark, Row, Verdict};
use crate::console::{Console, Findings, Stream};
use crate::debugfs::{self, by_verdict, Snapshot};
use crate::live::without_live;
use anyhow::{bail, Result};
use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What has come to it between two snapshots.
pub(super) fn verdict(before: &Snapshot, after: &Snapshot) -> Verdict {
    let grown = |name: &str| after.stat(name).saturating_sub(before.stat(name));
    // An end of a read without a reference is what every kernel does.
    let sites = after.callers.iter().filter(|(place, (_, none))| {
        place.0 == "end_writeback"
            && *none > before.callers.get(*place).map_or(0, |(_, before)| *before)
    });
    let longest = after.windows.iter().flat_map(|(place, counts)| {
        let old = before.windows.get(place);
        counts
            .iter()
            .filter(move |(power, n)| {
                **n > old.and_then(|old| old.get(power)).copied().unwrap_or(0)
            })
            .map(|(power, _)| *power)
    });
    let missed = after
        .stats
        .keys()
        .filter(|name| name.starts_with("missed_"));
    Verdict {
        findings: debugfs::findings(grown),
        unreferenced_sites: sites.count() as u64,
        windows: grown("windows_opened"),
        longest: longest.max(),
        missed: missed.map(|name| grown(name)).sum(),
    }
}

/// The first test case of an xunit file: nothing if it passed.
pub(super) fn xunit(text: &str) -> Result<Option<(Mark, String)>> {
    let mut reader = Reader::from_str(text);
    let mut seen = false;
    loop {
        match reader.read_event()? {
            Event::Eof if seen => return Ok(None),
            Event::Eof => bail!("no test case in it"),
            Event::Start(tag) | Event::Empty(tag) => {
                let mark = match tag.name().as_ref() {
                    b"testcase" => {
                        seen = true;
                        continue;
                    }
                    b"failure" => Mark::Fail,
                    b"skipped" => Mark::NotRun,
                    _ => continue,
                };
                let message = match tag.try_get_attribute("message")? {
                    Some(message) => message
                        .normalized_value(XmlVersion::Implicit1_0)?
                        .trim()
                        .to_string(),
                    None => String::new(),
                };
                return Ok(Some((mark, message)));
            }
            _ => {}
        }
    }
}

/// What check says is about its own folders.
pub(super) fn tidy(message: &str) -> String {
    let text = message.replace("/ww-results/", "");
    text.trim_start_matches(['-', ' ']).to_string()
}

/// What the folder of a test says, of a guest that has come to its end or not; nothing if the test was
/// not begun.
pub(super) fn row(
    dir: &Path,
    test: &str,
    limit: u64,
    guest: &str,
    console: &Console,
) -> Option<Row> {
    if !dir.is_dir() {
        return None;
    }
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let (mark, why) = if let Some(had) = read("limit") {
        cut_off(had.trim(), limit)
    } else if let Some(status) = read("done") {
        judge(status.trim(), read("result.xml"), read("check.out"))
    } else {
        (Mark::Died, guest.to_string())
    };
    let before = Snapshot::read(&dir.join("before"));
    let all = console.findings(section(console, test));
    let left = all.clone().others();
    let wakewatch = match (before, Snapshot::read(&dir.join("after"))) {
        (Some(before), Some(after)) => {
            let mut verdict = verdict(&before, &after);
            verdict.findings = without_live(verdict.findings, &all);
            Some(verdict)
        }
        // All that there is of a guest that died is on its console.
        (Some(_), None) => Some(Verdict {
            findings: crate::console::count_verdicts(&left.reports),
            ..Verdict::default()
        }),
        _ => None,
    };
    let why = backed(mark, tidy(&why), dir.join("full").exists());
    let (mark, why) = match only_live(mark, &why, &all, &left) {
        Some(why) => (Mark::Pass, why),
        None => (mark, why),
    };
    let (mark, why) = both(mark, why, wakewatch.as_ref());
    Some(Row {
        test: test.to_string(),
        mark,
        why: tidy(&why),
        seconds: read("seconds").and_then(|text| text.trim().parse().ok()),
        cpu: cpu(console, test),
        wakewatch,
    })
}

/// A test that had so many seconds. Less than its limit is what was left of the time for all of them, which is
/// not its fault.
pub(super) fn cut_off(had: &str, limit: u64) -> (Mark, String) {
    match had.parse::<u64>() {
        Ok(s) if s < limit => {
            let why = format!("the time for all of them was over, {s} s after it began");
            (Mark::NotReached, why)
        }
        _ => (Mark::Hung, format!("did not end within {had} s")),
    }
}

/// By check's exit status, its xunit file and its output.
pub(super) fn judge(status: &str, xml: Option<String>, out: Option<String>) -> (Mark, String) {
    let last = |out: Option<String>| {
        let out = out.unwrap_or_default();
        let line = out.lines().rev().find(|line| !line.trim().is_empty());
        line.unwrap_or("it said nothing").trim().to_string()
    };
    match xml.as_deref().map(xunit) {
        None => (
            Mark::Fail,
            format!("check ended with status {status}: {}", last(out)),
        ),
        Some(Err(err)) => (Mark::Fail, format!("result.xml can't be read: {err}")),
        Some(Ok(Some(found))) => found,
        Some(Ok(None)) if status == "0" => (Mark::Pass, String::new()),
        Some(Ok(None)) => (
            Mark::Fail,
            format!("check ended with status {status}: {}", last(out)),
        ),
    }
}

/// A finding fails its test also where check does not see it: it reads the log from the test's own start
/// on, and by then it has made and mounted a file system; and `report_limit` may have held it back.
pub(super) fn both(mark: Mark, why: String, wakewatch: Option<&Verdict>) -> (Mark, String) {
    match wakewatch {
        Some(w) if mark == Mark::Pass && w.reports() > 0 => {
            let why = format!(
                "wakewatch has found {}, and not where check looks",
                by_verdict(&w.findings)
            );
            (Mark::Fail, why)
        }
        _ => (mark, why),
    }
}

/// The devices are sparse files on shmem, and that was full: a test that fails then has most likely failed of it.
fn backed(mark: Mark, why: String, full: bool) -> String {
    match full && mark != Mark::Pass {
        true => format!("the shmem behind its devices was full; {why}"),
        false => why,
    }
}

/// check fails a test for whatever it sees in the log. Nothing but the live read race there is no failure.
pub(super) fn only_live(mark: Mark, why: &str, all: &Findings, left: &Findings) -> Option<String> {
    let live = (all.reports.len() + all.splats.len()) - (left.reports.len() + left.splats.len());
    let clean = left.reports.is_empty() && left.splats.is_empty();
    (mark == Mark::Fail && why.contains("dmesg") && clean && live > 0).then(|| {
        format!("{live} of the live read race in the log, which check takes for a failure")
    })
}

/// The lines of a console from the beginning of a test to that of the next.
pub(super) fn section(console: &Console, test: &str) -> std::ops::Range<usize> {
    const MARK: &str = "ww-lab: test ";
    let mark = format!("{MARK}{test}");
    let mut lines = console.lines.iter();
    let end = console.lines.len();
    let Some(at) = lines.rposition(|line| line.text.trim_end().ends_with(&mark)) else {
        return end..end;
    };
    let next = console.lines[at + 1..]
        .iter()
        .position(|line| line.text.contains(MARK));
    at..next.map_or(end, |n| at + 1 + n)
}

/// From the script's line before a test to the one after it.
pub(super) fn cpu(console: &Console, test: &str) -> Option<f64> {
    let lines = console.lines.iter();
    let mut script = lines.filter(|line| line.stream == Stream::Script);
    let begin = format!("# run {test}");
    let before = script.find(|line| line.text == begin)?.cpu?;
    let after = script.next()?.cpu?;
    Some(after.checked_sub(before)?.as_secs_f64())
}

/// Names and reasons of the exclude file.
pub(super) fn excludes(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .map(|(name, why)| (name.to_string(), why.trim().to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debugfs::length;
    use std::time::Duration;

    const BEFORE: &str = "\
== stats
end_writeback: 10
unreferenced: 0
windows_opened: 100
missed_wake: 1
missed_end_writeback: 0
== callers
site=end_writeback calls=96 none=0 spare_min=1 spare_max=2 verdict=held caller=ext4_finish_bio+0x19b/0x290
== windows
site=end_writeback caller=ext4_finish_bio+0x19b/0x290 n=9 16:7 20:2
table open=3 freed=0 room=1024
";
    const AFTER: &str = "\
== stats
end_writeback: 30
unreferenced: 4
zero_ref: 1
windows_opened: 150
missed_wake: 3
missed_end_writeback: 1
== callers
site=end_writeback calls=98 none=0 spare_min=1 spare_max=2 verdict=held caller=ext4_finish_bio+0x19b/0x290
site=end_writeback calls=4 none=4 spare_min=0 spare_max=0 verdict=unreferenced caller=iomap_finish_ioend+0x1/0x2
site=end_read calls=9 none=5 spare_min=0 spare_max=1 verdict=unreferenced caller=__read_end_io+0x8c/0x130
== windows
site=end_writeback caller=ext4_finish_bio+0x19b/0x290 n=10 16:7 17:1 20:2
table open=3 freed=0 room=1024
";

    #[test]
    fn a_verdict_is_what_has_come_to_it() {
        let (before, after) = (Snapshot::parse(BEFORE), Snapshot::parse(AFTER));
        let w = verdict(&before, &after);
        assert_eq!(w.reports(), 5);
        assert_eq!(by_verdict(&w.findings), "unreferenced 4, zero-ref 1");
        assert_eq!((w.unreferenced_sites, w.windows, w.missed), (1, 50, 3));
        // The two of 2^20 were there before.
        assert_eq!(w.longest, Some(17));
        assert_eq!(length(17), "131 us");
        let same = verdict(&after, &after);
        assert_eq!(same, Verdict::default());
    }

    #[test]
    fn xunit_is_read() {
        let file = |inner: &str| {
            format!("<?xml version=\"1.0\"?>\n<testsuite name=\"xfstests\"><properties><property name=\"A\" value=\"b\"/></properties>\n<testcase classname=\"xfstests.global\" name=\"generic/029\" time=\"4\">{inner}</testcase></testsuite>")
        };
        assert_eq!(xunit(&file("")).unwrap(), None);
        let bad = "<failure message=\"- output &lt;mismatch&gt;\" type=\"TestFail\" /><system-err><![CDATA[<x>]]></system-err>";
        let (mark, why) = xunit(&file(bad)).unwrap().unwrap();
        assert_eq!((mark, why.as_str()), (Mark::Fail, "- output <mismatch>"));
        let skip = "<skipped message=\"no quota\" />";
        assert_eq!(xunit(&file(skip)).unwrap().unwrap().0, Mark::NotRun);
        assert!(xunit("<testsuite></testsuite>").is_err());
        assert!(xunit("<testsuite><a></b>").is_err());
    }

    #[test]
    fn a_test_without_a_word_has_failed() {
        let xml = "<testsuite><testcase name=\"a\" time=\"1\"></testcase></testsuite>".to_string();
        let judged = |status: &str, xml| judge(status, xml, Some("x\nno mkfs\n\n".to_string()));
        assert_eq!(judged("0", Some(xml.clone())).0, Mark::Pass);
        assert_eq!(judged("1", Some(xml)).0, Mark::Fail);
        let (mark, why) = judged("0", None);
        assert_eq!(mark, Mark::Fail);
        assert!(why.ends_with("no mkfs"));
        assert_eq!(judged("0", Some("<a".to_string())).0, Mark::Fail);
    }

    #[test]
    fn cpu_time_is_from_the_line_before_to_the_line_after() {
        let mut console = Console::default();
        for (stream, text, ms) in [
            (Stream::Script, "# run generic/029", 5000),
            (Stream::Console, "[    1.0] run fstests", 0),
            (Stream::Script, "#   9.9 s", 7500),
            (Stream::Script, "ok 1 generic/029", 9000),
            (Stream::Script, "# run generic/030", 9100),
        ] {
            console.push(stream, text.to_string());
            console.lines.last_mut().unwrap().cpu = Some(Duration::from_millis(ms));
        }
        assert_eq!(cpu(&console, "generic/029"), Some(2.5));
        // The guest has died in it.
        assert_eq!(cpu(&console, "generic/030"), None);
        assert_eq!(cpu(&console, "generic/031"), None);
    }

    #[test]
    fn who_has_no_time_left_does_not_hang() {
        assert_eq!(cut_off("600", 600).0, Mark::Hung);
        assert_eq!(cut_off("", 600).0, Mark::Hung);
        assert_eq!(cut_off("599", 600).0, Mark::NotReached);
    }

    #[test]
    fn a_finding_fails_its_test() {
        let found = Verdict {
            findings: [("tail".to_string(), 2)].into(),
            ..Verdict::default()
        };
        let pass = |w: Option<&Verdict>| both(Mark::Pass, String::new(), w).0;
        assert_eq!(pass(None), Mark::Pass);
        assert_eq!(pass(Some(&Verdict::default())), Mark::Pass);
        let (mark, why) = both(Mark::Pass, String::new(), Some(&found));
        assert!(mark == Mark::Fail && why.contains("tail 2"));
        // What check says of it goes first.
        let why = both(Mark::Fail, "x".to_string(), Some(&found)).1;
        assert_eq!(why, "x");
    }

    #[test]
    fn exclusions_have_reasons() {
        let found = excludes("# x y\n\ngeneric/476  too long for it\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found["generic/476"], "too long for it");
    }
}
