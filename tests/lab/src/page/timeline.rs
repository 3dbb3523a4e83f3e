// SPDX-License-Identifier: GPL-2.0

//! A story as a picture: time goes down, each CPU has a lane. It is to scale; where most of it happens in a
//! small part of the time, a second picture has that part alone, also to scale.

use super::story::{Event, Story, What};
use maud::{html, Markup};

const AXIS: f64 = 62.0;
const LANE: f64 = 118.0;
const HEAD: f64 = 26.0;
/// Of the time from the first event to the last one.
const HEIGHT: f64 = 300.0;
/// What is written at an event: lines, and the space to the next one.
const LINE: f64 = 14.0;
const LABEL: f64 = 4.0 * LINE + 8.0;
/// From a lane's line to what is written beside it, and below the event, so that nothing crosses it.
const LEAD: f64 = 12.0;
const BELOW: f64 = 13.0;

/// How an event is called in a picture: by a letter, so that colours are not needed.
pub fn letter(what: What) -> &'static str {
    match what {
        What::Clear => "C",
        What::Freed => "F",
        What::Allocated => "A",
        What::Started => "S",
        What::Wake => "W",
    }
}

/// The class that gives it a colour.
pub fn class(what: What) -> &'static str {
    match what {
        What::Clear => "clear",
        What::Freed => "freed",
        What::Allocated => "allocated",
        What::Started => "started",
        What::Wake => "wake",
    }
}

/// "+0.179 ms"
pub fn since_clear(ns: i64) -> String {
    format!("{:+.3} ms", ns as f64 / 1e6)
}

/// One thing in a lane.
struct Item {
    lane: usize,
    ns: i64,
    letter: &'static str,
    class: &'static str,
    /// What, when, and who in two lines.
    text: [String; 4],
    /// All of it, for who can't see it.
    told: String,
    target: String,
}

/// The part of the time that most of it happens in, if that is a small one: there it is to be seen what is
/// before what.
fn crowd(events: &[Event]) -> Option<(i64, i64)> {
    let times: Vec<i64> = events.iter().map(|event| event.ns).collect();
    let (first, last) = (*times.first()?, *times.last()?);
    // Between the two that are the farthest apart.
    let gap = (1..times.len()).max_by_key(|&n| times[n] - times[n - 1])?;
    let (left, right) = times.split_at(gap);
    let part = if left.len() >= right.len() {
        left
    } else {
        right
    };
    let (from, to) = (*part.first()?, *part.last()?);
    let small = (to - from).saturating_mul(6) < last - first;
    (part.len() >= 3 && to > from && small).then_some((from, to))
}

/// The pictures of a story. `id` begins the names of its events' stacks.
pub fn timeline(id: &str, story: &Story) -> Markup {
    let (Some(first), Some(last)) = (story.events.first(), story.events.last()) else {
        return html! {};
    };
    let items = items(id, story);
    let whole = (first.ns, last.ns);
    html! {
        div.pictures {
            (picture(story, &items, whole, &format!("Timeline of {}", story.headline)))
            @if let Some(part) = crowd(&story.events) {
                @let times = (whole.1 - whole.0) as f64 / (part.1 - part.0) as f64;
                @let what = format!("{} to {} of it, {times:.0} times as large", since_clear(part.0), since_clear(part.1));
                (picture(story, &items, part, &what))
            }
        }
    }
}

