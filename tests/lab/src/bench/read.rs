// SPDX-License-Identifier: GPL-2.0

//! What the guests have said, and what comes of it in numbers.

use super::{
    Calibration, Cases, Event, Memory, Pair, Seen, Spread, Throughput, With, ADDED, ROUNDS,
};
use crate::debugfs::word;
use crate::kvm::Accel;
use anyhow::{bail, Context, Result};
use std::collections::BTreeMap;
use std::num::ParseIntError;
use std::str::FromStr;

/// `# count WITH ROUND CASE min=.. ...` and `# seen WITH ROUND NAME=VALUE`.
/// All of `whole` must have been measured in every round.
pub(super) fn parse_counts<'a>(
    lines: impl Iterator<Item = &'a str>,
    whole: &[With],
) -> Result<(Cases, Seen)> {
    let mut cases = Cases::new();
    let mut seen = Seen::new();
    for line in lines {
        let mut words = line.split_whitespace();
        if words.next() != Some("#") {
            continue;
        }
        let (Some(kind), Some(with), Some(round)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (Some(with), Ok(round)) = (With::named(with), round.parse::<usize>()) else {
            continue;
        };
        match kind {
            "count" => {
                let name = words.next().unwrap_or_default().to_string();
                let rest: Vec<&str> = words.collect();
                let spread = parse_spread(&rest).with_context(|| line.to_string())?;
                let rounds = cases.entry(name).or_default().entry(with).or_default();
                if rounds.len() + 1 != round {
                    bail!("round {round} out of turn: {line}");
                }
                rounds.push(spread);
            }
            "seen" => {
                let rounds = seen.entry(with).or_default();
                rounds.resize(rounds.len().max(round), BTreeMap::new());
                if let (Some(last), Some((name, value))) = (
                    rounds.last_mut(),
                    words.next().and_then(|word| word.split_once('=')),
                ) {
                    last.insert(name.to_string(), value.parse()?);
                }
            }
            _ => {}
        }
    }
    for (name, by_with) in &cases {
        for with in whole {
            let rounds = by_with.get(with).map_or(0, Vec::len);
            if rounds != ROUNDS {
                bail!("{name} was measured {rounds} times with {with:?}, not {ROUNDS} times");
            }
        }
    }
    Ok((cases, seen))
}

/// What a guest with nothing hooked (price.sh) has to say: each case, a spread for each round. An
/// error, if instructions were not what it counted.
pub fn unhooked<'a>(lines: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, Vec<Spread>>> {
    let (cases, _) = parse_counts(lines, &[With::Nothing])?;
    calibration(&cases)?;
    Ok(cases
        .into_iter()
        .filter_map(|(name, mut spreads)| Some((name, spreads.remove(&With::Nothing)?)))
        .collect())
}

/// The number behind `NAME=`.
pub(super) fn number<T>(words: &[&str], name: &str) -> Result<T>
where
    T: FromStr<Err = ParseIntError>,
{
    let word = word(words.iter().copied(), name).with_context(|| format!("no {name}="))?;
    Ok(word.parse()?)
}

pub(super) fn parse_spread(words: &[&str]) -> Result<Spread> {
    let value = |name| number(words, name);
    Ok(Spread {
        min: value("min")?,
        p10: value("p10")?,
        median: value("median")?,
        p90: value("p90")?,
        max: value("max")?,
        calls: value("calls")?,
    })
}

/// `# memory ROUND slab_kb=.. vmalloc_kb=.. percpu_kb=.. module_kb=..`, one for each round.
pub(super) fn parse_memory<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Memory>> {
    let rounds: Vec<Memory> = lines
        .filter_map(|line| line.strip_prefix("# memory "))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let value = |name| number(&words, name).with_context(|| line.to_string());
            Ok(Memory {
                slab: value("slab_kb")?,
                vmalloc: value("vmalloc_kb")?,
                percpu: value("percpu_kb")?,
                module: value("module_kb")?,
            })
        })
        .collect::<Result<_>>()?;
    if rounds.len() != ROUNDS {
        bail!("memory was looked at {} times", rounds.len());
    }
    Ok(rounds)
}

