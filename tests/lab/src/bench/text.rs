// SPDX-License-Identifier: GPL-2.0

//! What is printed.

use super::read::by_instructions;
use super::{Bench, Event, Memory, Seen, Throughput, With, ADDED};
use crate::table::table;
use comfy_table::CellAlignment;

/// Once if both rounds agree, else both.
pub fn rounds_text<T: PartialEq + std::fmt::Display>(rounds: &[T]) -> String {
    match rounds {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => first.to_string(),
        _ => rounds
            .iter()
            .map(T::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

pub(super) fn counts_text(all: &Bench, seconds: f64) -> String {
    let mut head = vec!["event", "the call itself"];
    head.extend(ADDED.map(|(_, title)| title));
    head.extend(["to C", "to fentry"]);
    let mut table = table(head);
    for event in all.events.iter().chain(&all.written_page) {
        let mut row = vec![event.what.clone(), rounds_text(&event.nothing)];
        for (with, _) in ADDED {
            row.push(rounds_text(
                event.added.get(&with).map_or(&[][..], Vec::as_slice),
            ));
        }
        for with in [With::C, With::Fentry] {
            row.push(
                event
                    .ratio(with)
                    .map_or("-".to_string(), |r| format!("{r:.2}")),
            );
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let calibration = all.calibration.as_ref().map_or(String::new(), |found| {
        format!(
            "calibration: 100 nops are {}, a loop of 2000 with its initialisation {}; the counter itself is {} of every call\n",
            found.nops_100 - found.empty,
            found.loop_1000 - found.empty,
            found.empty
        )
    });
    let calls = all
        .events
        .first()
        .and_then(|event| event.spread.get(&With::Nothing)?.first().copied())
        .map_or(0, |spread| spread.calls);
    format!(
        "\nInstructions an event, and how many more with each; medians of {calls} calls, in two rounds of one boot\n(one number where both agree); {} under QEMU {} -icount, {seconds:.0} s.\n\n{table}\n\n{calibration}{}{}",
        all.kernel,
        all.qemu,
        seen_text(&all.seen),
        all.written_page.as_ref().map(written_text).unwrap_or_default()
    ) + &memory_text(&all.memory)
}

pub(super) fn memory_text(rounds: &[Memory]) -> String {
    let each = |of: fn(&Memory) -> i64| rounds_text(&rounds.iter().map(of).collect::<Vec<_>>());
    format!(
        "memory: {} KB by vmalloc(), {} KB of them the module; {} KB by alloc_percpu(); {} KB of slab\n",
        each(|m| m.vmalloc),
        each(|m| m.module),
        each(|m| m.percpu),
        each(|m| m.slab),
    )
}

/// Did the C module see what wakewatch saw? Two modules that do different things are no comparison.
pub(super) fn seen_text(seen: &Seen) -> String {
    let of = |with: With, name: &str| -> Vec<u64> {
        let rounds = seen.get(&with).into_iter().flatten();
        rounds
            .map(|counters| counters.get(name).copied().unwrap_or_default())
            .collect()
    };
    let names = [
        "end_writeback",
        "windows_opened",
        "marks_freed",
        "unreferenced",
        "zero_ref",
        "tail",
        "reused",
        "unbalanced",
        "unlocked_start",
    ];
    let differ: Vec<String> = names
        .iter()
        .filter(|name| of(With::Wakewatch, name) != of(With::C, name))
        .map(|name| {
            format!(
                "{name} {:?} and {:?}",
                of(With::Wakewatch, name),
                of(With::C, name)
            )
        })
        .collect();
    let same = if differ.is_empty() {
        "wakewatch and the C module have counted the same events".to_string()
    } else {
        format!(
            "wakewatch and the C module have NOT counted the same events: {}",
            differ.join("; ")
        )
    };
    // bpftrace skips an event that comes in the middle of another one's program.
    format!(
        "{same}; ends of writeback: {:?}, bpftrace {:?}, fentry {:?}\n",
        of(With::Wakewatch, "end_writeback"),
        of(With::Bpftrace, "end_writeback"),
        of(With::Fentry, "end_writeback")
    )
}

pub(super) fn written_text(page: &Event) -> String {
    let found = by_instructions(page);
    let of = |with: With| found.get(&with).copied().unwrap_or_default();
    format!(
        "by instructions alone a writer keeps {:.3} of its speed with wakewatch, {:.3} with empty direct calls, {:.3} with the C module, {:.3} with BPF fentry\n",
        of(With::Wakewatch),
        of(With::Direct),
        of(With::C),
        of(With::Fentry)
    )
}

pub(super) fn throughput_text(found: &Throughput) -> String {
    format!(
        "\nWriting {} MB to ext4 on a loop device and syncing it, {} pairs, {:?}: {:.0} MB/s without wakewatch, {:.0} MB/s with it.\nRatio of the medians {:.3}; of the pairs {:.3} (half of them between {:.3} and {:.3}); the host's load was {:.1} before and {:.1} after.\n",
        found.mb,
        found.pairs.len(),
        found.accel,
        found.off_mb_s,
        found.on_mb_s,
        found.ratio,
        found.quartiles[1],
        found.quartiles[0],
        found.quartiles[2],
        found.load[0],
        found.load[1]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_rounds_are_shown_where_they_differ() {
        assert_eq!(rounds_text(&[5, 5]), "5");
        assert_eq!(rounds_text(&[5, 6]), "5, 6");
    }
}
