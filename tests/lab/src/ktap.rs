// SPDX-License-Identifier: GPL-2.0

//! KTAP, the one format of results: read from guests, written for people and CI.
//!
//! The reader takes what a dying guest leaves behind. A plan that is not met, or a
//! subtest whose result line never came, is a failure with a name.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pass,
    Fail,
    Skip,
}

/// One result line with what is nested in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    pub name: String,
    pub status: Status,
    /// Why it failed or was skipped, and what it said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How long it took, where that is known of it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// More that is known of it, for machines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// The build of the kernel that it is about, as its directory in the cache is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Test>,
}

/// Counts of leaves: tests that have no subtests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Counts {
    pub fn add(&mut self, status: Status) {
        match status {
            Status::Pass => self.passed += 1,
            Status::Fail => self.failed += 1,
            Status::Skip => self.skipped += 1,
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Counts {
    /// Is all as it must be? Not if nothing was looked at.
    pub fn are_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl Test {
    pub fn new(name: impl Into<String>, status: Status) -> Self {
        Self {
            name: name.into(),
            status,
            notes: Vec::new(),
            seconds: None,
            properties: BTreeMap::new(),
            kernel: None,
            children: Vec::new(),
        }
    }

    /// The same, said of a kernel.
    pub fn about(mut self, kernel: impl Into<String>) -> Self {
        self.kernel = Some(kernel.into());
        self
    }

    pub fn fail(name: impl Into<String>, why: impl Into<String>) -> Self {
        let mut test = Self::new(name, Status::Fail);
        test.notes.push(why.into());
        test
    }

    /// `why` is asked for if it failed.
    pub fn of(name: impl Into<String>, passed: bool, why: impl FnOnce() -> String) -> Self {
        match passed {
            true => Self::new(name, Status::Pass),
            false => Self::fail(name, why()),
        }
    }

    /// A test that is as good as its subtests.
    pub fn group(name: impl Into<String>, children: Vec<Test>) -> Self {
        let mut counts = Counts::default();
        children.iter().for_each(|child| counts += child.counts());
        let status = if counts.failed > 0 {
            Status::Fail
        } else if counts.passed > 0 {
            Status::Pass
        } else {
            Status::Skip
        };
        let mut test = Self::new(name, status);
        test.children = children;
        test
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        if self.children.is_empty() {
            counts.add(self.status);
        }
        for child in &self.children {
            counts += child.counts();
        }
        counts
    }

    /// A failure of its own, one that no subtest shows, becomes a subtest: otherwise
    /// it would be lost from the count of leaves.
    fn with_own_failure(mut self) -> Self {
        if self.status == Status::Fail && !self.children.is_empty() && self.counts().failed == 0 {
            let why = if self.notes.is_empty() {
                vec!["not ok although every subtest is".to_string()]
            } else {
                self.notes.clone()
            };
            let mut own = Self::new(format!("{} as a whole", self.name), Status::Fail);
            own.notes = why;
            self.children.push(own);
        }
        self
    }

    /// Appends this test as line `number` in KTAP.
    pub fn write(&self, number: usize, indent: usize, out: &mut String) {
        let pad = " ".repeat(indent);
        if !self.children.is_empty() {
            out.push_str(&format!(
                "{pad}  KTAP version 1\n{pad}  # Subtest: {}\n{pad}  1..{}\n",
                self.name,
                self.children.len()
            ));
            for (i, child) in self.children.iter().enumerate() {
                child.write(i + 1, indent + 2, out);
            }
        }
        let name = self.name.replace('#', "\\#");
        let line = match self.status {
            Status::Pass => format!("ok {number} {name}"),
            Status::Fail => format!("not ok {number} {name}"),
            Status::Skip => {
                let why = self.notes.first().map(String::as_str).unwrap_or_default();
                format!("ok {number} {name} # SKIP {why}")
                    .trim_end()
                    .to_string()
            }
        };
        if self.status != Status::Skip {
            for note in &self.notes {
                out.push_str(&format!("{pad}# {note}\n"));
            }
        }
        out.push_str(&format!("{pad}{line}\n"));
    }
}

/// One level of nesting while reading.
#[derive(Default)]
struct Level {
    indent: usize,
    name: Option<String>,
    planned: Option<usize>,
    skip_all: Option<String>,
    notes: Vec<String>,
    tests: Vec<Test>,
    bail: Option<String>,
}

impl Level {
    /// The tests of this level, with a failure for each that was planned and never seen.
    fn close(mut self) -> Vec<Test> {
        if let Some(why) = self.bail.take() {
            self.tests.push(Test::fail("bail out", why));
        }
        if let Some(planned) = self.planned {
            for n in self.tests.len() + 1..=planned {
                self.tests.push(Test::fail(
                    format!("test {n}"),
                    "planned, but no result was seen",
                ));
            }
        }
        if let (Some(why), true) = (&self.skip_all, self.tests.is_empty()) {
            let mut test = Test::new(self.name.unwrap_or("all".into()), Status::Skip);
            test.notes.push(why.clone());
            self.tests.push(test);
        }
        self.tests
    }
}

/// All of it, as a document.
pub fn document(tests: &[Test]) -> String {
    let mut out = format!("KTAP version 1\n1..{}\n", tests.len());
    for (i, test) in tests.iter().enumerate() {
        test.write(i + 1, 0, &mut out);
    }
    out
}

/// Reads KTAP, complete or cut off, and whatever else stands between its lines.
pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<Test> {
    let mut stack: Vec<Level> = vec![Level::default()];
    for line in lines {
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        let text = text.trim_end();
        let Some(item) = Item::parse(text) else {
            continue;
        };
        match item {
            // A subtest opens with its version line or its name, deeper than its parent.
            Item::Version | Item::Subtest(_) | Item::Plan(..) => {
                if indent > top(&mut stack).indent {
                    stack.push(Level {
                        indent,
                        ..Level::default()
                    });
                } else {
                    // A subtest's result line never came: what we have of it counts.
                    while stack.len() > 1 && indent < top(&mut stack).indent {
                        abandon(&mut stack);
                    }
                }
                match item {
                    Item::Subtest(name) => top(&mut stack).name = Some(name),
                    Item::Plan(n, skip) => {
                        let level = top(&mut stack);
                        // Two scripts one after the other make two plans.
                        level.planned = Some(level.planned.unwrap_or(0) + n);
                        level.skip_all = skip;
                    }
                    _ => {}
                }
            }
            Item::Result(mut test) => {
                // Levels whose parent is still deeper than this line have lost theirs.
                while stack.len() > 1 && stack[stack.len() - 2].indent > indent {
                    abandon(&mut stack);
                }
                if top(&mut stack).indent > indent && stack.len() > 1 {
                    test.children = stack.pop().unwrap_or_default().close();
                }
                if top(&mut stack).indent < indent {
                    stack.push(Level {
                        indent,
                        ..Level::default()
                    });
                }
                let level = top(&mut stack);
                test.notes.append(&mut level.notes);
                level.tests.push(test.with_own_failure());
            }
            Item::Diagnostic(text) => {
                let level = top(&mut stack);
                // Usual producers put a failure's diagnostics after its line.
                match level.tests.last_mut() {
                    Some(test) if level.indent == indent && test.status == Status::Fail => {
                        test.notes.push(text);
                    }
                    _ => level.notes.push(text),
                }
            }
            Item::BailOut(why) => top(&mut stack).bail = Some(why),
        }
    }
    while stack.len() > 1 {
        abandon(&mut stack);
    }
    stack.pop().unwrap_or_default().close()
}

fn top(stack: &mut [Level]) -> &mut Level {
    stack.last_mut().expect("the outermost level stays")
}

/// Turns the innermost level, whose result line never came, into a failed test.
fn abandon(stack: &mut Vec<Level>) {
    if let Some(level) = stack.pop() {
        let name = level.name.clone().unwrap_or("subtest".into());
        top(stack).tests.push(unfinished(name, level));
    }
}

fn unfinished(name: String, level: Level) -> Test {
    let mut test = Test::new(name, Status::Fail);
    test.notes
        .push("ended without a result of its own".to_string());
    test.children = level.close();
    test.with_own_failure()
}

enum Item {
    Version,
    Subtest(String),
    Plan(usize, Option<String>),
    Result(Test),
    Diagnostic(String),
    BailOut(String),
}

impl Item {
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with("KTAP version ") || text.starts_with("TAP version ") {
            return Some(Self::Version);
        }
        if let Some(why) = text.strip_prefix("Bail out!") {
            return Some(Self::BailOut(why.trim().to_string()));
        }
        if let Some(name) = text.strip_prefix("# Subtest: ") {
            return Some(Self::Subtest(name.to_string()));
        }
        if let Some(text) = text.strip_prefix("# ") {
            return Some(Self::Diagnostic(text.to_string()));
        }
        if let Some(rest) = text.strip_prefix("1..") {
            let (n, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let skip = directive(rest).map(|(_, why)| why);
            return Some(Self::Plan(n.parse().ok()?, skip));
        }
        let (failed, rest) = if let Some(rest) = text.strip_prefix("not ok") {
            (true, rest)
        } else {
            (false, text.strip_prefix("ok")?)
        };
        // "okay, then" is no result line.
        if !rest.is_empty() && !rest.starts_with(' ') {
            return None;
        }
        let rest = rest.trim_start();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            return None;
        }
        let rest = rest[digits..].trim_start();
        let rest = rest.strip_prefix("- ").unwrap_or(rest);
        let (name, directive) = match find_directive(rest) {
            Some(at) => (rest[..at].trim_end(), directive(&rest[at..])),
            None => (rest, None),
        };
        let mut test = Test::new(
            name.replace("\\#", "#"),
            if failed { Status::Fail } else { Status::Pass },
        );
        if let Some((word, why)) = directive {
            // A known failure (TODO) is not a result either way.
            if word == "SKIP" || failed {
                test.status = Status::Skip;
            }
            test.notes.push(why);
        }
        Some(Self::Result(test))
    }
}

fn find_directive(text: &str) -> Option<usize> {
    text.match_indices("# ")
        .map(|(at, _)| at)
        .find(|&at| directive(&text[at..]).is_some())
}

/// `# SKIP why` or `# TODO why`.
fn directive(text: &str) -> Option<(&'static str, String)> {
    let text = text.trim_start().strip_prefix('#')?.trim_start();
    for word in ["SKIP", "TODO"] {
        if let Some(why) = text.get(..4).filter(|w| w.eq_ignore_ascii_case(word)) {
            return Some((word, text[why.len()..].trim().to_string()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> (usize, usize, usize) {
        let mut sum = Counts::default();
        parse(text.lines()).iter().for_each(|t| sum += t.counts());
        (sum.passed, sum.failed, sum.skipped)
    }

    #[test]
    fn flat() {
        let text = "KTAP version 1\n1..3\nok 1 a\nnot ok 2 - b\n# why\nok 3 c # SKIP no disk\n";
        let tests = parse(text.lines());
        assert_eq!(counts(text), (1, 1, 1));
        assert_eq!(tests[1].name, "b");
        assert_eq!(tests[1].notes, ["why"]);
        assert_eq!(tests[2].notes, ["no disk"]);
    }

    #[test]
    fn nested_counts_leaves_only() {
        let text = "KTAP version 1\n1..2\n  # Subtest: one\n  KTAP version 1\n  1..2\n  ok 1 a\n  ok 2 b\nok 1 one\n  KTAP version 1\n  1..1\n    KTAP version 1\n    1..1\n    not ok 1 deep\n  not ok 1 c\nnot ok 2 two\n";
        assert_eq!(counts(text), (2, 1, 0));
        let tests = parse(text.lines());
        assert_eq!(tests.len(), 2);
        assert_eq!(tests[1].children[0].children[0].name, "deep");
    }

    #[test]
    fn cut_off_guest_fails() {
        // Died in the second of three planned.
        assert_eq!(counts("KTAP version 1\n1..3\nok 1 a\n"), (1, 2, 0));
        // Died in a subtest.
        let text = "KTAP version 1\n1..2\n  # Subtest: one\n  KTAP version 1\n  1..2\n  ok 1 a\n";
        let tests = parse(text.lines());
        assert_eq!(tests[0].name, "one");
        assert_eq!(tests[0].status, Status::Fail);
        assert_eq!(counts(text), (1, 2, 0));
        // Died after a complete list of subtests, before their parent's line.
        let text = "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\n";
        assert_eq!(counts(text), (1, 1, 0));
    }

    #[test]
    fn parent_failure_without_failed_subtest_counts() {
        let text = "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\nnot ok 1 one\n";
        assert_eq!(counts(text), (1, 1, 0));
    }

    #[test]
    fn plans_and_noise() {
        assert_eq!(counts("KTAP version 1\n1..0 # SKIP no swap\n"), (0, 0, 1));
        assert_eq!(counts("ok, here we go\nokay 1\nnot okay\n"), (0, 0, 0));
        assert_eq!(counts("1..1\nnot ok 1 x # TODO later\n"), (0, 0, 1));
        assert_eq!(counts("1..2\nok 1 a\nBail out! no disk\n"), (1, 1, 0));
    }

    #[test]
    fn writes_what_it_reads() {
        let tests = [
            Test::group(
                "suite",
                vec![Test::new("a #1", Status::Pass), Test::fail("b", "why")],
            ),
            Test::new("c", Status::Skip),
        ];
        let out = document(&tests);
        let again = parse(out.lines());
        assert_eq!(again[0].children[0].name, "a #1");
        assert_eq!(again[0].status, Status::Fail);
        let mut sum = Counts::default();
        again.iter().for_each(|t| sum += t.counts());
        assert_eq!(sum.to_string(), "1 passed, 1 failed, 1 skipped");
    }
}
