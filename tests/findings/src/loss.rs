// SPDX-License-Identifier: GPL-2.0

//! One loss, told in two ways.
//!
//! A page that is freed in the window of its wake is nobody's at first and somebody else's then. Which of the
//! two the wake finds is decided by how busy the machine is, so `zero-ref` and `reused` are told of the same
//! bug, and who wants to see the one has to put up with the other beside it.

use crate::{Findings, Report};

/// The verdict that the same loss has at another hour.
fn twin(verdict: &str) -> Option<&'static str> {
    match verdict {
        "reused" => Some("zero-ref"),
        "zero-ref" => Some("reused"),
        _ => None,
    }
}

impl Findings {
    /// Without the reports that only say in the other way what others say with `headline`, which is a verdict and an
    /// event as "reused wake of PG_writeback": of the same event at the same caller, of a page that
    /// was freed in the window.
    pub fn of_loss(mut self, headline: &str) -> Self {
        let Some((verdict, event)) = headline.split_once(' ') else {
            return self;
        };
        let Some(twin) = twin(verdict) else {
            return self;
        };
        let told = |report: &Report, verdict| report.verdict == verdict && report.event() == event;
        let callers: Vec<String> = self
            .reports
            .iter()
            .filter(|report| told(report, verdict))
            .map(|report| report.caller().to_string())
            .collect();
        self.reports.retain(|report| {
            !(told(report, twin)
                && report.word("freed").is_some()
                && callers.iter().any(|caller| caller == report.caller()))
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REUSED: &str = "reused wake of PG_writeback";

    fn left(reports: &[(&str, &str)], headline: &str) -> usize {
        let text = reports.iter().map(|(headline, story)| {
            format!("BUG: wakewatch: {headline}\nstory:\nwakewatch: story {story}\n=====\n")
        });
        Findings::of_text(&text.collect::<Vec<_>>().concat())
            .of_loss(headline)
            .reports
            .len()
    }

    #[test]
    fn both_verdicts_tell_of_one_loss() {
        let reused = (
            "reused wake of PG_writeback in f",
            "freed=1 allocated=2 wake=3",
        );
        let free = ("zero-ref wake of PG_writeback in f", "freed=1 wake=3");
        assert_eq!(left(&[free, reused], REUSED), 1);
        assert_eq!(left(&[free, reused], "zero-ref wake of PG_writeback"), 1);
        // The headline itself has to be there.
        assert_eq!(left(&[free], REUSED), 1);
    }

    #[test]
    fn nothing_else_does() {
        let reused = (
            "reused wake of PG_writeback in f",
            "freed=1 allocated=2 wake=3",
        );
        for other in [
            ("zero-ref wake of PG_writeback in g", "freed=1 wake=3"),
            ("zero-ref wake of PG_locked in f", "freed=1 wake=3"),
            ("zero-ref wake of PG_writeback in f", "wake=3"),
            ("tail wake of PG_writeback in f", "freed=1 wake=3"),
        ] {
            assert_eq!(left(&[reused, other], REUSED), 2, "{other:?}");
        }
        let tail = "tail wake of PG_writeback";
        assert_eq!(
            left(
                &[reused, ("tail wake of PG_writeback in f", "freed=1")],
                tail
            ),
            2
        );
    }
}
