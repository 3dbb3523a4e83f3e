// SPDX-License-Identifier: GPL-2.0

//! README.md and docs/: links lead somewhere, commands of `make` are commands of `make`, each verdict has its
//! section, and the front page stays one.

use crate::reference::{everywhere, variables, verbs};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of README.md, at most: what a stranger reads in ten minutes.
const FRONT_PAGE: usize = 160;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the project's.
pub fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
}

/// The files below `dir` whose names end so.
pub fn files(dir: &str, end: &str) -> Vec<(String, String)> {
    let mut found = vec![];
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                let text = fs::read_to_string(&path).unwrap_or_default();
                found.push((path.display().to_string(), text));
            }
        }
    }
    found
}

fn pages() -> Vec<(String, String)> {
    let mut pages = files("docs", ".md");
    pages.push((
        root().join("README.md").display().to_string(),
        read("README.md"),
    ));
    pages
}

/// As GitHub and others make them of headings.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().chars();
    kept.filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| {
            if c == ' ' {
                '-'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// What is wrong with a page's links.
fn bad_links(name: &str, text: &str) -> Vec<String> {
    let dir = Path::new(name).parent().expect("a directory");
    let mut bad = vec![];
    for rest in text.split("](").skip(1) {
        let link = rest.split(')').next().unwrap_or_default();
        if link.contains("://") {
            continue;
        }
        let (file, place) = link.split_once('#').unwrap_or((link, ""));
        let path = if file.is_empty() {
            PathBuf::from(name)
        } else {
            dir.join(file)
        };
        let there = path.exists();
        let found = place.is_empty()
            || fs::read_to_string(&path)
                .unwrap_or_default()
                .lines()
                .any(|line| line.starts_with('#') && anchor(line) == place);
        if !there || !found {
            bad.push(format!("{name}: no {link}"));
        }
    }
    bad
}

/// What is wrong with a page's commands: lines of code that call make.
fn bad_commands(name: &str, text: &str) -> Vec<String> {
    let (known, everywhere) = (verbs(), everywhere());
    let mut bad = vec![];
    for line in text.lines().filter(|line| line.starts_with("    ")) {
        let line = line.trim().trim_start_matches("sudo ");
        let Some(words) = line.strip_prefix("make ") else {
            continue;
        };
        let words: Vec<&str> = words
            .split(" #")
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let verb = words[0];
        // The usage: make VERB. Or a make of somebody else's: make -C.
        if verb.starts_with(|c: char| c.is_ascii_uppercase() || c == '-') {
            continue;
        }
        if !known.contains(verb) {
            bad.push(format!("{name}: {line}: no verb {verb}"));
        }
        for word in &words[1..] {
            let variable = word
                .trim_start_matches('[')
                .split('=')
                .next()
                .unwrap_or_default();
            if !variables().contains(variable) {
                continue;
            }
            let taken = known
                .iter()
                .any(|said| said.starts_with(&format!("{verb} {variable}=")));
            if !taken && !everywhere.contains(variable) {
                bad.push(format!("{name}: {line}: {verb} takes no {variable}"));
            }
        }
    }
    bad
}

#[test]
fn links_lead_somewhere() {
    let bad: Vec<String> = pages()
        .iter()
        .flat_map(|(name, text)| bad_links(name, text))
        .collect();
    assert!(bad.is_empty(), "\n{}\n", bad.join("\n"));
}

#[test]
fn a_link_to_nowhere_is_found() {
    let readme = root().join("README.md").display().to_string();
    assert!(bad_links(&readme, "[a](docs/matrix.md) [b](https://x/y)").is_empty());
    assert_eq!(bad_links(&readme, "[a](docs/none.md)").len(), 1);
    assert_eq!(bad_links(&readme, "[a](docs/reference.md#none)").len(), 1);
    assert!(bad_links(&readme, "[a](docs/reference.md#trace-events)").is_empty());
}

#[test]
fn commands_are_commands() {
    let bad: Vec<String> = pages()
        .iter()
        .flat_map(|(name, text)| bad_commands(name, text))
        .collect();
    assert!(bad.is_empty(), "\n{}\n", bad.join("\n"));
}

#[test]
fn a_command_that_is_none_is_found() {
    assert!(bad_commands(
        "p",
        "    make stress KERNEL=fixed FORM=xfs  # all\n    make repro LINUX=/t"
    )
    .is_empty());
    assert_eq!(bad_commands("p", "    make stres").len(), 1);
    assert_eq!(
        bad_commands("p", "    sudo make soak KERNEL=broken").len(),
        1
    );
}

/// The verdicts that have no section in docs/reading-a-report.md, and the sections that have no verdict.
fn verdicts_untold(page: &str) -> Vec<String> {
    let code = read("rust/detect/verdict.rs");
    let names = code
        .lines()
        .filter(|line| line.trim().starts_with("Verdict::"));
    let names: BTreeSet<&str> = names.filter_map(|line| line.split('"').nth(1)).collect();
    let told = page
        .lines()
        .filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    let told: BTreeSet<&str> = told.collect();
    assert!(!names.is_empty());
    names
        .symmetric_difference(&told)
        .map(|name| name.to_string())
        .collect()
}

#[test]
fn each_verdict_has_its_section() {
    let page = read("docs/reading-a-report.md");
    assert!(
        verdicts_untold(&page).is_empty(),
        "{:?}",
        verdicts_untold(&page)
    );
    assert_eq!(
        verdicts_untold(&page.replace("## `tail`", "## Tail")),
        ["tail"]
    );
    assert_eq!(verdicts_untold(&(page + "\n## `rubbish`\n")), ["rubbish"]);
}

#[test]
fn the_front_page_is_one() {
    let lines = read("README.md").lines().count();
    assert!(
        lines <= FRONT_PAGE,
        "README.md has {lines} lines, more than {FRONT_PAGE}: what is more moves to docs/"
    );
}
