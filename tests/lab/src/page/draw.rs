// SPDX-License-Identifier: GPL-2.0

//! The page itself, of what the other files here have read. Text of a guest's is whatever the guest has said:
//! maud escapes it, and `PreEscaped` is for this project's own style and script alone.

use super::before::{word, Comparison, Way};
use super::excerpt::{self, Mark, Piece};
use super::run::{counted, Guest, Row, Run, Table};
use super::story::{Frame, Story};
use super::timeline::{class, letter, since_clear, timeline};
use crate::debugfs::{by_verdict, length};
use crate::ktap::{Counts, Status};
use maud::{html, Markup, PreEscaped, DOCTYPE};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Lines of consoles in all, and of one: a page that a browser opens at once.
const LINES: usize = 15_000;
const LINES_OF_ONE: usize = 600;
/// Stories in all, and of those of a guest that have a headline and stack in common: one that reports for minutes says
/// the same again and again.
const STORIES: usize = 600;
const STORIES_ALIKE: usize = 50;
/// Rows that are all shown at once.
const FEW: usize = 60;

pub fn page(run: &Run, before: Option<&Comparison>) -> String {
    // No script but the page's own runs, whatever a guest may have got into it.
    let nonce = format!("{:016x}", RandomState::new().build_hasher().finish());
    let policy =
        format!("default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'");
    let counts = counts(run.rows());
    let stories = run.stories().count();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "wakewatch: " (run.name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "wakewatch " (run.verb) ": " (in_words(counts)) }
                    p.dim { (run.name) @for machine in machines(run) { "; " (machine) } }
                    nav aria-label="Parts of this page" {
                        ul {
                            li { a href="#verdicts" { "Verdicts" } }
                            li { a href="#before" { "What differs" } }
                            li { a href="#stories" { "Stories (" (stories) ")" } }
                            li { a href="#windows" { "Windows" } }
                            li { a href="#guests" { "Guests and their consoles (" (run.guests.len()) ")" } }
                        }
                    }
                }
                main {
                    section aria-labelledby="verdicts" { (verdicts(run)) }
                    section aria-labelledby="before" { (differences(before)) }
                    section aria-labelledby="stories" { (stories_of(run)) }
                    section aria-labelledby="windows" { (windows(run)) }
                    section aria-labelledby="guests" { (guests(run)) }
                }
                script nonce=(nonce) { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

fn counts<'a>(rows: impl Iterator<Item = &'a Row>) -> Counts {
    let mut counts = Counts::default();
    rows.filter_map(|row| row.verdict)
        .for_each(|verdict| counts.add(verdict));
    counts
}

fn in_words(counts: Counts) -> String {
    match counts {
        Counts {
            passed: 0,
            failed: 0,
            skipped: 0,
        } => "no verdicts".to_string(),
        Counts {
            passed,
            failed: 0,
            skipped: 0,
        } => format!("all {passed} rows are as they must be"),
        counts => counts.to_string(),
    }
}

/// What it ran on, each once.
fn machines(run: &Run) -> Vec<String> {
    let records = run.guests.iter().map(|guest| &guest.record);
    let mut all: Vec<String> = records
        .map(|r| format!("QEMU {} ({})", r.qemu, r.accel.name()))
        .collect();
    all.sort();
    all.dedup();
    let mut kernels: Vec<&str> = run
        .guests
        .iter()
        .filter_map(|g| g.record.release.as_deref())
        .collect();
    kernels.sort_unstable();
    kernels.dedup();
    all.extend(kernels.iter().map(|release| format!("Linux {release}")));
    all
}

fn verdict(status: Status) -> Markup {
    let class = match status {
        Status::Pass => "ok",
        Status::Fail => "bad",
        Status::Skip => "skip",
    };
    html! { span.verdict.(class) { (word(status)) } }
}

// ------------------------------------------------------------------ verdicts

