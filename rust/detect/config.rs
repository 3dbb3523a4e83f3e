// SPDX-License-Identifier: GPL-2.0

//! The knobs: the words of the `config` file. Each is a module parameter of the same name.

use core::fmt;

/// The largest `sample`.
pub(crate) const MAX_SAMPLE: u32 = 1_000_000;
/// The largest `report_limit`.
pub(crate) const MAX_REPORTS: u32 = 1000;

/// What is looked at, and how much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Windows are opened at `__folio_end_writeback()`.
    pub(crate) writeback: bool,
    /// ... at `folio_end_read()`.
    pub(crate) end_read: bool,
    /// ... at `folio_end_private_2()`.
    pub(crate) private_2: bool,
    /// ... at `folio_unlock()`.
    pub(crate) unlock: bool,
    /// Pages that are freed and allocated are marked: without it, no `reused`.
    pub(crate) marks: bool,
    /// `__folio_start_writeback()` is looked at: without it, no `unlocked-start`.
    pub(crate) start: bool,
    /// Who was woken by a leaked wake is looked for.
    pub(crate) victims: bool,
    /// Spare references are counted at `folio_end_read()` too.
    pub(crate) audit_read: bool,
    /// Every how many pages one is looked at.
    pub(crate) sample: u32,
    /// Reports per second and verdict.
    pub(crate) report_limit: u32,
    /// Panic after printing a report.
    pub(crate) panic_on_report: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            writeback: true,
            end_read: true,
            private_2: true,
            unlock: false,
            marks: true,
            start: true,
            victims: true,
            audit_read: false,
            sample: 1,
            report_limit: 10,
            panic_on_report: false,
        }
    }
}

/// Why a line was not understood. Its text says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParseError<'a> {
    /// A word that is no `name=value` of ours.
    Word(&'a str),
    /// A value out of range.
    Value(&'a str),
    /// No word at all.
    Nothing,
}

impl fmt::Display for ParseError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Word(word) => {
                write!(f, "`{word}' is not one of ")?;
                let mut names = Config::NAMES.iter().enumerate();
                names.try_for_each(|(i, name)| {
                    write!(f, "{}{name}=", if i == 0 { "" } else { ", " })
                })
            }
            ParseError::Value(word) => write!(
                f,
                "`{word}' is out of range (sample=1..{MAX_SAMPLE}, report_limit=1..{MAX_REPORTS}, others 0 or 1)"
            ),
            ParseError::Nothing => write!(f, "say NAME=VALUE, as the file shows them"),
        }
    }
}

/// A knob, as a place to write to.
enum Knob<'a> {
    Switch(&'a mut bool),
    Number(&'a mut u32, u32),
}

impl Config {
    /// The knobs, in the order of the file.
    pub(crate) const NAMES: [&'static str; 11] = [
        "writeback",
        "end_read",
        "private_2",
        "unlock",
        "marks",
        "start",
        "victims",
        "audit_read",
        "sample",
        "report_limit",
        "panic_on_report",
    ];

    fn knob(&mut self, name: &str) -> Option<Knob<'_>> {
        Some(match name {
            "writeback" => Knob::Switch(&mut self.writeback),
            "end_read" => Knob::Switch(&mut self.end_read),
            "private_2" => Knob::Switch(&mut self.private_2),
            "unlock" => Knob::Switch(&mut self.unlock),
            "marks" => Knob::Switch(&mut self.marks),
            "start" => Knob::Switch(&mut self.start),
            "victims" => Knob::Switch(&mut self.victims),
            "audit_read" => Knob::Switch(&mut self.audit_read),
            "sample" => Knob::Number(&mut self.sample, MAX_SAMPLE),
            "report_limit" => Knob::Number(&mut self.report_limit, MAX_REPORTS),
            "panic_on_report" => Knob::Switch(&mut self.panic_on_report),
            _ => return None,
        })
    }

    /// What `self` becomes by `text`: words `name=value`, separated by white space or commas. All
    /// of them are taken, or none.
    pub(crate) fn with(mut self, text: &str) -> Result<Self, ParseError<'_>> {
        let mut any = false;
        for word in text.split(|c: char| c.is_ascii_whitespace() || c == ',') {
            if word.is_empty() {
                continue;
            }
            any = true;
            let (name, value) = word.split_once('=').ok_or(ParseError::Word(word))?;
            // `parse` takes a sign, a file in debugfs does not.
            let digits = value.bytes().all(|b| b.is_ascii_digit());
            let value = value.parse().ok().filter(|_| digits);
            match (self.knob(name).ok_or(ParseError::Word(word))?, value) {
                (Knob::Switch(knob), Some(value @ 0..=1)) => *knob = value == 1,
                (Knob::Number(knob, most), Some(value)) if (1..=most).contains(&value) => {
                    *knob = value;
                }
                _ => return Err(ParseError::Value(word)),
            }
        }
        if any {
            Ok(self)
        } else {
            Err(ParseError::Nothing)
        }
    }

    /// The value of the knob called `name`.
    pub(crate) fn value(mut self, name: &str) -> u32 {
        match self.knob(name) {
            Some(Knob::Switch(on)) => u32::from(*on),
            Some(Knob::Number(value, _)) => *value,
            None => 0,
        }
    }
}