fn items(id: &str, story: &Story) -> Vec<Item> {
    let cpus = story.cpus();
    let lane = |cpu: u32| cpus.iter().position(|other| *other == cpu).unwrap_or(0);
    let events = story.events.iter().enumerate().map(|(n, event)| {
        let who = &event.who;
        Item {
            lane: lane(who.cpu),
            ns: event.ns,
            letter: letter(event.what),
            class: class(event.what),
            text: [
                // There is no room for "writeback started".
                class(event.what).to_string(),
                since_clear(event.ns),
                who.task.clone(),
                format!("pid {}, {}", who.pid, who.context),
            ],
            told: format!(
                "{} at {} on CPU {} in {}, by task {} pid {}",
                event.what.word(),
                since_clear(event.ns),
                who.cpu,
                who.context,
                who.task,
                who.pid
            ),
            target: format!("{id}e{n}"),
        }
    });
    // They are woken by the wake, wherever they go on.
    let wake = story
        .events
        .iter()
        .rposition(|event| event.what == What::Wake);
    let victims = story.victims.iter().filter_map(|victim| {
        let n = wake?;
        let ns = story.events[n].ns;
        Some(Item {
            lane: cpus.len(),
            ns,
            letter: "V",
            class: "victim",
            text: [
                "victim".to_string(),
                since_clear(ns),
                victim.task.clone(),
                format!("pid {}", victim.pid),
            ],
            told: format!(
                "victim at {}: task {} pid {}, which waits for {}",
                since_clear(ns),
                victim.task,
                victim.pid,
                victim.bit
            ),
            target: format!("{id}v"),
        })
    });
    events.chain(victims).collect()
}

/// Where each thing of a lane is written: at its time, or below what is there already.
fn places(wanted: &[f64]) -> Vec<f64> {
    let mut free = f64::NEG_INFINITY;
    wanted
        .iter()
        .map(|y| {
            let y = y.max(free);
            free = y + LABEL;
            y
        })
        .collect()
}

/// Times to write at the axis, at most seven.
fn ticks((from, to): (i64, i64)) -> Vec<i64> {
    let span = (to - from).max(1);
    let mut step = 1;
    while span / step > 6 {
        // 1, 2, 5, 10, ...
        step = match step.to_string().as_bytes()[0] {
            b'2' => step / 2 * 5,
            _ => step * 2,
        };
    }
    let first = from.div_euclid(step) * step;
    (0..)
        .map(|n| first + n * step)
        .skip_while(|ns| *ns < from)
        .take_while(|ns| *ns <= to)
        .collect()
}