/// `# write off|on PAIR us=.. mb=..`: the pairs, and the megabytes of each write.
pub(super) fn parse_pairs<'a>(lines: impl Iterator<Item = &'a str>) -> Result<(Vec<Pair>, u64)> {
    let mut pairs: BTreeMap<usize, Pair> = BTreeMap::new();
    let mut mb = 0;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["#", "write", which, pair, us, size] = words[..] else {
            continue;
        };
        let pair = pairs.entry(pair.parse()?).or_default();
        let us = us.strip_prefix("us=").context("no us=")?.parse()?;
        mb = size.strip_prefix("mb=").context("no mb=")?.parse()?;
        match which {
            "off" => pair.off = us,
            "on" => pair.on = us,
            _ => bail!("neither off nor on: {line}"),
        }
    }
    let pairs: Vec<Pair> = pairs.into_values().collect();
    if pairs.is_empty() || pairs.iter().any(|pair| pair.off == 0 || pair.on == 0) {
        bail!("the guest did not measure pairs of writes");
    }
    Ok((pairs, mb))
}

/// All rounds must have counted what is there, or nothing of the table is true.
pub(super) fn calibration(cases: &Cases) -> Result<Calibration> {
    let all = |name: &str| -> Result<Vec<Spread>> {
        let case = cases
            .get(name)
            .with_context(|| format!("{name} was not measured"))?;
        Ok(case.values().flatten().copied().collect())
    };
    let (empty, nops, turns) = (all("nothing")?, all("nops_100")?, all("loop_1000")?);
    let first = |spreads: &[Spread]| spreads.first().map_or(0, |spread| spread.median);
    let found = Calibration {
        empty: first(&empty),
        nops_100: first(&nops),
        loop_1000: first(&turns),
    };
    let steady = [&empty, &nops, &turns]
        .iter()
        .all(|spreads| spreads.iter().all(|s| s.median == first(spreads)));
    let loops = found.loop_1000.wrapping_sub(found.empty);
    if !steady || found.nops_100.wrapping_sub(found.empty) != 100 || !(2000..=2002).contains(&loops)
    {
        bail!(
            "this QEMU does not count instructions: {} for 100 nops, {loops} for a loop of 2000{}",
            found.nops_100.wrapping_sub(found.empty),
            if steady {
                ""
            } else {
                ", and not the same each time"
            }
        );
    }
    Ok(found)
}

/// A row. `parts` is how many events the case is made of.
pub(super) fn event(cases: &Cases, name: &str, what: &str, parts: u64) -> Result<Event> {
    let case = cases
        .get(name)
        .with_context(|| format!("the guest did not measure {name}"))?;
    let each = |value: u64| (value + parts / 2) / parts;
    let mut nothing = Vec::new();
    let mut added: BTreeMap<With, Vec<i64>> = BTreeMap::new();
    for round in 0..ROUNDS {
        let median = |with: With| {
            case.get(&with)
                .and_then(|rounds| rounds.get(round))
                .map_or(0, |spread| each(spread.median))
        };
        nothing.push(median(With::Nothing));
        for (with, _) in ADDED {
            let more = median(with) as i64 - median(With::Nothing) as i64;
            added.entry(with).or_default().push(more);
        }
    }
    Ok(Event {
        name: name.to_string(),
        what: what.to_string(),
        nothing,
        added,
        spread: case.clone(),
    })
}

/// How fast a writer would be if each instruction took the same time: a figure without noise beside the measured one.
pub(super) fn by_instructions(page: &Event) -> BTreeMap<With, f64> {
    let whole = page.nothing.iter().max().copied().unwrap_or_default() as f64;
    page.added
        .keys()
        .map(|&with| (with, whole / (whole + page.worst(with) as f64)))
        .collect()
}

pub(super) fn throughput(
    accel: Accel,
    mb: u64,
    pairs: Vec<Pair>,
    load: [f64; 2],
) -> Result<Throughput> {
    let rate = |us: u64| mb as f64 * 1e6 / us as f64;
    let off = quartiles(pairs.iter().map(|pair| rate(pair.off)).collect())?[1];
    let on = quartiles(pairs.iter().map(|pair| rate(pair.on)).collect())?[1];
    let each = pairs
        .iter()
        .map(|pair| pair.off as f64 / pair.on as f64)
        .collect();
    Ok(Throughput {
        accel,
        mb,
        ratio: on / off,
        quartiles: quartiles(each)?,
        off_mb_s: off,
        on_mb_s: on,
        load,
        pairs,
    })
}

