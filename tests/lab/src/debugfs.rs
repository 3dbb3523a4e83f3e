// SPDX-License-Identifier: GPL-2.0

//! wakewatch's files in debugfs, as guests leave them: `stats` with a counter to a line, `callers` and
//! `windows` with `name=value` words, the latter with a histogram by powers of two.

use comfy_table::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// The counters of findings. The verdict is called the same, with dashes.
const FINDINGS: [&str; 6] = [
    "zero_ref",
    "tail",
    "reused",
    "unreferenced",
    "unbalanced",
    "unlocked_start",
];

/// The counters of `stats`.
pub fn stats(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_string(), value.trim().parse().ok()?))
        })
        .collect()
}

/// How functions are hooked, by `stats`: those that are.
pub fn hooks(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("hook_")?.split_once(": "))
        .filter(|(_, way)| *way != "off")
        .map(|(function, way)| (function.to_string(), way.to_string()))
        .collect()
}

/// The ways to hook, in the order in which they are tried (rust/hook/entry.rs).
const WAYS: [&str; 3] = ["direct", "ftrace", "kprobe"];

/// Adds to how functions were hooked. Of two ways it is the better one: a script may have asked for another.
pub fn add_hooks(all: &mut BTreeMap<String, String>, more: &BTreeMap<String, String>) {
    let place = |way: &str| WAYS.iter().position(|&w| w == way).unwrap_or(WAYS.len());
    for (function, way) in more {
        let best = all.entry(function.clone()).or_insert_with(|| way.clone());
        if place(way) < place(best) {
            *best = way.clone();
        }
    }
}

/// Those findings that there are, by verdict; `count` says how many a counter has.
pub fn findings(count: impl Fn(&str) -> u64) -> BTreeMap<String, u64> {
    FINDINGS
        .iter()
        .map(|name| (name.replace('_', "-"), count(name)))
        .filter(|(_, n)| *n > 0)
        .collect()
}

/// "tail 1, unreferenced 3"
pub fn by_verdict(findings: &BTreeMap<String, u64>) -> String {
    let parts = findings.iter().map(|(name, n)| format!("{name} {n}"));
    parts.collect::<Vec<_>>().join(", ")
}

/// `name=` among words.
pub fn word<'a>(mut words: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The `power:count` words of a line of `windows`: so many windows lasted at least 2 to this power, in ns.
pub fn buckets(line: &str) -> impl Iterator<Item = (u32, u64)> + '_ {
    line.split_whitespace().filter_map(|word| {
        let (power, n) = word.split_once(':')?;
        Some((u32::from_str(power).ok()?, u64::from_str(n).ok()?))
    })
}

/// "66 us": where the bucket of this power of two begins.
pub fn length(power: u32) -> String {
    let ns = 2f64.powi(power.min(63) as i32);
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.0} us", ns / 1e3),
        ns if ns < 1e9 => format!("{:.0} ms", ns / 1e6),
        ns => format!("{:.0} s", ns / 1e9),
    }
}

/// Site and caller.
pub type Place = (String, String);

/// The three files, as lib.sh's snapshot() keeps them.
#[derive(Default)]
pub struct Snapshot {
    pub stats: BTreeMap<String, u64>,
    /// calls and none
    pub callers: BTreeMap<Place, (u64, u64)>,
    /// Counts by power of two.
    pub windows: BTreeMap<Place, BTreeMap<u32, u64>>,
}

impl Snapshot {
    pub fn parse(text: &str) -> Self {
        let mut all = Self::default();
        let mut part = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("== ") {
                part = name;
                continue;
            }
            let word = |name| self::word(line.split_whitespace(), name);
            let place = || Some((word("site")?.to_string(), word("caller")?.to_string()));
            match part {
                "stats" => {
                    all.stats.extend(stats(line));
                }
                "callers" => {
                    let count = |name| word(name).and_then(|n| n.parse().ok());
                    if let (Some(place), Some(calls), Some(none)) =
                        (place(), count("calls"), count("none"))
                    {
                        all.callers.insert(place, (calls, none));
                    }
                }
                "windows" => {
                    let Some(place) = place() else { continue };
                    all.windows.insert(place, buckets(line).collect());
                }
                _ => {}
            }
        }
        all
    }

    pub fn read(path: &Path) -> Option<Self> {
        let snapshot = Self::parse(&fs::read_to_string(path).ok()?);
        (!snapshot.stats.is_empty()).then_some(snapshot)
    }

    pub fn stat(&self, name: &str) -> u64 {
        self.stats.get(name).copied().unwrap_or(0)
    }
}

/// A call site of `callers`, for people and for files.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Caller {
    site: String,
    caller: String,
    calls: u64,
    none: u64,
}

impl Caller {
    pub fn all(callers: BTreeMap<Place, (u64, u64)>) -> Vec<Self> {
        let all = callers.into_iter();
        all.map(|((site, caller), (calls, none))| Self {
            site,
            caller,
            calls,
            none,
        })
        .collect()
    }

    /// Counts its calls there.
    pub fn add_to(&self, callers: &mut BTreeMap<Place, (u64, u64)>) {
        let place = (self.site.clone(), self.caller.clone());
        let sum = callers.entry(place).or_insert((0, 0));
        *sum = (sum.0 + self.calls, sum.1 + self.none);
    }

    /// Has a call relied on somebody else's reference?
    pub fn has_deficit(&self) -> bool {
        self.none > 0
    }
}

pub fn callers_table(callers: &[Caller]) -> Table {
    let mut table = crate::table::table(["site", "caller", "calls", "without a reference"]);
    for c in callers {
        table.add_row([
            c.site.clone(),
            c.caller.clone(),
            c.calls.to_string(),
            c.none.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken() {
        assert_eq!(
            hooks("wake: 12\nhook_wake: direct\nhook_unlock: off\n"),
            BTreeMap::from([("wake".to_string(), "direct".to_string())])
        );
        let all = stats("wake: 12\nzero_ref: 0\nversion: x\n\n");
        assert_eq!(all.get("wake"), Some(&12));
        assert_eq!(all.len(), 2);
    }
}
