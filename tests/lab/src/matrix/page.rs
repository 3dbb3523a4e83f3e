// SPDX-License-Identifier: GPL-2.0

//! matrix.html: one page that needs no other file and no network.

use super::races::RACES;
use super::row::{Mark, Row};
use super::saved::Matrix;
use super::{price, reads, stress};
use crate::debugfs::length;
use maud::{html, Markup, PreEscaped, DOCTYPE};

const STYLE: &str = "
body { font: 16px/1.5 sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1em 0 }
th, td { border-bottom: 1px solid #ccc; padding: .3em .7em; text-align: left; vertical-align: top }
td.lost { background: #fbdcd8 } td.ok { background: #e1f2e1 } td.differs { background: #fdf0c8 }
td.n { text-align: right; font-variant-numeric: tabular-nums }
ol { margin-top: .3em } code { font-size: .95em } small { color: #555 }
svg text { font: 12px sans-serif; fill: #222 }
";

pub fn page(all: &Matrix) -> String {
    let rows = all.rows;
    let has = |part: fn(&Row) -> bool| rows.iter().any(part);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "wakewatch: every proposal" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Every proposal for the end of writeback" }
                p { "Linux " (all.kernel) ", QEMU " (all.qemu) ", " (format!("{:?}", all.accel)) "." }
                @if has(|row| !row.cells.is_empty()) { (races(rows)) }
                @if has(|row| row.stress.is_some() || row.alarms.is_some()) { (stressed(rows)) }
                @if has(|row| row.stress.as_ref().is_some_and(|s| !s.windows.is_empty())) { (windows(rows)) }
                @if has(|row| row.price.is_some()) { (priced(rows)) }
                (counterexamples(rows))
                @if !all.reads.is_empty() { (ends_of_reads(all.reads)) }
            }
        }
    }
    .into_string()
}

fn races(rows: &[Row]) -> Markup {
    html! {
        h2 { "The races" }
        p { "Measured, and behind a “/” what the exhaustive model says, where it says otherwise. The cell's title says why." }
        table {
            tr { th { "kernel" } @for (race, what) in RACES { th title=(what) { (race) } } th { "wakewatch said" } }
            @for row in rows {
                tr {
                    th title=(row.about) { (row.key) }
                    @for (race, _) in RACES {
                        @let (text, class) = row.sign(race);
                        @let why = row.cells.get(*race).map_or("", |cell| cell.evidence.as_str());
                        td class=(class) title=(why) { (text) }
                    }
                    td { (row.said()) }
                }
            }
        }
        ul { @for (race, what) in RACES { li { code { (race) } ": " (what) } } }
    }
}

fn stressed(rows: &[Row]) -> Markup {
    html! {
        h2 { "Two minutes of mixed work, with a delay on some pages" }
        table {
            tr { th { "kernel" } th { "2 min" } th { "data" } th { "delays" } th { "ends of writeback" } th { "alarms" } th { "what came of it" } }
            @for row in rows.iter().filter(|row| row.stress.is_some() || row.alarms.is_some()) {
                tr {
                    th { (row.key) }
                    @match &row.stress {
                        Some(stress) => {
                            td class=(if stress.mark == Mark::Lost { "lost" } else { "ok" }) { (stress.mark.sign()) }
                            td { (stress.data()) }
                            td.n { (stress.delays) }
                            td.n { (stress.end_writeback) }
                        }
                        None => { td {} td {} td {} td {} }
                    }
                    td { (stress::alarms(row)) }
                    td { (row.stress.as_ref().map_or("", |stress| stress.evidence.as_str())) }
                }
            }
        }
        p { small { "A guest that died has no counters." } }
    }
}

/// A bar for each power of two.
fn windows(rows: &[Row]) -> Markup {
    html! {
        h2 { "How long windows were" }
        p { "From the clear to the wake-up, in the two minutes above: windows that a wake-up has ended, by length; the delay's own are the long ones. The scale of the bars is logarithmic." }
        @for row in rows {
            @if let Some(stress) = row.stress.as_ref().filter(|stress| !stress.windows.is_empty()) {
                h3 { (row.key) }
                @let most = stress.windows.values().max().copied().unwrap_or(1);
                @let bars: Vec<(String, f64, String)> = stress.windows.iter()
                    .map(|(log, n)| (length(*log), log_share(*n, most), n.to_string()))
                    .collect();
                (bar_chart(&bars))
            }
        }
    }
}

fn priced(rows: &[Row]) -> Markup {
    html! {
        h2 { "What an end of writeback costs" }
        @for (case, what) in price::PRICES.iter().filter(|(case, _)| case.starts_with("end_")) {
            h3 { (what) ", in instructions" }
            @let counted: Vec<(String, u64)> = rows.iter()
                .filter_map(|row| Some((row.key.clone(), *price::instructions(row, case)?.first()?)))
                .collect();
            @let most = counted.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1);
            @let bars: Vec<(String, f64, String)> = counted.iter()
                .map(|(key, n)| (key.clone(), *n as f64 / most as f64, n.to_string()))
                .collect();
            (bar_chart(&bars))
        }
    }
}