/// First quartile, median, third quartile, by the nearest of the values (a median of two is their mean).
pub(super) fn quartiles(mut values: Vec<f64>) -> Result<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let at = |i: usize| values.get(i).copied().context("no values");
    let median = (at(n / 2)? + at(n.saturating_sub(1) / 2)?) / 2.0;
    Ok([at(n / 4)?, median, at((3 * n / 4).min(n - 1))?])
}

#[cfg(test)]
mod tests {
    use super::super::goals::events_goal;
    use super::super::EVERYTHING;
    use super::*;

    fn lines(case: &str, medians: [u64; 8]) -> Vec<String> {
        let names = [
            "none",
            "kprobe",
            "ftrace",
            "direct",
            "wakewatch",
            "c",
            "bpftrace",
            "fentry",
        ];
        (1..=2)
            .flat_map(|round| {
                names.iter().zip(medians).map(move |(with, n)| {
                    format!("# count {with} {round} {case} min={n} p10={n} median={n} p90={n} max={n} calls=5")
                })
            })
            .collect()
    }

    fn cases(all: &[Vec<String>]) -> Cases {
        parse_counts(all.iter().flatten().map(String::as_str), &EVERYTHING)
            .unwrap()
            .0
    }

    #[test]
    fn memory_is_looked_at_in_each_round() {
        let line = "# memory 1 slab_kb=12 vmalloc_kb=900 percpu_kb=-4 module_kb=300";
        let memory = parse_memory([line, line].into_iter()).unwrap();
        assert_eq!((memory[0].vmalloc, memory[1].percpu), (900, -4));
        assert!(parse_memory([line].into_iter()).is_err());
        let lacking = parse_memory(["# memory 1 slab_kb=12"].into_iter());
        let said = format!("{:#}", lacking.unwrap_err());
        assert!(said.ends_with("no vmalloc_kb="), "{said}");
    }

    #[test]
    fn counts_become_rows() {
        let cases = cases(&[lines("free", [200, 210, 210, 205, 250, 240, 900, 700])]);
        let event = event(&cases, "free", "page freed", 1).unwrap();
        assert_eq!(event.nothing, [200, 200]);
        assert_eq!(event.worst(With::Wakewatch), 50);
        assert_eq!(event.ratio(With::C), Some(1.25));
        assert_eq!(event.ratio(With::Fentry), Some(0.1));
        let goal = events_goal(&[event], With::C, 1.0, "x");
        assert!(!goal.met && goal.found == "above in 1 of 1: page freed 1.25");
    }

    #[test]
    fn a_missing_round_is_an_error() {
        let mut all = lines("free", [1, 2, 3, 4, 5, 6, 7, 8]);
        all.pop();
        assert!(parse_counts(all.iter().map(String::as_str), &EVERYTHING).is_err());
    }

    #[test]
    fn calibration_must_come_out() {
        let good = cases(&[
            lines("nothing", [2; 8]),
            lines("nops_100", [102; 8]),
            lines("loop_1000", [2003; 8]),
        ]);
        assert_eq!(calibration(&good).unwrap().empty, 2);
        let clock = cases(&[
            lines("nothing", [30; 8]),
            lines("nops_100", [95; 8]),
            lines("loop_1000", [1040; 8]),
        ]);
        assert!(calibration(&clock).is_err());
        let unsteady = cases(&[
            lines("nothing", [2; 8]),
            lines("nops_100", [102, 102, 102, 102, 102, 102, 102, 103]),
            lines("loop_1000", [2003; 8]),
        ]);
        assert!(calibration(&unsteady).is_err());
    }

    #[test]
    fn pairs() {
        let text = [
            "# write off 1 us=100 mb=4",
            "# write on 2 us=220 mb=4",
            "# write on 1 us=110 mb=4",
            "# write off 2 us=200 mb=4",
        ];
        let (pairs, mb) = parse_pairs(text.into_iter()).unwrap();
        assert_eq!((pairs.len(), mb), (2, 4));
        let found = throughput(Accel::Tcg, mb, pairs, [0.0, 0.0]).unwrap();
        assert!((found.quartiles[1] - 1.0 / 1.1).abs() < 1e-9);
        assert!(parse_pairs(["# write off 1 us=100 mb=4"].into_iter()).is_err());
    }
}
