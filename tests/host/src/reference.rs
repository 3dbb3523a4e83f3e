// SPDX-License-Identifier: GPL-2.0

//! docs/reference.md and the code have the same names and the same defaults: what one has and the other has not
//! is named here. And the test is tested: each row of the page that goes, and each name too many, is found.

use crate::detect::amplify::Spec;
use crate::detect::config::Config;
use crate::documents::{files, read};
use std::collections::BTreeSet;

type Names = BTreeSet<String>;

/// What is compared: where the page has it, and what the code has.
struct Topic {
    /// The first cell of its table's head; of several such tables, which.
    table: (&'static str, usize),
    code: Names,
    /// What a row says, from its cells.
    says: fn(&[&str]) -> Vec<String>,
}

// ---------------------------------------------------------------- the page

/// The words between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(String::from)
        .collect()
}

fn cells(line: &str) -> Vec<&str> {
    // `|` in a word is written as it is in these tables, between backquotes.
    let mut cells = vec![];
    let (mut from, mut inside) = (1, false);
    for (at, c) in line.char_indices().skip(1) {
        match c {
            '`' => inside = !inside,
            '|' if !inside => {
                cells.push(line[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    cells
}

/// Rows of the `n`-th table whose head begins so.
fn rows<'a>(page: &'a str, head: &str, n: usize) -> Vec<Vec<&'a str>> {
    let lines: Vec<&str> = page.lines().collect();
    let mut heads = (0..lines.len()).filter(|&i| {
        lines[i].starts_with('|')
            && (i == 0 || !lines[i - 1].starts_with('|'))
            && cells(lines[i])[0] == head
    });
    let Some(head) = heads.nth(n) else {
        return vec![];
    };
    lines[head + 2..]
        .iter()
        .take_while(|line| line.starts_with('|'))
        .map(|line| cells(line))
        .collect()
}

/// The names of the first cell.
fn names(row: &[&str]) -> Vec<String> {
    quoted(row[0])
}

/// The first cell's, each with what the second one has.
fn pairs(row: &[&str]) -> Vec<String> {
    let names = quoted(row[0]).into_iter();
    names
        .map(|name| format!("{name} {}", row[1].trim_matches('`')))
        .collect()
}

/// The first cell's name with each of the second one's.
fn each(row: &[&str]) -> Vec<String> {
    let mut all = quoted(row[0]);
    let name = all.concat();
    all.extend(quoted(row[1]).iter().map(|word| format!("{name} {word}")));
    all
}

/// What is in one and not in the other.
fn differences(topics: &[Topic], page: &str) -> Vec<String> {
    let mut all = vec![];
    for topic in topics {
        let (head, n) = topic.table;
        let said = rows(page, head, n)
            .iter()
            .flat_map(|row| (topic.says)(row))
            .collect::<Vec<_>>();
        let page: Names = said.iter().cloned().collect();
        if said.len() != page.len() {
            all.push(format!("{head}: the page has a name twice"));
        }
        let lost = topic.code.difference(&page);
        all.extend(
            lost.map(|name| format!("{head}: the code has `{name}`, docs/reference.md has not")),
        );
        let much = page.difference(&topic.code);
        all.extend(
            much.map(|name| format!("{head}: docs/reference.md has `{name}`, the code has not")),
        );
    }
    all
}

// ---------------------------------------------------------------- the code

/// Between the first `from` and the next `to`.
fn part<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let begin = text.find(from).unwrap_or_else(|| panic!("no `{from}`"));
    let rest = &text[begin + from.len()..];
    &rest[..rest
        .find(to)
        .unwrap_or_else(|| panic!("no `{to}` after `{from}`"))]
}

/// What comes after each `before`, up to the first character that is no part of a name.
fn after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

fn owned<'a>(names: impl IntoIterator<Item = &'a str>) -> Names {
    names.into_iter().map(String::from).collect()
}

/// Those that `params.c` declares, with the default that `modinfo` shows, and the knobs.
fn parameters() -> Names {
    let text = read("rust/params.c");
    let declared = after(&text, "\nmodule_param_named(").map(|name| {
        let told = part(&text, &format!("MODULE_PARM_DESC({name},"), ";");
        format!("{name} {}", part(told, "(default: ", ")\""))
    });
    let knobs = Config::NAMES
        .iter()
        .map(|name| format!("{name} {}", Config::default().value(name)));
    declared.chain(knobs).collect()
}

fn debugfs() -> Names {
    let text = read("rust/debugfs.rs");
    let files = text.split("const NAME: &'static CStr = c_str!(\"").skip(1);
    files
        .map(|rest| {
            let name = rest.split('"').next().unwrap_or_default();
            let mode = part(rest, "const MODE: u16 = 0o", ";");
            format!("{name} 0{mode}")
        })
        .collect()
}

fn counters() -> Names {
    let stats = read("rust/stats.rs");
    let list = part(&stats, "\ncounters! {", "\n}");
    let control = read("rust/control.rs");
    let shown = part(&control, "fn show_stats", "\nimpl Probes");
    let hooked = part(&control, "fn entries(", "\n    }");
    let mut all = owned(after(list, " = \""));
    all.extend(shown.match_indices(": {").map(|(at, _)| {
        let name = shown[..at].rsplit('"').next().unwrap_or_default();
        name.to_string()
    }));
    // Made of a name and of what is before it.
    all.retain(|name| !name.contains('{'));
    for name in after(hooked, "(\"") {
        all.extend([format!("hook_{name}"), format!("missed_{name}")]);
    }
    all
}

/// As whoever gets it wrong is told.
fn amplify_words() -> Names {
    let told = Spec::parse("x").unwrap_err().to_string();
    let (_, words) = told.split_once("is not one of ").unwrap();
    owned(words.split(", "))
}

fn amplify_places() -> Names {
    let told = Spec::parse("where=x us=1").unwrap_err().to_string();
    owned(part(&told, "(where=", ",").split('|'))
}

fn story_keys() -> Names {
    let text = read("rust/story.rs");
    let marks: Vec<&str> = part(&text, "const MARKS", "];")
        .lines()
        .filter(|line| line.contains("Mark::"))
        .filter_map(|line| line.rsplit('"').nth(1))
        .collect();
    let machine = part(&text, "fn put_machine", "\n    }");
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_' || c == '{' || c == '}';
    let mut all = Names::new();
    for (at, _) in machine.match_indices('=') {
        let before = &machine[..at];
        let name = &before[before.rfind(|c| !is_name(c)).map_or(0, |i| i + 1)..];
        match name.strip_prefix("{key}") {
            Some(rest) => all.extend(marks.iter().map(|mark| format!("{mark}{rest}"))),
            None if !name.is_empty() => {
                all.insert(name.to_string());
            }
            None => {}
        }
    }
    all
}

fn events() -> Names {
    let text = read("rust/trace.h");
    let mut all = Names::new();
    for event in text.split("\nTRACE_EVENT(").skip(1) {
        let name = event.split(',').next().unwrap_or_default();
        all.insert(name.to_string());
        let fields = event.split("__field(").skip(1);
        all.extend(fields.map(|field| format!("{name} {}", part(field, ",", ")").trim())));
    }
    all
}

/// The verbs of the Makefile, and what each takes.
pub fn verbs() -> Names {
    let mut all = Names::new();
    for line in read("Makefile").lines() {
        let Some((head, told)) = line.split_once("## ") else {
            continue;
        };
        let verb = head.split(':').next().unwrap_or_default().to_string();
        if let Some((_, takes)) = told.split_once('[') {
            let mut quoted = false;
            let words = takes.trim_end_matches(']').split(|c: char| {
                quoted ^= c == '\'';
                c == ' ' && !quoted
            });
            all.extend(words.map(|word| format!("{verb} {word}")));
        }
        all.insert(verb);
    }
    all.retain(|name| !name.starts_with('#'));
    all
}

pub fn variables() -> Names {
    let text = read("scripts/asked.sh");
    let table = part(&text, "\nVARIABLES='", "\n'");
    owned(
        table
            .lines()
            .filter_map(|line| line.split_whitespace().next()),
    )
}

/// What goes with all verbs.
pub fn everywhere() -> Names {
    let text = read("scripts/asked.sh");
    owned(part(&text, "\nEVERYWHERE='", "'").split(' '))
}

/// Names that are read with a default, or have to be there: `${NAME:-...}`.
fn taken_by_shell(dir: &str) -> Names {
    let mut all = Names::new();
    for (_, text) in files(dir, ".sh") {
        for rest in text.split("${").skip(1) {
            let end = rest
                .find(|c: char| !c.is_ascii_uppercase() && c != '_')
                .unwrap_or(0);
            let tail = &rest[end..];
            if end > 0 && [":-", ":=", ":?"].iter().any(|op| tail.starts_with(op)) {
                all.insert(rest[..end].to_string());
            }
        }
    }
    all
}

fn environment() -> Names {
    // Scripts' own variables, of which one function may be called without.
    const OWN: [&str; 4] = ["OWN_CONFIG", "QEMU", "SCRATCH", "WW_CLOSE"];
    let mut all = taken_by_shell("scripts");
    all.retain(|name| !OWN.contains(&name.as_str()) && !variables().contains(name));
    all
}

fn lab_environment() -> Names {
    let mut all = Names::new();
    for (_, text) in files("tests/lab/src", ".rs") {
        for read in ["env::var(\"", "env::var_os(\"", "required(\"", "keyed(\""] {
            all.extend(after(&text, read).map(String::from));
        }
    }
    all.retain(|name| name != "PATH" && !variables().contains(name));
    all
}

fn lab_statuses() -> Names {
    let text = read("tests/lab/src/main.rs");
    let mut all = owned(after(&text, "ExitCode::from(").filter(|n| n.parse::<u8>().is_ok()));
    all.extend(after(&text, "const INTERRUPTED: u8 = ").map(String::from));
    // ExitCode::SUCCESS and FAILURE.
    all.extend(["0", "1"].map(String::from));
    all
}

fn guest_statuses() -> Names {
    let text = read("tests/guest/lib.sh");
    owned(after(&text, "exit ").filter(|n| n.parse::<u8>().is_ok()))
}

fn repro_statuses() -> Names {
    let text = read("tests/repro/src/main.rs");
    let named = text.lines().filter(|line| line.starts_with("const EXIT_"));
    let mut all: Names = named
        .map(|line| part(line, "= ", ";").to_string())
        .collect();
    // That of success, and clap's.
    all.extend(["0", "2"].map(String::from));
    all
}

fn topics() -> Vec<Topic> {
    let topic = |table, code, says| Topic { table, code, says };
    vec![
        topic(("parameter", 0), parameters(), pairs),
        topic(("file", 0), debugfs(), pairs),
        topic(("in `stats`", 0), counters(), names),
        topic(("word", 0), amplify_words(), names),
        topic(("place", 0), amplify_places(), names),
        topic(("key", 0), story_keys(), names),
        topic(("event", 0), events(), each),
        topic(("verb", 0), verbs(), each),
        topic(("variable", 0), variables(), names),
        topic(("name", 0), environment(), names),
        topic(("name", 1), taken_by_shell("tests/guest"), names),
        topic(("name", 2), lab_environment(), names),
        topic(("status", 0), lab_statuses(), names),
        topic(("status", 1), guest_statuses(), names),
        topic(("status", 2), repro_statuses(), names),
    ]
}

// ---------------------------------------------------------------- the tests

const PAGE: &str = "docs/reference.md";

#[test]
fn the_page_has_what_the_code_has_and_nothing_else() {
    let wrong = differences(&topics(), &read(PAGE));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Every topic's code has something to say, or its rows would not be looked at.
#[test]
fn no_topic_is_empty() {
    for topic in topics() {
        assert!(!topic.code.is_empty(), "{:?}", topic.table);
    }
}

/// The page with that line changed, or without it.
fn with_line(page: &str, n: usize, new: Option<&str>) -> String {
    let lines = page.lines().enumerate();
    let kept = lines.filter_map(|(i, line)| if i == n { new } else { Some(line) });
    kept.collect::<Vec<_>>().join("\n")
}

/// Numbers of the lines that are rows.
fn all_rows(page: &str) -> Vec<usize> {
    let lines: Vec<&str> = page.lines().collect();
    let is_row = |i: &usize| {
        let head = lines
            .get(i + 1)
            .is_some_and(|next| next.starts_with("|---"));
        lines[*i].starts_with("| `") && !head
    };
    (0..lines.len()).filter(is_row).collect()
}

#[test]
fn a_row_that_goes_is_missed() {
    let (topics, page) = (topics(), read(PAGE));
    let rows = all_rows(&page);
    assert!(rows.len() > 100);
    for row in rows {
        let line = page.lines().nth(row).unwrap_or_default();
        assert!(
            !differences(&topics, &with_line(&page, row, None)).is_empty(),
            "not missed: {line}"
        );
    }
}

#[test]
fn a_name_too_many_is_found() {
    let (topics, page) = (topics(), read(PAGE));
    for row in all_rows(&page) {
        let line = page.lines().nth(row).unwrap_or_default();
        let more = line.replacen("| `", "| `rubbish`, `", 1);
        assert!(
            !differences(&topics, &with_line(&page, row, Some(&more))).is_empty(),
            "not found: {more}"
        );
    }
}

#[test]
fn another_default_is_found() {
    let (topics, page) = (topics(), read(PAGE));
    for (was, is) in [
        ("| `sample` | `1` |", "| `sample` | `2` |"),
        ("| `hook` | `direct` |", "| `hook` | `kprobe` |"),
        ("| `reset` | 0200 |", "| `reset` | 0600 |"),
        ("`CYCLES=2000`", "`CYCLES=200`"),
        ("`length_ns`", "`length_us`"),
    ] {
        assert!(page.contains(was), "{was}");
        assert!(
            !differences(&topics, &page.replacen(was, is, 1)).is_empty(),
            "not found: {is}"
        );
    }
}

/// Reports are told by the module, and once more by a debugger's script, which can't call it.
#[test]
fn the_debuggers_script_blames_whom_the_module_blames() {
    let names = |path: &str, from: &str, to: &str| -> Names {
        let text = read(path);
        let lines = part(&text, from, to).lines();
        owned(lines.filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\",")))
    };
    let module = names("rust/story.rs", "const PLUMBING", "];");
    assert!(module.contains("folio_wake_bit"));
    let script = names("scripts/wakewatch.drgn.py", "\nPLUMBING = {", "}");
    assert_eq!(module, script);
}
