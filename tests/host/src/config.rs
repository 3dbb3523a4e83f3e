// SPDX-License-Identifier: GPL-2.0

//! The words of the `config` file.

use crate::detect::config::{Config, ParseError, MAX_REPORTS, MAX_SAMPLE};
use proptest::prelude::*;

/// As the file shows them.
fn shown(config: Config) -> String {
    let lines = Config::NAMES
        .iter()
        .map(|name| format!("{name}={}\n", config.value(name)));
    lines.collect::<Vec<_>>().concat()
}

#[test]
fn words_may_come_in_any_form() {
    let config = Config::default()
        .with(" unlock=1,marks=0\n\tsample=8 ")
        .expect("good");
    assert!(config.unlock && !config.marks);
    assert_eq!(config.sample, 8);
    assert_eq!(config.report_limit, Config::default().report_limit);
}

#[test]
fn what_is_wrong_is_named() {
    let default = Config::default();
    for (text, err) in [
        ("", ParseError::Nothing),
        (" , ", ParseError::Nothing),
        ("marks", ParseError::Word("marks")),
        ("speed=1", ParseError::Word("speed=1")),
        ("marks=1 speed=1", ParseError::Word("speed=1")),
        ("marks=2", ParseError::Value("marks=2")),
        ("marks=", ParseError::Value("marks=")),
        ("marks=+1", ParseError::Value("marks=+1")),
        ("sample=0", ParseError::Value("sample=0")),
        ("sample=1000001", ParseError::Value("sample=1000001")),
        (
            "report_limit=99999999999",
            ParseError::Value("report_limit=99999999999"),
        ),
    ] {
        assert_eq!(default.with(text), Err(err), "{text}");
    }
}

proptest! {
    /// What is shown can be written back, to any state.
    #[test]
    fn round_trip(bits: u16, sample in 1..=MAX_SAMPLE, limit in 1..=MAX_REPORTS, other: u16) {
        let make = |bits: u16| Config {
            writeback: bits & 1 != 0,
            end_read: bits & 2 != 0,
            private_2: bits & 4 != 0,
            unlock: bits & 8 != 0,
            always: bits & 1024 != 0,
            marks: bits & 16 != 0,
            start: bits & 32 != 0,
            victims: bits & 64 != 0,
            past: bits & 512 != 0,
            audit_read: bits & 128 != 0,
            panic_on_report: bits & 256 != 0,
            sample,
            report_limit: limit,
        };
        let text = shown(make(bits));
        prop_assert_eq!(make(other).with(&text), Ok(make(bits)));
    }

    /// Anything at all is taken or refused, and the message names it.
    #[test]
    fn anything(text in "\\PC*") {
        if let Err(err) = Config::default().with(&text) {
            prop_assert!(!err.to_string().is_empty());
        }
    }

    /// Words that look right.
    #[test]
    fn nearly_right(words in prop::collection::vec("(marks|sample|unlock|speed)=[0-9+-]{0,3}", 0..4)) {
        let text = words.join(" ");
        if let Ok(config) = Config::default().with(&text) {
            let text = shown(config);
            prop_assert_eq!(Config::default().with(&text), Ok(config));
            prop_assert!((1..=MAX_SAMPLE).contains(&config.sample));
        }
    }
}