fn verdicts(run: &Run) -> Markup {
    let many = run.rows().count() > FEW;
    html! {
        h2 id="verdicts" { "Verdicts" }
        @for why in &run.unread { p { strong { "Not shown: " } (why) } }
        @if run.tables.is_empty() {
            p { "This run has left no table: it ended before there was one." }
        }
        @if many { (summary(run)) }
        @for (n, table) in run.tables.iter().enumerate() {
            @let counts = counts(table.rows.iter());
            @if many {
                details id=(format!("t{n}")) open[counts.failed > 0] {
                    summary { strong { (table.caption) } ": " (counts.to_string()) }
                    (rows(run, table))
                }
            } @else {
                (rows(run, table))
            }
        }
        @for page in &run.pages { p { "More of it: " a href=(page) { (page) } } }
        @for (file, text) in &run.printed {
            details {
                summary { "As it was printed: " a href=(file) { (file) } }
                div.scroll tabindex="0" { pre style="white-space: pre" { (text) } }
            }
        }
    }
}

fn summary(run: &Run) -> Markup {
    html! {
        table {
            caption { "In all" }
            thead { tr { th { "part" } th.n { "passed" } th.n { "failed" } th.n { "skipped" } th { "verdict" } } }
            tbody {
                @for (n, table) in run.tables.iter().enumerate() {
                    @let counts = counts(table.rows.iter());
                    tr {
                        th scope="row" { a href=(format!("#t{n}")) { (table.caption) } }
                        td.n { (counts.passed) } td.n { (counts.failed) } td.n { (counts.skipped) }
                        td { (verdict(whole(counts))) }
                    }
                }
            }
        }
    }
}

fn whole(counts: Counts) -> Status {
    match counts {
        Counts { failed: 1.., .. } => Status::Fail,
        Counts { passed: 1.., .. } => Status::Pass,
        _ => Status::Skip,
    }
}

