// SPDX-License-Identifier: GPL-2.0

//! A report of wakewatch's as data: what happened to the page, when, on which CPU, and by whom.
//! `rust/story.rs` writes what is read here, README.md says what it means.

use findings::{split_time, Report};

/// What happened to the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Clear,
    Freed,
    Allocated,
    Started,
    Wake,
}

/// In the words of a report.
const WORDS: [(&str, What); 5] = [
    ("clear", What::Clear),
    ("freed", What::Freed),
    ("allocated", What::Allocated),
    ("writeback started", What::Started),
    ("wake", What::Wake),
];

impl What {
    pub fn word(self) -> &'static str {
        let mut words = WORDS.iter();
        words
            .find_map(|(word, what)| (*what == self).then_some(*word))
            .unwrap_or_default()
    }
}

/// A line of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub symbol: String,
    /// `file:line`, and what that was inlined into.
    pub source: Option<String>,
}

impl Frame {
    pub fn function(&self) -> &str {
        self.symbol.split('+').next().unwrap_or_default()
    }
}

/// Where and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub cpu: u32,
    /// task, softirq, hardirq or nmi
    pub context: String,
    pub task: String,
    pub pid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub what: What,
    /// Since the clear; it may have been before it.
    pub ns: i64,
    pub who: Who,
    /// The innermost first: the caller alone for the clear, the report's own stack for the wake.
    pub stack: Vec<Frame>,
}

/// A task that was woken. A report does not say on which CPU it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    pub task: String,
    pub pid: u32,
    pub bit: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// "reused wake of PG_writeback in ext4_finish_bio"
    pub headline: String,
    pub verdict: String,
    /// `report 10 at 8.636176`, which no other report of its guest begins with, unless the module was
    /// loaded again.
    pub number: String,
    /// Lines about the page as it was judged.
    pub facts: Vec<String>,
    /// In the order of time; empty where the verdict is by something else.
    pub events: Vec<Event>,
    /// What the story says besides.
    pub notes: Vec<String>,
    pub victims: Vec<Victim>,
    /// With those that have no line.
    pub victims_in_all: usize,
    /// Of who has ended writeback, woken or started.
    pub stack: Vec<Frame>,
    /// The headline's line of the console, if it is there.
    pub at: Option<usize>,
}

/// Which part of a report a line is in.
enum Part {
    Facts,
    Story,
    Stack,
}

impl Story {
    /// Of a report; `line` has a line as it was printed, and the same with sources behind its symbols, if
    /// there is that.
    pub fn read<'a>(report: &Report, line: impl Fn(usize) -> (&'a str, Option<&'a str>)) -> Self {
        let mut story = Self {
            headline: report.headline(),
            verdict: report.verdict.clone(),
            at: Some(report.at),
            ..Self::default()
        };
        let mut part = Part::Facts;
        let rest = report.lines.iter().filter(|at| **at > report.at);
        for &at in rest {
            let (raw, decoded) = line(at);
            let text = split_time(raw).1;
            let source = decoded.and_then(|decoded| source(raw, decoded));
            if text == "story:" {
                part = Part::Story;
            } else if text == "stack:" {
                part = Part::Stack;
            } else if let Some(victim) = text.strip_prefix("victim task ") {
                part = Part::Facts;
                story.victims.extend(Victim::parse(victim));
            } else if let Some(n) = text.strip_prefix("victims ") {
                story.victims_in_all = n.parse().unwrap_or(0);
            } else if !text.starts_with("=====") && !text.starts_with("wakewatch: story ") {
                story.take(&part, text, source);
            }
        }
        story.victims_in_all = story.victims_in_all.max(story.victims.len());
        let stack = story.stack.clone();
        for wake in story.events.iter_mut().filter(|e| e.what == What::Wake) {
            wake.stack = stack.clone();
        }
        story.events.sort_by_key(|event| event.ns);
        story
    }

    /// A line of no special meaning.
    fn take(&mut self, part: &Part, text: &str, source: Option<String>) {
        match part {
            Part::Facts if text.trim().is_empty() => {}
            Part::Facts => {
                if let Some((number, _)) = text.split_once(" on CPU ") {
                    if number.starts_with("report ") && self.number.is_empty() {
                        self.number = number.to_string();
                    }
                }
                self.facts.push(text.to_string());
            }
            Part::Story => match (Event::parse(text, &source), Frame::parse(text, source)) {
                (Some(event), _) => self.events.push(event),
                (None, Some(frame)) => {
                    if let Some(event) = self.events.last_mut() {
                        event.stack.push(frame);
                    }
                }
                (None, None) => self.notes.push(text.trim().to_string()),
            },
            Part::Stack => self.stack.extend(Frame::parse(text, source)),
        }
    }

    /// What reports have in common that say the same.
    pub fn kind(&self) -> Vec<&str> {
        let stack = self.stack.iter().map(Frame::function);
        std::iter::once(self.headline.as_str())
            .chain(stack)
            .collect()
    }

    /// CPUs that have a part in it, in their order.
    pub fn cpus(&self) -> Vec<u32> {
        let mut cpus: Vec<u32> = self.events.iter().map(|event| event.who.cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }
}

