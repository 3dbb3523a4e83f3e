// SPDX-License-Identifier: GPL-2.0

//! The knobs: the words of the `config` file. Each is a module parameter of the same name, made of the
//! same list ([`knobs`]) by `params.rs`.

use core::fmt;

/// The largest `sample`.
pub(crate) const MAX_SAMPLE: u32 = 1_000_000;
/// The largest `report_limit`.
pub(crate) const MAX_REPORTS: u32 = 1000;

/// The list of knobs, for whoever makes something for each of them: calls the macro `$with` with, for
/// each knob in the order of the `config` file, its documentation, name, kind (`switch`, or `number`
/// and the largest one), default and what `modinfo` says of it.
macro_rules! knobs {
    ($with:ident) => {
        $with! {
            /// Windows are opened at `__folio_end_writeback()`.
            writeback: switch = true, "open windows at the end of writeback";
            /// ... of which nobody waits for, too; else only where `PG_waiters` is set.
            always: switch = false, "open windows at ends of writeback that nobody waits for, too";
            /// ... at `folio_end_read()`.
            end_read: switch = true, "open windows at folio_end_read()";
            /// ... at `folio_end_private_2()`.
            private_2: switch = true, "open windows at folio_end_private_2()";
            /// ... at `folio_unlock()`.
            unlock: switch = false, "open windows at folio_unlock()";
            /// Pages that are freed and allocated are marked: without it, no `reused`.
            marks: switch = true, "mark pages that are freed and allocated: without it no `reused'";
            /// `__folio_start_writeback()` is looked at: without it, no `unlocked-start`.
            start: switch = true, "look at the start of writeback: without it no `unlocked-start'";
            /// Who was woken by a leaked wake is looked for.
            victims: switch = true, "look who is woken by a leaked wake";
            /// Wakes that come past `folio_wake_bit()` are looked at.
            past: switch = true, "look at wakes that come past folio_wake_bit()";
            /// Spare references are counted at `folio_end_read()` too, where `end_read` is on.
            audit_read: switch = true, "count spare references at folio_end_read() too, where end_read is 1";
            /// Every how many pages one is looked at.
            sample: number(MAX_SAMPLE) = 1, "look at every n-th page, 1..1000000";
            /// Reports per second and verdict.
            report_limit: number(MAX_REPORTS) = 10, "reports per second and verdict, 1..1000; the rest is counted";
            /// Panic after printing a report.
            panic_on_report: switch = false, "panic after printing a report";
        }
    };
}

/// The type of a knob of some kind.
macro_rules! knob_type {
    (switch) => {
        bool
    };
    (number) => {
        u32
    };
}
// tests/host has no parameters.
#[allow(unused_imports)]
pub(crate) use {knob_type, knobs};

/// A knob of some kind, to be written to.
macro_rules! knob {
    ($at:expr, switch) => {
        Knob::Switch($at)
    };
    ($at:expr, number($most:expr)) => {
        Knob::Number($at, $most)
    };
}

macro_rules! config {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $(($most:expr))? = $default:expr, $text:literal;)*) => {
        /// What is looked at, and how much is said.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct Config {
            $($(#[$doc])* pub(crate) $name: knob_type!($kind),)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Config {
            /// The knobs, in the order of the file.
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            fn knob(&mut self, name: &str) -> Option<Knob<'_>> {
                $(if name == stringify!($name) {
                    return Some(knob!(&mut self.$name, $kind $(($most))?));
                })*
                None
            }
        }
    };
}
knobs!(config);

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

    /// The first knob with a value out of its range, which are 1 to the number beside its name.
    pub(crate) fn out_of_range(mut self) -> Option<(&'static str, u32)> {
        Self::NAMES.iter().find_map(|name| match self.knob(name) {
            Some(Knob::Number(value, most)) if !(1..=most).contains(value) => Some((*name, most)),
            _ => None,
        })
    }

    /// Has the switch called `name` off.
    pub(crate) fn switch_off(&mut self, name: &str) {
        if let Some(Knob::Switch(on)) = self.knob(name) {
            *on = false;
        }
    }

    pub(crate) fn value(mut self, name: &str) -> u32 {
        match self.knob(name) {
            Some(Knob::Switch(on)) => u32::from(*on),
            Some(Knob::Number(value, _)) => *value,
            None => 0,
        }
    }
}
