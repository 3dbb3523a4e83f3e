// SPDX-License-Identifier: GPL-2.0

//! What of a console is shown: its beginning and its end, and every finding with what stands around it, as
//! far as there is room. What is left out is said, with its number of lines.

use super::run::Guest;
use std::collections::{BTreeMap, BTreeSet};

/// Lines at the beginning: the kernel's release and its command line.
const FIRST: usize = 6;
const LAST: usize = 40;
/// Of a finding, and before and behind it.
const FINDING: usize = 90;
const AROUND: usize = 3;
/// Characters of a line.
const WIDTH: usize = 300;

#[derive(Debug, PartialEq)]
pub enum Piece {
    Line {
        at: usize,
        text: String,
        source: Option<String>,
        mark: Mark,
    },
    /// So many lines are not shown.
    Cut(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    None,
    /// The first line of a finding, and whose it is.
    Head(&'static str),
    /// Another one.
    Body,
}

/// At most `most` lines, but for the headlines of findings.
pub fn of(guest: &Guest, most: usize) -> Vec<Piece> {
    let lines = &guest.console.lines;
    let marks = marks(guest);
    let mut shown: BTreeSet<usize> = (0..lines.len().min(FIRST)).collect();
    shown.extend(lines.len().saturating_sub(LAST)..lines.len());
    let reports = guest.findings.reports.iter().map(|r| (r.at, &r.lines));
    let splats = guest.findings.splats.iter().map(|s| (s.at, &s.lines));
    let mut findings: Vec<_> = reports.chain(splats).collect();
    findings.sort_unstable();
    for (head, finding) in findings {
        if shown.len() >= most {
            shown.insert(head);
            continue;
        }
        for &at in finding.iter().take(FINDING) {
            shown.extend(at.saturating_sub(AROUND)..(at + AROUND + 1).min(lines.len()));
        }
    }
    let mut pieces = Vec::new();
    let mut next = 0;
    for at in shown {
        if at > next {
            pieces.push(Piece::Cut(at - next));
        }
        let raw = lines[at].text.as_str();
        let decoded = guest.decoded.get(&at);
        pieces.push(Piece::Line {
            at,
            text: shorten(raw),
            source: decoded.and_then(|decoded| super::story::source(raw, decoded)),
            mark: marks.get(&at).cloned().unwrap_or(Mark::None),
        });
        next = at + 1;
    }
    if next < lines.len() {
        pieces.push(Piece::Cut(lines.len() - next));
    }
    pieces
}

fn marks(guest: &Guest) -> BTreeMap<usize, Mark> {
    let mut marks = BTreeMap::new();
    let bodies = guest.findings.reports.iter().map(|r| &r.lines);
    for lines in bodies.chain(guest.findings.splats.iter().map(|s| &s.lines)) {
        marks.extend(lines.iter().map(|at| (*at, Mark::Body)));
    }
    let reports = guest.findings.reports.iter().map(|r| (r.at, "wakewatch"));
    let splats = guest.findings.splats.iter().map(|s| (s.at, "kernel"));
    marks.extend(
        reports
            .chain(splats)
            .map(|(at, whose)| (at, Mark::Head(whose))),
    );
    marks
}

fn shorten(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        None => line.to_string(),
        Some((end, _)) => {
            let rest = line[end..].chars().count();
            format!("{} [{rest} characters more]", &line[..end])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::run::Run;
    use crate::page::samples::Folder;

    fn guest(console: &str) -> Guest {
        let folder = Folder::of_run("excerpt");
        folder.guest("broken-order0", "pass", console, "");
        Run::read(folder.path()).unwrap().guests.remove(0)
    }

    fn shown(pieces: &[Piece]) -> (usize, usize, Vec<&str>) {
        let (mut lines, mut cut, mut heads) = (0, 0, Vec::new());
        for piece in pieces {
            match piece {
                Piece::Cut(n) => cut += n,
                Piece::Line { text, mark, .. } => {
                    lines += 1;
                    if let Mark::Head(_) = mark {
                        heads.push(text.as_str());
                    }
                }
            }
        }
        (lines, cut, heads)
    }

    #[test]
    fn every_line_is_shown_or_counted_and_findings_are_marked() {
        let noise = "[    3.000000] loop: module loaded\n".repeat(500);
        let text = format!("{noise}[    5.0] BUG: wakewatch: tail wake of PG_locked in f\n[    5.0] page x\n{noise}");
        let guest = guest(&text);
        let pieces = of(&guest, 600);
        let (lines, cut, heads) = shown(&pieces);
        assert_eq!(lines + cut, guest.console.lines.len());
        assert_eq!(
            heads,
            ["[    5.0] BUG: wakewatch: tail wake of PG_locked in f"]
        );
        assert!(cut > 800 && lines > FIRST + LAST, "{cut}, {lines}");
    }

    #[test]
    fn a_guest_that_only_reports_is_cut_and_keeps_its_headlines() {
        let report = format!(
            "[    5.0] BUG: wakewatch: tail wake of PG_locked in f\n{}",
            "[    5.0]  a+0x1/0x2\n".repeat(30)
        );
        let guest = guest(&report.repeat(100));
        let pieces = of(&guest, 200);
        let (lines, cut, heads) = shown(&pieces);
        assert_eq!(heads.len(), 100);
        assert!(
            lines < 400 && lines + cut == guest.console.lines.len(),
            "{lines}, {cut}"
        );
    }

    #[test]
    fn a_long_line_says_what_it_lacks() {
        assert_eq!(shorten("short"), "short");
        let long = shorten(&"ä".repeat(WIDTH + 7));
        assert!(long.ends_with("ä [7 characters more]"), "{long}");
    }
}
