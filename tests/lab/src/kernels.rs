// SPDX-License-Identifier: GPL-2.0

//! What has run on which kernel. Each run that has booted one leaves a line of JSON in the cache, in
//! `kernels.jsonl`; `lab kernels` prints the last one of each kind. Nothing of it is written by hand.

use crate::debugfs;
use crate::env::{self, Kernel, Lab};
use crate::jsonl;
use crate::table::table;
use anyhow::{ensure, Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel, whatever patches it has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Which {
    release: String,
    compiler: String,
    /// Where its source, or itself, comes from.
    from: String,
    configuration: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ran {
    /// UTC.
    at: String,
    kernel: Which,
    /// A verb, or a suite of `lab test`.
    what: String,
    ok: bool,
    /// If it is not.
    why: String,
    /// How functions were hooked: each that was.
    #[serde(default)]
    hooks: BTreeMap<String, String>,
}

/// Kernels, and how functions were hooked on each.
pub type Hooked = BTreeMap<Which, BTreeMap<String, String>>;

/// Notes how functions were hooked on one.
pub fn booted(all: &mut Hooked, kernel: Which, hooks: &BTreeMap<String, String>) {
    debugfs::add_hooks(all.entry(kernel).or_default(), hooks);
}

impl Which {
    /// Its part of a line.
    fn columns(&self) -> Vec<String> {
        [
            &self.release,
            &self.compiler,
            &self.from,
            &self.configuration,
        ]
        .map(String::clone)
        .to_vec()
    }

    pub fn of(kernel: &Kernel) -> Result<Self> {
        let read = |name: &str| {
            let path = kernel.dir.join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let (info, config) = (read("info")?, read("config")?);
        let word = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
        Ok(Self {
            release: word("release: ").unwrap_or("?").to_string(),
            compiler: compiler(&config),
            from: match (kernel.installed, word("source: ")) {
                (true, _) => "Debian, as installed".to_string(),
                (false, Some(source)) if source.contains(".tar.xz ") => {
                    "Debian's source".to_string()
                }
                (false, _) => "a tree (LINUX=)".to_string(),
            },
            configuration: match (kernel.installed, word("config: ")) {
                (true, _) => "Debian's".to_string(),
                (false, config) => configuration(config.unwrap_or_default()),
            },
        })
    }
}

/// "gcc 14.2.0", of a configuration.
fn compiler(config: &str) -> String {
    let number = |name: &str| -> u64 {
        let line = config.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let of = |name: &str, version: u64| {
        let (major, minor, patch) = (version / 10000, version / 100 % 100, version % 100);
        format!("{name} {major}.{minor}.{patch}")
    };
    match number("CONFIG_GCC_VERSION=") {
        0 => of("clang", number("CONFIG_CLANG_VERSION=")),
        gcc => of("gcc", gcc),
    }
}

/// "lab, btf", of "tinyconfig + .config.fragment patches/7.3/config.fragment tests/config/btf.fragment".
fn configuration(config: &str) -> String {
    let words = config.split_whitespace();
    let variants = words.filter_map(|word| {
        let path = Path::new(word).strip_prefix("tests/config").ok()?;
        Some(path.with_extension("").display().to_string())
    });
    let base = match config.starts_with("tinyconfig ") {
        true => "lab",
        false => "one's own (CONFIG=)",
    };
    [base.to_string()]
        .into_iter()
        .chain(variants)
        .collect::<Vec<_>>()
        .join(", ")
}

fn file(cache: &Path) -> PathBuf {
    cache.join("kernels.jsonl")
}

/// Keeps what became of `what` on these kernels.
pub fn keep(lab: &Lab, kernels: &Hooked, what: &str, wrong: Option<String>) -> Result<()> {
    let ran = |(kernel, hooks): (&Which, &BTreeMap<String, String>)| Ran {
        at: env::now(),
        kernel: kernel.clone(),
        what: what.to_string(),
        ok: wrong.is_none(),
        why: wrong.clone().unwrap_or_default(),
        hooks: hooks.clone(),
    };
    let all: Vec<Ran> = kernels.iter().map(ran).collect();
    jsonl::keep(&file(&lab.cache), &all)
}

/// `lab kernels`: the last result of each kind on each kernel, by this machine or one whose file that is.
pub fn verb(lab: &Lab, others: &[PathBuf]) -> Result<bool> {
    let path = file(&lab.cache);
    let all = of_all(&path, others)?;
    if all.is_empty() {
        println!(
            "nothing has run on a kernel yet; it would be in {}",
            path.display()
        );
    } else {
        println!("{}\n\n{}", summary(&all), page(&all));
    }
    Ok(true)
}

/// In the order of time.
fn of_all(ours: &Path, others: &[PathBuf]) -> Result<Vec<Ran>> {
    let mut all: Vec<Ran> = jsonl::read(ours)?;
    for other in others {
        ensure!(
            other.is_file(),
            "{}: no such file; it is kernels.jsonl of another machine's cache that is wanted",
            other.display()
        );
        all.extend(jsonl::read::<Ran>(other)?);
    }
    all.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(all)
}

/// The last of each kind, by kernel and what was run.
fn last(all: &[Ran]) -> BTreeMap<(&Which, &str), &Ran> {
    all.iter()
        .map(|ran| ((&ran.kernel, ran.what.as_str()), ran))
        .collect()
}

/// A line for each kernel.
fn summary(all: &[Ran]) -> comfy_table::Table {
    let mut kernels: BTreeMap<&Which, Vec<&Ran>> = BTreeMap::new();
    for ((kernel, _), ran) in last(all) {
        kernels.entry(kernel).or_default().push(ran);
    }
    let mut out = table([
        "kernel",
        "compiler",
        "from",
        "configuration",
        "runs",
        "does not",
        "hooks",
    ]);
    for (kernel, runs) in kernels {
        let mut hooks = BTreeMap::new();
        for ran in &runs {
            debugfs::add_hooks(&mut hooks, &ran.hooks);
        }
        let names = |ok: bool| -> String {
            let some = runs.iter().filter(|ran| ran.ok == ok);
            some.map(|ran| ran.what.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut row = kernel.columns();
        row.extend([names(true), names(false), ways(&hooks)]);
        out.add_row(row);
    }
    out
}

/// A line for each thing that was run on each.
fn page(all: &[Ran]) -> comfy_table::Table {
    let mut out = table([
        "kernel",
        "compiler",
        "from",
        "configuration",
        "what",
        "runs?",
        "hooks",
        "date",
    ]);
    for ((kernel, what), ran) in last(all) {
        let runs = match ran.ok {
            true => "ok".to_string(),
            false => format!("no: {}", ran.why),
        };
        let mut row = kernel.columns();
        row.extend([what.to_string(), runs, ways(&ran.hooks), day(&ran.at)]);
        out.add_row(row);
    }
    out
}

/// "direct" if all functions were hooked so, else which was how.
fn ways(hooks: &BTreeMap<String, String>) -> String {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (function, way) in hooks {
        all.entry(way).or_default().push(function);
    }
    match all.len() {
        0 | 1 => all.into_keys().collect(),
        _ => all
            .into_iter()
            .map(|(way, functions)| format!("{way}: {}", functions.join(" ")))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// "2026-11-27", of "20261127-141500".
fn day(at: &str) -> String {
    match (at.get(..4), at.get(4..6), at.get(6..8)) {
        (Some(year), Some(month), Some(day)) => format!("{year}-{month}-{day}"),
        _ => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers() {
        let gcc = "CONFIG_CC_IS_GCC=y\nCONFIG_GCC_VERSION=140200\nCONFIG_CLANG_VERSION=0\n";
        assert_eq!(compiler(gcc), "gcc 14.2.0");
        let clang = "CONFIG_GCC_VERSION=0\nCONFIG_CLANG_VERSION=190107\n";
        assert_eq!(compiler(clang), "clang 19.1.7");
    }

    #[test]
    fn configurations() {
        assert_eq!(configuration("tinyconfig + .config.fragment"), "lab");
        let variant =
            "tinyconfig + .config.fragment patches/7.3/config.fragment tests/config/btf.fragment";
        assert_eq!(configuration(variant), "lab, btf");
        assert_eq!(
            configuration("/home/me/.config + .config.fragment"),
            "one's own (CONFIG=)"
        );
    }

    #[test]
    fn hooks_of_one_kind_and_of_two() {
        let hooks = |all: &[(&str, &str)]| {
            let all = all.iter().map(|(a, b)| (a.to_string(), b.to_string()));
            ways(&all.collect())
        };
        assert_eq!(hooks(&[]), "");
        assert_eq!(hooks(&[("wake", "direct"), ("start", "direct")]), "direct");
        assert_eq!(
            hooks(&[("wake", "kprobe"), ("past", "direct"), ("start", "direct")]),
            "direct: past start; kprobe: wake"
        );
    }

    #[test]
    fn the_better_way_counts() {
        let mut all = BTreeMap::new();
        for way in ["kprobe", "direct", "ftrace"] {
            let hooks = BTreeMap::from([("wake".to_string(), way.to_string())]);
            debugfs::add_hooks(&mut all, &hooks);
        }
        assert_eq!(ways(&all), "direct");
    }

    #[test]
    fn other_machines() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("lab-kernels-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let file = |name: &str, at: &str, why: &str| -> Result<PathBuf> {
            let path = dir.join(name);
            let ran = Ran {
                at: at.into(),
                kernel: Which {
                    release: "7.3.4".into(),
                    compiler: "gcc 14.2.0".into(),
                    from: "Debian's source".into(),
                    configuration: "lab".into(),
                },
                what: "repro".into(),
                ok: why.is_empty(),
                why: why.into(),
                hooks: BTreeMap::new(),
            };
            jsonl::keep(&path, &[ran])?;
            Ok(path)
        };
        let ours = file("ours", "20261127-101500", "")?;
        let other = file("other", "20261126-101500", "11 of 12 rows")?;
        // Whoever is read last, the later one counts.
        assert!(summary(&of_all(&ours, &[other])?)
            .to_string()
            .replace(' ', "")
            .contains("|lab|repro||"));
        let none = of_all(&ours, &[dir.join("none")]).unwrap_err();
        assert!(none.to_string().contains("no such file"), "{none}");
        fs::remove_dir_all(&dir)?;
        Ok(())
    }

    #[test]
    fn the_last_one_counts() {
        let kernel = Which {
            release: "7.3.4".into(),
            compiler: "gcc 14.2.0".into(),
            from: "Debian's source".into(),
            configuration: "lab".into(),
        };
        let ran = |at: &str, ok: bool, why: &str| Ran {
            at: at.into(),
            kernel: kernel.clone(),
            what: "repro".into(),
            ok,
            why: why.into(),
            hooks: BTreeMap::new(),
        };
        let all = [
            ran("20261126-101500", false, "11 of 12 rows"),
            ran("20261127-101500", true, ""),
        ];
        let both = page(&all).to_string();
        assert!(
            both.contains("| ok ") && both.contains("2026-11-27"),
            "{both}"
        );
        assert!(!both.contains("11 of 12"), "{both}");
        let first = page(&all[..1]).to_string();
        assert!(first.contains("no: 11 of 12 rows"), "{first}");
        // In which column says which of the two it is.
        let row = |all: &[Ran]| summary(all).to_string().replace(' ', "");
        assert!(row(&all).contains("|lab|repro||"), "{}", row(&all));
        assert!(
            row(&all[..1]).contains("|lab||repro|"),
            "{}",
            row(&all[..1])
        );
    }
}