/// What a decoded line has behind the line itself: `(mm/filemap.c:12 mm/filemap.c:34)`.
pub fn source(raw: &str, decoded: &str) -> Option<String> {
    let rest = decoded.strip_prefix(raw.trim_end())?;
    let rest = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(rest.to_string())
}

impl Frame {
    /// ` folio_wake_bit+0x5/0xe0`, perhaps of a module; or an address without a name.
    fn parse(text: &str, source: Option<String>) -> Option<Self> {
        let symbol = text.strip_prefix(' ')?.trim();
        let first = symbol.split(' ').next()?;
        let known = first.contains("+0x") && first.contains("/0x");
        (known || first.starts_with("0x")).then(|| Self {
            symbol: symbol.to_string(),
            source,
        })
    }
}

impl Event {
    /// ` +0.179 ms freed on CPU 1 in task, task ww-repro pid 117`, the clear with `, by CALLER`.
    fn parse(text: &str, source: &Option<String>) -> Option<Self> {
        let (ms, rest) = text.trim_start().split_once(" ms ")?;
        let ns = nanoseconds(ms)?;
        let (word, rest) = rest.split_once(" on CPU ")?;
        let what = WORDS.iter().find(|(name, _)| *name == word)?.1;
        // Whatever a task calls itself, what comes behind its name has no space in it.
        let (rest, caller) = match (what, rest.rsplit_once(", by ")) {
            (What::Clear, Some((rest, caller))) => (rest, Some(caller)),
            _ => (rest, None),
        };
        let stack = caller.map(|caller| Frame {
            symbol: caller.to_string(),
            source: source.clone(),
        });
        Some(Self {
            what,
            ns,
            who: Who::parse(rest)?,
            stack: stack.into_iter().collect(),
        })
    }
}

/// `+101.196`, `-0.002`
fn nanoseconds(ms: &str) -> Option<i64> {
    let sign = match ms.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let (whole, part) = ms[1..].split_once('.')?;
    // Microseconds: three digits, no more and no less.
    let part: i64 = (part.len() == 3).then(|| part.parse().ok())??;
    let us = whole
        .parse::<i64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(part)?;
    Some(sign * us.checked_mul(1000)?)
}

impl Who {
    /// `1 in task, task ww-repro pid 117`
    fn parse(text: &str) -> Option<Self> {
        let (cpu, rest) = text.split_once(" in ")?;
        let (context, rest) = rest.split_once(", task ")?;
        let (task, pid) = rest.rsplit_once(" pid ")?;
        Some(Self {
            cpu: cpu.parse().ok()?,
            context: context.to_string(),
            task: task.to_string(),
            pid: pid.trim_end().parse().ok()?,
        })
    }
}