fn rows(run: &Run, table: &Table) -> Markup {
    let judged = table.rows.iter().any(|row| row.verdict.is_some());
    html! {
        table.rows {
            caption { (table.caption) }
            thead { tr {
                @for head in &table.head { th scope="col" { (head) } }
                @if judged { th scope="col" { "verdict" } }
            } }
            tbody {
                @for row in &table.rows {
                    tr {
                        @for (n, cell) in row.cells.iter().enumerate() {
                            td data-head=(table.head.get(n).copied().unwrap_or_default()) {
                                (cell)
                                @if n + 1 == row.cells.len() { (notes(row)) }
                            }
                        }
                        @if judged {
                            td data-head="verdict" {
                                @if let Some(status) = row.verdict { (verdict(status)) }
                                @if let Some(guest) = guest_link(run, row) { " " (guest) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What a failed row has to say may be the last lines of a console.
fn notes(row: &Row) -> Markup {
    const MANY: usize = 4;
    let list = |notes: &[String]| html! { ul.notes { @for note in notes { li { (note) } } } };
    match row.notes.len() {
        0 => html! {},
        n if n <= MANY => list(&row.notes),
        n => html! {
            (list(&row.notes[..MANY - 1]))
            details { summary { (n + 1 - MANY) " more lines" } (list(&row.notes[MANY - 1..])) }
        },
    }
}

fn guest_link(run: &Run, row: &Row) -> Option<Markup> {
    let n = run
        .guests
        .iter()
        .position(|guest| Some(&guest.name) == row.guest.as_ref())?;
    Some(html! { a href=(format!("#g{n}")) { (run.guests[n].name) } })
}

// ------------------------------------------------------------------ what differs

fn differences(before: Option<&Comparison>) -> Markup {
    let Some(before) = before else {
        return html! {
            h2 id="before" { "What differs from the run before" }
            p { "There is no run of the same verb before this one." }
        };
    };
    html! {
        h2 id="before" { "What differs from the run before" }
        p.dim { "The run before: " (before.name) "." }
        @if before.differences.is_empty() {
            p { "Nothing: " (before.rows) " rows of both say the same." }
        } @else {
            table.rows {
                thead { tr { th scope="col" { "" } th scope="col" { "what" } th scope="col" { "before" } th scope="col" { "now" } } }
                tbody {
                    @for difference in &before.differences {
                        tr {
                            td data-head="" { (way(difference.way)) }
                            th scope="row" { (difference.what) }
                            td data-head="before" { (difference.before) }
                            td data-head="now" { (difference.now) }
                        }
                    }
                }
            }
        }
        @if before.other_numbers > 0 {
            p.dim { (before.other_numbers) " rows differ in their numbers alone: how often something came, and when." }
        }
    }
}

fn way(way: Way) -> Markup {
    match way {
        Way::Worse => html! { span.verdict.bad { "worse" } },
        Way::Better => html! { span.verdict.ok { "better" } },
        Way::Other => html! { span.verdict { "other" } },
    }
}

// ------------------------------------------------------------------ stories

/// As many of `n` as are left, which they are no more.
fn take(left: &mut usize, n: usize) -> usize {
    let some = n.min(*left);
    *left -= some;
    some
}

fn stories_of(run: &Run) -> Markup {
    let mut left = STORIES;
    html! {
        h2 id="stories" { "Stories" }
        @if run.stories().next().is_none() {
            p { "wakewatch has reported nothing." }
        } @else {
            p.dim {
                "Time goes down, to scale, from the clear of the page's bit. The thick line is the window: who clears has yet to wake. "
                "A click on an event leads to its stack."
            }
            ul.legend { @for (letter, class, what) in LEGEND { li { b.letter.(class) { (letter) } " " (what) } } }
        }
        @for (n, guest) in run.guests.iter().enumerate() {
            @if !guest.stories.is_empty() {
                h3 { "In " a href=(format!("#g{n}")) { (guest.name) } }
                @for kind in kinds(&guest.stories) {
                    @let shown = take(&mut left, kind.len().min(STORIES_ALIKE));
                    @let cut = kind.len() - shown;
                    @if let Some((first, others)) = kind[..shown].split_first() {
                        (story(n, *first, guest))
                        @if !others.is_empty() {
                            details {
                                summary { (others.len()) " more with this headline and stack" }
                                @for other in others { (story(n, *other, guest)) }
                            }
                        }
                    }
                    @if cut > 0 {
                        p { strong { (cut) " more" } " of " (kind[0].1.headline) " are not drawn; they are in "
                            a href=(format!("{}/reports", guest.name)) { (guest.name) "/reports" } "." }
                    }
                }
            }
        }
    }
}

const LEGEND: [(&str, &str, &str); 6] = [
    ("C", "clear", "clear"),
    ("F", "freed", "freed"),
    ("A", "allocated", "allocated"),
    ("S", "started", "writeback started"),
    ("W", "wake", "wake"),
    (
        "V",
        "victim",
        "victim, woken by it on a CPU that is not told",
    ),
];

/// Stories with the same headline and stack together, in the order of the first of each, with their numbers.
fn kinds(stories: &[Story]) -> Vec<Vec<(usize, &Story)>> {
    let mut order: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    let mut kinds: Vec<Vec<(usize, &Story)>> = Vec::new();
    for (n, story) in stories.iter().enumerate() {
        let at = *order.entry(story.kind()).or_insert(kinds.len());
        if at == kinds.len() {
            kinds.push(Vec::new());
        }
        kinds[at].push((n, story));
    }
    kinds
}

fn story(guest: usize, (n, story): (usize, &Story), of: &Guest) -> Markup {
    let id = format!("s{guest}-{n}");
    html! {
        article aria-labelledby=(id) {
            h4 id=(id) { (story.headline) }
            div.told {
                (timeline(&id, story))
                div.words {
                    (events(&id, story))
                    @for note in &story.notes { p { (note) } }
                    pre { @for fact in &story.facts { (fact) "\n" } }
                    @if story.events.is_empty() && !story.stack.is_empty() {
                        details { summary { "stack" } (stack(&format!("{id}e0"), &story.stack)) }
                    }
                    @match story.at {
                        Some(at) => a href=(format!("#g{guest}l{at}")) { "on the console of " (of.name) },
                        None => small { "not on the console, but in " (of.name) "/reports" },
                    }
                }
            }
        }
    }
}

/// The same in words.
fn events(id: &str, story: &Story) -> Markup {
    html! {
        @if !story.events.is_empty() {
            ol.events {
                @for (n, event) in story.events.iter().enumerate() {
                    @let who = &event.who;
                    @let told = html! {
                        b.letter.(class(event.what)) aria-hidden="true" { (letter(event.what)) } " "
                        (since_clear(event.ns)) " " strong { (event.what.word()) } " on CPU " (who.cpu) " in " (who.context)
                        ", task " (who.task) " pid " (who.pid)
                    };
                    li {
                        @if event.stack.is_empty() { span id=(format!("{id}e{n}")) { (told) } }
                        @else { details { summary { (told) } (stack(&format!("{id}e{n}"), &event.stack)) } }
                    }
                }
                @if story.victims_in_all > 0 {
                    li id=(format!("{id}v")) {
                        b.letter.victim aria-hidden="true" { "V" } " "
                        @for (n, victim) in story.victims.iter().enumerate() {
                            @if n > 0 { "; " }
                            strong { "victim" } " task " (victim.task) " pid " (victim.pid) " waits for " (victim.bit)
                        }
                        @if story.victims_in_all > story.victims.len() {
                            " (" (story.victims_in_all) " in all)"
                        }
                    }
                }
            }
        }
    }
}

fn stack(id: &str, frames: &[Frame]) -> Markup {
    html! {
        ol.stack id=(id) {
            @for frame in frames {
                li {
                    span.symbol { (frame.symbol) }
                    @if let Some(source) = &frame.source { " " span.symbol.source { (source) } }
                }
            }
        }
    }
}

// ------------------------------------------------------------------ windows

fn windows(run: &Run) -> Markup {
    let has = run.guests.iter().any(|guest| !guest.windows.is_empty());
    html! {
        h2 id="windows" { "Windows" }
        @if !has {
            p { "No guest of this run has left a file of its windows." }
        } @else {
            p.dim { "How long windows were that a wake has ended, from the clear to the wake, by who has cleared. The scale of the bars is logarithmic." }
        }
        @for guest in run.guests.iter().filter(|guest| !guest.windows.is_empty()) {
            @let windows: usize = guest.windows.values().map(BTreeMap::len).sum();
            details open[windows <= FEW / 10] {
                summary { strong { (guest.name) } ": " (windows) " call sites" }
                @for (script, sites) in &guest.windows {
                    @for ((site, caller), counts) in sites { (histogram(&format!("{script}: {site} in {caller}"), counts)) }
                }
            }
        }
    }
}

fn histogram(caption: &str, counts: &BTreeMap<u32, u64>) -> Markup {
    let most = counts.values().max().copied().unwrap_or(1);
    let (first, last) = (
        counts.keys().min().copied().unwrap_or(0),
        counts.keys().max().copied().unwrap_or(0),
    );
    let sum: u64 = counts.values().sum();
    html! {
        table.windows {
            caption { (caption) ", " (sum) " windows" }
            thead { tr { th.n scope="col" { "at least" } th scope="col" { "" } th.n scope="col" { "windows" } } }
            tbody {
                @for power in first..=last {
                    @let n = counts.get(&power).copied().unwrap_or(0);
                    tr {
                        th.n scope="row" { (length(power)) }
                        td.bars { @if n > 0 { span.bar style=(format!("width:{:.1}%", log_share(n, most))) {} } }
                        td.n { (n) }
                    }
                }
            }
        }
    }
}

/// Of 100 for the most, by the number's logarithm; a single one is still to be seen.
fn log_share(n: u64, most: u64) -> f64 {
    100.0 * ((n + 1) as f64).ln() / ((most + 1) as f64).ln()
}

// ------------------------------------------------------------------ guests

fn guests(run: &Run) -> Markup {
    let each = LINES_OF_ONE.min(LINES / run.guests.len().max(1));
    html! {
        h2 id="guests" { "Guests and their consoles" }
        @if run.guests.is_empty() { p { "No guest of this run has come to its result." } }
        @for (n, guest) in run.guests.iter().enumerate() { (one_guest(n, guest, each)) }
    }
}

fn one_guest(n: usize, guest: &Guest, most: usize) -> Markup {
    let record = &guest.record;
    let found = counted(record);
    html! {
        article aria-labelledby=(format!("g{n}")) {
            h3 id=(format!("g{n}")) { (guest.name) }
            p {
                "Kernel " (record.kernel) @if let Some(release) = &record.release { " (" (release) ")" }
                ", " (record.memory) ": " strong { (record.outcome.to_string()) } ", " (record.why) ". "
                "Its kernel said: " (record.kernel_said.as_deref().unwrap_or("nothing")) ". "
                "wakewatch found: " @if found.is_empty() { "nothing" } @else { (by_verdict(&found)) } "."
                @for why in &record.retries { " Booted twice: " (why) "." }
            }
            p.dim { a href=(format!("{}/", guest.name)) { "all files of this guest" } }
            details.log {
                summary { "Console, " (guest.console.lines.len()) " lines" }
                div.console { @for piece in excerpt::of(guest, most) { (line(n, guest, piece)) } }
            }
        }
    }
}

fn line(n: usize, guest: &Guest, piece: Piece) -> Markup {
    match piece {
        Piece::Cut(lines) => html! {
            div.cut { (lines) " lines are left out here; all are in " a href=(format!("{}/console.log", guest.name)) { "console.log" } }
        },
        Piece::Line {
            at,
            text,
            source,
            mark,
        } => {
            let source =
                html! { @if let Some(source) = source { span.source { " (" (source) ")" } } };
            match mark {
                Mark::None => html! { div { (text) (source) } },
                Mark::Body => html! { div.body { (text) (source) } },
                Mark::Head(whose) => html! {
                    div.head id=(format!("g{n}l{at}")) { span.whose { "finding, " (whose) } (text) (source) }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::samples::Folder;

    fn drawn(folder: &Folder) -> String {
        page(&Run::read(folder.path()).unwrap(), None)
    }

    #[test]
    fn a_guests_words_are_words() {
        let html = drawn(&Folder::of_run("words"));
        assert!(
            html.contains("&lt;script&gt;document.title = 'taken'&lt;/script&gt;"),
            "{html}"
        );
        assert!(html.contains("&lt;img src=x onerror=&quot;"));
        assert!(html.contains("&lt;script&gt;a&lt;/script&gt;"));
        // The page's own, and no other one.
        assert_eq!(html.matches("<script").count(), 1);
        assert_eq!(html.matches("<img").count(), 0);
        assert_eq!(html.matches("</style").count(), 1);
    }

    #[test]
    fn needs_no_other_file_and_no_network() {
        let html = drawn(&Folder::of_run("alone"));
        for word in [
            "http:", "https:", "//cdn", " src=", "@import", "url(", "<link",
        ] {
            // What a guest says may have them, as text.
            let own = html.replace("&lt;img src=x", "");
            assert!(!own.contains(word), "{word}");
        }
        let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-";
        assert!(html.contains(policy));
    }

    #[test]
    fn has_all_that_was_seen() {
        let html = drawn(&Folder::of_run("all"));
        for part in [
            "reused wake of PG_writeback in ext4_finish_bio",
            ">CPU 0<",
            ">CPU 1<",
            ">woken<",
            "freed at +2.637 ms on CPU 1 in task",
            "order0: end_writeback in ext4_finish_bio+0x19b/0x290, 9 windows",
            "There is no run of the same verb before this one.",
            "finding, wakewatch",
        ] {
            assert!(html.contains(part), "{part}");
        }
        // Every link within the page leads to something, and nothing is there twice.
        let ids: Vec<&str> = html
            .split(" id=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let targets = html
            .split("href=\"#")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        for target in targets {
            assert_eq!(
                ids.iter().filter(|id| **id == target).count(),
                1,
                "{target}"
            );
        }
    }

    #[test]
    fn stories_alike_stand_together_and_too_many_are_told() {
        let folder = Folder::of_run("many");
        let report = "[    5.0] BUG: wakewatch: tail wake of PG_locked in f\n[    5.0] =====\n";
        folder.guest("loud", "pass", &report.repeat(STORIES_ALIKE + 5), "");
        let html = drawn(&folder);
        let cut = "<strong>5 more</strong> of tail wake of PG_locked in f are not drawn";
        assert!(html.contains(cut), "{}", html.len());
        let alike = format!("{} more with this headline and stack", STORIES_ALIKE - 1);
        assert!(html.contains(&alike));
    }
}
