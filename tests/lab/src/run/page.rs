// SPDX-License-Identifier: GPL-2.0

//! What a run has come to, for people.

use super::judge::{Judgement, Who};
use crate::debugfs::{self, Caller};
use crate::guest::Guest;
use crate::table::table;

/// Lines of a story; a lockdep splat has hundreds, and the console all of them.
const STORY: usize = 60;

pub fn page(judgement: &Judgement, guest: &Guest) -> String {
    let mut text = String::new();
    if judgement.findings.is_empty() {
        text.push_str("\nNeither wakewatch nor the kernel nor the program had anything to say.\n");
    } else {
        let mut findings = table(["who", "what", "times", "first at", "counts"]);
        for f in &judgement.findings {
            findings.add_row([
                f.who.to_string(),
                f.headline.clone(),
                f.count.to_string(),
                f.first.map_or(String::new(), |at| format!("{at:.2} s")),
                f.excused
                    .map_or("yes".to_string(), |why| format!("no: {why}")),
            ]);
        }
        text.push_str(&format!("\n{findings}\n"));
    }
    for f in judgement.findings.iter().filter(|f| f.who != Who::Program) {
        if f.story.len() > 1 {
            text.push_str(&format!(
                "\nThe first of {} times, {}:\n\n",
                f.count, f.headline
            ));
            for line in f.story.iter().take(STORY) {
                text.push_str(&format!("    {line}\n"));
            }
            if f.story.len() > STORY {
                text.push_str(&format!("    ({} more lines)\n", f.story.len() - STORY));
            }
        }
    }
    if let Some(snapshot) = super::snapshot(&guest.dir) {
        let counted = debugfs::findings(|name| snapshot.stat(name));
        if !counted.is_empty() {
            let counted = debugfs::by_verdict(&counted);
            text.push_str(&format!("\ncounted, printed or not: {counted}\n"));
        }
        let all = Caller::all(snapshot.callers.clone());
        let total = all.len();
        let deficit: Vec<Caller> = all.into_iter().filter(Caller::has_deficit).collect();
        text.push_str(&format!(
            "\n{} of {total} call sites with a deficit{}\n",
            deficit.len(),
            if deficit.is_empty() { "" } else { ":" }
        ));
        if !deficit.is_empty() {
            text.push_str(&format!("\n{}\n", debugfs::callers_table(&deficit)));
        }
    }
    let mut rounds = table([
        "rounds",
        "how they ended",
        "the first of them",
        "its last line",
    ]);
    for kind in &judgement.rounds {
        rounds.add_row([
            kind.rounds.to_string(),
            kind.end.clone(),
            kind.first.to_string(),
            kind.last_line.clone(),
        ]);
    }
    if !judgement.rounds.is_empty() {
        text.push_str(&format!("\n{rounds}\n"));
    }
    for f in judgement.findings.iter().filter(|f| f.who == Who::Program) {
        if f.story.len() > 1 {
            text.push_str(&format!(
                "\n{}\n\n    {}\n",
                f.headline,
                f.story.join("\n    ")
            ));
        }
    }
    text
}