impl Victim {
    /// `ww-repro pid 117 waits for PG_writeback`
    fn parse(text: &str) -> Option<Self> {
        let (rest, bit) = text.rsplit_once(" waits for ")?;
        let (task, pid) = rest.rsplit_once(" pid ")?;
        Some(Self {
            task: task.to_string(),
            pid: pid.parse().ok()?,
            bit: bit.trim_end().to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::samples;
    use findings::Findings;

    /// The stories of a log, with its decoded form if there is one.
    fn stories(text: &str, decoded: &str) -> Vec<Story> {
        let lines: Vec<&str> = text.lines().collect();
        let decoded: Vec<&str> = decoded.lines().collect();
        let reports = Findings::of_text(text).reports;
        let read =
            |report: &Report| Story::read(report, |at| (lines[at], decoded.get(at).copied()));
        reports.iter().map(read).collect()
    }

    /// What, when, on which CPU, who, and how many lines of stack.
    fn seen(story: &Story) -> Vec<(What, i64, u32, &str, u32, usize)> {
        let events = story.events.iter();
        events
            .map(|e| {
                let who = &e.who;
                (
                    e.what,
                    e.ns,
                    who.cpu,
                    who.task.as_str(),
                    who.pid,
                    e.stack.len(),
                )
            })
            .collect()
    }

    #[test]
    fn a_read_that_loses_its_page() {
        let story = &stories(samples::READ, "")[0];
        assert_eq!(story.headline, "reused wake of PG_locked in __read_end_io");
        assert_eq!(
            (story.verdict.as_str(), story.number.as_str()),
            ("reused", "report 0 at 16.505816")
        );
        assert_eq!(
            seen(story),
            [
                (What::Clear, 0, 0, "ksoftirqd/0", 14, 1),
                (What::Freed, 2_029_000, 1, "ww-repro", 89, 5),
                (What::Allocated, 7_780_000, 1, "ww-repro", 88, 5),
                (What::Wake, 12_505_000, 0, "ksoftirqd/0", 14, 11),
            ]
        );
        assert_eq!(story.events[0].who.context, "softirq");
        assert_eq!(story.events[0].stack[0].symbol, "__read_end_io+0x8c/0x130");
        assert_eq!(story.events[3].stack[0].function(), "folio_wake_bit");
        let victim = Victim {
            task: "ww-repro".to_string(),
            pid: 88,
            bit: "PG_locked".to_string(),
        };
        assert_eq!(
            (story.victims.as_slice(), story.victims_in_all),
            (&[victim][..], 1)
        );
        assert_eq!(story.cpus(), [0, 1]);
        assert_eq!(
            story.facts,
            [
                "page 00000000d5b6a737 pfn 0x8531 pages 1 refcount 2 mapcount 0",
                "flags 0x881(locked|waiters|owner_2|zone=0)",
                "file dev 7:0 ino 13 index 0",
                "report 0 at 16.505816 on CPU 0 in softirq, task ksoftirqd/0 pid 14",
            ]
        );
        assert!(story.notes.is_empty());
    }

    #[test]
    fn a_page_in_its_next_life() {
        let story = &stories(samples::ORDER0, "")[0];
        assert_eq!(
            seen(story),
            [
                (What::Clear, 0, 0, "ksoftirqd/0", 14, 1),
                (What::Freed, 2_637_000, 1, "ww-repro", 90, 5),
                (What::Allocated, 3_250_000, 1, "ww-repro", 90, 5),
                (What::Started, 14_598_000, 1, "ww-repro", 90, 5),
                (What::Wake, 110_074_000, 0, "ksoftirqd/0", 14, 13),
            ]
        );
        assert_eq!(story.victims[0].bit, "PG_writeback");
    }

    #[test]
    fn a_page_that_nobody_has() {
        let story = &stories(samples::ZERO_REF, "")[0];
        let what: Vec<What> = story.events.iter().map(|e| e.what).collect();
        assert_eq!(what, [What::Clear, What::Freed, What::Wake]);
        assert!(story.victims.is_empty() && story.victims_in_all == 0);
    }

    #[test]
    fn symbols_of_modules_and_sources() {
        let story = &stories(samples::MODULE, samples::MODULE_DECODED)[0];
        let (clear, freed) = (&story.events[0], &story.events[1]);
        assert_eq!(clear.stack[0].symbol, "do_one_initcall+0x12c/0x280");
        assert_eq!(clear.stack[0].source.as_deref(), Some("init/main.c:1240"));
        assert_eq!(
            freed.stack[0].source.as_deref(),
            Some("include/trace/events/kmem.h:136 mm/page_alloc.c:1097 mm/page_alloc.c:2737")
        );
        assert!(freed.stack[1]
            .symbol
            .ends_with("+0x52b/0x890 [wakewatch_events]"));
        assert_eq!(freed.stack[1].source, None);
        assert_eq!(story.stack[0].source.as_deref(), Some("mm/filemap.c:1159"));
        // The one CPU has all of it.
        assert_eq!(story.cpus(), [0]);
    }

    #[test]
    fn without_a_story_there_are_facts_and_a_stack() {
        let story = &stories(samples::UNBALANCED, "")[0];
        assert!(story.events.is_empty());
        assert!(story
            .facts
            .iter()
            .any(|fact| fact == "references 1: cache 0, mappings 0, private 0, spare 1"));
        assert_eq!(story.stack[0].function(), "__folio_end_writeback");
    }

    #[test]
    fn tasks_may_be_called_anything() {
        let event = |text: &str| Event::parse(text, &None);
        let clear =
            event(" +0.000 ms clear on CPU 1 in hardirq, task a, by pid 9 pid 22, by f+0x1/0x2")
                .unwrap();
        assert_eq!(
            (clear.who.task.as_str(), clear.who.pid),
            ("a, by pid 9", 22)
        );
        assert_eq!(clear.stack[0].symbol, "f+0x1/0x2");
        let before = event(" -0.002 ms freed on CPU 0 in task, task b on CPU 7 pid 3").unwrap();
        assert_eq!(
            (before.ns, before.who.task.as_str()),
            (-2_000, "b on CPU 7")
        );
        for text in [
            "",
            " +0.000 ms",
            " +0.0 ms clear on CPU 1 in task, task a pid 1, by f",
            " +0.000 ms danced on CPU 1 in task, task a pid 1",
            " +0.000 ms freed on CPU x in task, task a pid 1",
            " +0.000 ms freed on CPU 1 in task, task a pid",
            " +99999999999999999999.000 ms freed on CPU 1 in task, task a pid 1",
        ] {
            assert_eq!(event(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_event_is_a_note_and_what_is_cut_off_is_read() {
        let rule = "==================================================================";
        let text = format!(
            "{rule}\nBUG: wakewatch: zero-ref wake of PG_locked in f\n\nreport 3 at 1.5 on CPU 0 in task, task a pid 1\nstory:\n \
             +0.000 ms clear on CPU 0 in task, task a pid 1, by f+0x1/0x2\n            freed, and who did it is not known\n \
             +0.100 ms wake on CPU 0 in task, task a pid 1\nvictim task b pid 2 waits for PG_locked\nvictims 9\nstack:\n f+0x1/0x2"
        );
        let story = &stories(&text, "")[0];
        assert_eq!(story.notes, ["freed, and who did it is not known"]);
        assert_eq!((story.victims.len(), story.victims_in_all), (1, 9));
        // Every beginning of it is a story, too.
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            stories(&text[..end], "");
        }
    }
}