/// The second table.
fn ends_of_reads(rows: &[Row]) -> Markup {
    html! {
        h1 { "Every fix for the end of a read" }
        table {
            tr { th { "kernel" } @for (race, what) in reads::RACES { th title=(what) { (race) } } th { "wakewatch said" } }
            @for row in rows {
                tr {
                    th title=(row.about) { (row.key) }
                    @for (race, _) in reads::RACES {
                        @let (text, class) = row.sign(race);
                        @let why = row.cells.get(*race).map_or("", |cell| cell.evidence.as_str());
                        td class=(class) title=(why) { (text) }
                    }
                    td { (row.said()) }
                }
            }
        }
        ul { @for (race, what) in reads::RACES { li { code { (race) } ": " (what) } } }
        @if rows.iter().any(|row| row.price.is_some()) {
            h2 { "What an end of a read costs" }
            p { "Instructions, and in brackets the locked ones among them; of files, a page." }
            table {
                tr { th { "kernel" } @for (_, what) in reads::PRICES { th { (what) } } }
                @for row in rows {
                    tr {
                        th title=(row.about) { (row.key) }
                        @for n in 0..reads::PRICES.len() { td.n { (reads::priced(row, n).unwrap_or_default()) } }
                    }
                }
            }
        }
    }
}

fn counterexamples(rows: &[Row]) -> Markup {
    html! {
        h2 { "How each is lost: the model's shortest way" }
        @for row in rows.iter().filter(|row| !row.model.is_empty()) {
            h3 { (row.key) }
            p { (row.about) }
            @for (race, steps) in &row.model {
                details {
                    summary { (race) ", " (steps.len()) " steps" }
                    ol { @for step in steps { li { (step) } } }
                }
            }
        }
    }
}

/// Bars with a name before and a number behind each; their lengths are parts of 1.
fn bar_chart(bars: &[(String, f64, String)]) -> Markup {
    const ROW: usize = 20;
    const NAME: f64 = 190.0;
    const WIDTH: f64 = 480.0;
    html! {
        svg width="760" height=(bars.len() * ROW + 4) role="img" {
            @for (n, (name, share, number)) in bars.iter().enumerate() {
                @let y = n * ROW;
                @let width = share.clamp(0.0, 1.0) * WIDTH;
                text x=(NAME - 8.0) y=(y + 14) text-anchor="end" { (name) }
                rect x=(NAME) y=(y + 3) width=(format!("{width:.1}")) height=(ROW - 6) fill="#4a78a8" {}
                text x=(format!("{:.1}", NAME + width + 6.0)) y=(y + 14) { (number) }
            }
        }
    }
}

/// Of 1 for the most, by the number's logarithm; a single one is still to be seen.
fn log_share(n: u64, most: u64) -> f64 {
    ((n + 1) as f64).ln() / ((most + 1) as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::Accel;
    use std::collections::BTreeMap;

    #[test]
    fn the_page_has_what_was_measured_and_needs_no_other() {
        let mut row = Row::new("broken", "a <b>");
        row.model = BTreeMap::from([("tail".to_string(), vec!["one & two".to_string()])]);
        row.stress = Some(stress::Stress {
            mark: Mark::Lost,
            evidence: "kernel BUG at x".to_string(),
            verified: None,
            end_writeback: 7,
            delays: 1,
            verdicts: BTreeMap::new(),
            windows: BTreeMap::from([(14, 3)]),
            log: "log".into(),
        });
        let all = Matrix {
            races: BTreeMap::new(),
            kernel: "6.12".to_string(),
            qemu: "10",
            accel: Accel::Tcg,
            rows: &[row],
            reads: &[Row::new("read-lock", "c")],
        };
        let html = page(&all);
        for want in [
            "one &amp; two",
            "kernel BUG at x",
            "16 us",
            "a &lt;b&gt;",
            "read-lock",
        ] {
            assert!(html.contains(want), "{want}");
        }
        assert!(!html.contains("http") && !html.contains("src="));
    }
}
