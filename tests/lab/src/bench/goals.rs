// SPDX-License-Identifier: GPL-2.0

//! What was aimed at, and what became of it.

use super::{Bench, Event, Goal, With};

/// Of an empty direct hook, in instructions.
const HOOK_GOAL: i64 = 35;
/// Of a page written, all in all: two per cent.
const PAGE_GOAL: i64 = 243;

pub(super) fn goals(all: &Bench) -> Vec<Goal> {
    let mut goals = Vec::new();
    if !all.events.is_empty() {
        goals.push(events_goal(
            &all.events,
            With::C,
            1.0,
            "not above the C module",
        ));
        goals.push(events_goal(
            &all.events,
            With::Fentry,
            0.5,
            "under half of BPF fentry",
        ));
        goals.push(hook_goal(&all.events));
    }
    if let Some(page) = &all.written_page {
        let found = page.worst(With::Wakewatch);
        goals.push(Goal {
            goal: format!("at most {PAGE_GOAL} instructions more for a page written"),
            met: found <= PAGE_GOAL,
            found: found.to_string(),
        });
    }
    if let Some(found) = &all.throughput {
        goals.push(Goal {
            goal: "0.98 of the write throughput".to_string(),
            met: found.ratio >= 0.98,
            found: format!("{:.3}", found.ratio),
        });
    }
    goals
}

/// The dearest of the functions' hooks: of a case with one event in it.
pub(super) fn hook_goal(events: &[Event]) -> Goal {
    let one = ["start_writeback", "end_writeback", "end_read"];
    let most = events
        .iter()
        .filter(|event| one.contains(&event.name.as_str()))
        .map(|event| event.worst(With::Direct))
        .max()
        .unwrap_or_default();
    Goal {
        goal: format!("at most {HOOK_GOAL} instructions for an empty direct hook"),
        met: most <= HOOK_GOAL,
        found: most.to_string(),
    }
}

pub(super) fn events_goal(events: &[Event], to: With, limit: f64, goal: &str) -> Goal {
    let ratios: Vec<(&str, f64)> = events
        .iter()
        .filter_map(|event| Some((event.what.as_str(), event.ratio(to)?)))
        .collect();
    let above: Vec<String> = ratios
        .iter()
        .filter(|(_, ratio)| *ratio > limit)
        .map(|(what, ratio)| format!("{what} {ratio:.2}"))
        .collect();
    let found = if above.is_empty() {
        let worst = ratios
            .iter()
            .map(|(_, ratio)| *ratio)
            .fold(0.0f64, f64::max);
        format!("{worst:.2} at most")
    } else {
        format!(
            "above in {} of {}: {}",
            above.len(),
            ratios.len(),
            above.join("; ")
        )
    };
    Goal {
        goal: goal.to_string(),
        met: above.is_empty(),
        found,
    }
}