fn picture(story: &Story, items: &[Item], range: (i64, i64), what: &str) -> Markup {
    let cpus = story.cpus();
    let span = (range.1 - range.0).max(1) as f64;
    let y = |ns: i64| HEAD + 12.0 + (ns - range.0) as f64 / span * HEIGHT;
    let line = |lane: usize| AXIS + lane as f64 * LANE + 6.0;
    let inside: Vec<&Item> = items
        .iter()
        .filter(|item| (range.0..=range.1).contains(&item.ns))
        .collect();
    let woken = inside.iter().any(|item| item.class == "victim");
    let lanes = cpus.len() + usize::from(woken);
    let mut placed: Vec<(&Item, f64)> = Vec::new();
    for lane in 0..lanes {
        let mine: Vec<&Item> = inside
            .iter()
            .copied()
            .filter(|item| item.lane == lane)
            .collect();
        let wanted: Vec<f64> = mine.iter().map(|item| y(item.ns) + BELOW).collect();
        placed.extend(mine.into_iter().zip(places(&wanted)));
    }
    let lowest = placed
        .iter()
        .map(|(_, y)| *y)
        .fold(HEAD + 12.0 + HEIGHT, f64::max);
    let (width, height) = (AXIS + lanes as f64 * LANE, lowest + LABEL);
    // Who clears holds the window open until the wake.
    let at = |what: What| story.events.iter().find(|event| event.what == what);
    let open = at(What::Clear).map(|clear| {
        let wake = at(What::Wake).map_or(range.1, |wake| wake.ns);
        let lane = cpus
            .iter()
            .position(|cpu| *cpu == clear.who.cpu)
            .unwrap_or(0);
        (lane, clear.ns.max(range.0), wake.min(range.1))
    });
    html! {
        figure.timeline {
            figcaption { (what) }
            div.scroll {
                svg viewBox=(format!("0 0 {width:.0} {height:.0}")) style=(format!("width:{width:.0}px;min-width:{:.0}px", width * 0.8))
                    role="group" aria-label=(format!("{what}: {} lanes, {} events, listed below", lanes, inside.len())) {
                    g aria-hidden="true" {
                        @for ns in ticks(range) {
                            @let at = f(y(ns));
                            line.tick x1=(f(AXIS - 10.0)) x2=(f(width)) y1=(at) y2=(at) {}
                            text.axis x=(f(AXIS - 14.0)) y=(f(y(ns) + 4.0)) text-anchor="end" { (millis(ns)) }
                        }
                        @for lane in 0..lanes {
                            @let name = cpus.get(lane).map_or("woken".to_string(), |cpu| format!("CPU {cpu}"));
                            text.lane x=(f(line(lane) - 4.0)) y="16" { (name) }
                            line.lane x1=(f(line(lane))) x2=(f(line(lane))) y1=(f(HEAD)) y2=(f(height - 6.0)) {}
                        }
                        @if let Some((lane, from, to)) = open.filter(|(_, from, to)| from < to) {
                            rect.window x=(f(line(lane) - 3.0)) width="6" y=(f(y(from))) height=(f(y(to) - y(from))) {}
                        }
                        @for item in inside.iter().filter(|item| item.class == "victim") {
                            // From the lane that the wake is in.
                            @let wake = inside.iter().find(|other| other.class == "wake").map_or(0, |wake| wake.lane);
                            line.wakes x1=(f(line(wake))) x2=(f(line(item.lane))) y1=(f(y(item.ns))) y2=(f(y(item.ns))) {}
                        }
                    }
                    @for (item, place) in &placed {
                        @let (x, at) = (line(item.lane), y(item.ns));
                        a.event.(item.class) href=(format!("#{}", item.target)) aria-label=(item.told) {
                            title { (item.told) }
                            rect.hit x=(f(x + LEAD - 2.0)) y=(f(place - 9.0)) width=(f(LANE - LEAD - 8.0)) height=(f(LABEL - 4.0)) {}
                            polyline.lead points=(format!("{},{} {},{}", f(x), f(at), f(x + LEAD), f(place + 1.0))) {}
                            circle.dot cx=(f(x)) cy=(f(at)) r="4" {}
                            rect.letter x=(f(x + LEAD)) y=(f(place - 7.0)) width="16" height="16" rx="3" {}
                            text.letter x=(f(x + LEAD + 8.0)) y=(f(place + 5.0)) text-anchor="middle" { (item.letter) }
                            text.what x=(f(x + LEAD + 20.0)) y=(f(place + 5.0)) { (item.text[0]) }
                            @for (n, text) in item.text.iter().enumerate().skip(1) {
                                text.who x=(f(x + LEAD)) y=(f(place + 5.0 + n as f64 * LINE)) { (text) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A coordinate.
fn f(value: f64) -> String {
    format!("{value:.1}")
}

/// A time at the axis, as short as it can be.
fn millis(ns: i64) -> String {
    let text = format!("{:.6}", ns as f64 / 1e6);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_does_not_overlap() {
        assert_eq!(places(&[0.0, 500.0]), [0.0, 500.0]);
        assert_eq!(places(&[0.0, 1.0, 2.0]), [0.0, LABEL, 2.0 * LABEL]);
        assert_eq!(places(&[0.0, 1.0, LABEL * 3.0]), [0.0, LABEL, LABEL * 3.0]);
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(
            ticks((0, 101_196_000)),
            [
                0,
                20_000_000,
                40_000_000,
                60_000_000,
                80_000_000,
                100_000_000
            ]
        );
        assert_eq!(ticks((0, 6)), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(ticks((-3, 9)), [-2, 0, 2, 4, 6, 8]);
        assert_eq!(ticks((7, 7)), [7]);
        for span in [1_i64, 9, 77, 12_345, 6_196_000, i64::MAX / 4] {
            assert!(ticks((0, span)).len() <= 7, "{span}");
        }
        assert_eq!(millis(20_000_000), "20 ms");
        assert_eq!(millis(500), "0.0005 ms");
    }
}
