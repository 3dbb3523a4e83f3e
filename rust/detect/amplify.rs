// SPDX-License-Identifier: GPL-2.0

//! Which windows to hold open, and for how long: the words of the `amplify` file.

use core::fmt;

/// The longest delay there is, in microseconds. Below the soft lockup detector's 20 seconds.
const MAX_US: u32 = 10_000_000;
/// The longest one with interrupts off and a queue locked that pages of the whole machine share.
const MAX_LOCKED_US: u32 = 100_000;

/// Where a window is held open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the entry of `__folio_end_writeback()`: the bit is still set.
    BeforeClear,
    /// At the return of `__folio_end_writeback()`: the bit is clear, the waiters are not yet
    /// looked at.
    AfterClear,
    /// At the entry of `folio_wake_bit()`.
    BeforeWake,
    /// In `folio_wake_bit()`, when those who wait have been woken: with the queue's lock held and
    /// interrupts off, so the delay has to be short.
    AfterWake,
}

impl Place {
    /// The longest delay there, in microseconds.
    pub(crate) fn most_us(self) -> u32 {
        match self {
            Place::BeforeClear | Place::AfterClear | Place::BeforeWake => MAX_US,
            Place::AfterWake => MAX_LOCKED_US,
        }
    }
}

/// Which bit's wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bit {
    /// `PG_writeback`.
    Writeback,
    /// `PG_locked`.
    Locked,
    /// Any of them.
    Any,
}

/// Where a page belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageId {
    /// `s_dev` of its superblock: `major << 20 | minor`.
    pub(crate) dev: u32,
    /// `i_ino` of its inode.
    pub(crate) ino: u64,
    /// Its index in the file, in pages.
    pub(crate) index: u64,
    /// How many pages it has, from `index` on.
    pub(crate) pages: u64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Where to delay.
    pub(crate) place: Place,
    /// How long, in microseconds; 1 to [`Place::most_us`].
    pub(crate) us: u32,
    /// Only pages of this device.
    pub(crate) dev: Option<u32>,
    /// Only pages of this inode.
    pub(crate) ino: Option<u64>,
    /// Only the folio with this index.
    pub(crate) index: Option<u64>,
    /// Only every n-th of them; 1 is each.
    pub(crate) every: u32,
    /// Only wakes of this bit.
    pub(crate) bit: Bit,
}

/// Why a line was not understood. Its text says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParseError<'a> {
    /// A word that is no `key=value` of ours.
    Word(&'a str),
    /// A key with a value outside of its range.
    Value(&'a str),
    /// The same key twice.
    Twice(&'a str),
    /// No `where=`.
    NoPlace,
    /// No `us=`.
    NoLength,
    /// `bit=locked` where only writeback passes.
    BitThere,
    /// Longer than is good there, which is at most so many microseconds.
    TooLong(u32),
}

impl fmt::Display for ParseError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Word(w) => write!(
                f,
                "`{w}' is not one of off, where=, us=, dev=, ino=, index=, every=, bit="
            ),
            ParseError::Value(w) => write!(
                f,
                "`{w}' is out of range (where=before-clear|after-clear|before-wake|after-wake, us=1..{MAX_US}, after-wake 1..{MAX_LOCKED_US}, \
                 dev=MAJOR:MINOR, ino=N, index=N, every=1.., bit=writeback|locked|any)"
            ),
            ParseError::Twice(w) => write!(f, "`{w}' says again what was said before"),
            ParseError::NoPlace => {
                write!(
                    f,
                    "say where=: before-clear, after-clear, before-wake or after-wake"
                )
            },
            ParseError::NoLength => write!(f, "say us=N, a number of microseconds"),
            ParseError::BitThere => {
                write!(f, "only writeback passes there: bit=writeback")
            }
            ParseError::TooLong(most) => write!(
                f,
                "too long there, with interrupts off and the queue locked: us=1..{most}"
            ),
        }
    }
}

impl Spec {
    /// Reads a line. `Ok(None)` is `off`.
    ///
    /// # Examples
    ///
    /// `where=after-clear us=60000 dev=7:0 ino=12 index=0`, or with commas in place of spaces, which
    /// a module parameter takes without quotes inside of quotes.
    pub(crate) fn parse(line: &str) -> Result<Option<Spec>, ParseError<'_>> {
        let line = line.trim();
        if line == "off" {
            return Ok(None);
        }
        let (mut place, mut us, mut dev, mut ino) = (None, None, None, None);
        let (mut index, mut every, mut bit) = (None, None, None);
        for word in line.split(|c: char| c.is_ascii_whitespace() || c == ',') {
            if word.is_empty() {
                continue;
            }
            let (key, value) = word.split_once('=').ok_or(ParseError::Word(word))?;
            match key {
                "where" => set(&mut place, word, parse_place(value))?,
                "us" => set(&mut us, word, number(value, 1, MAX_US.into()))?,
                "dev" => set(&mut dev, word, parse_dev(value))?,
                "ino" => set(&mut ino, word, number(value, 0, u64::MAX))?,
                "index" => set(&mut index, word, number(value, 0, u64::MAX))?,
                "every" => set(&mut every, word, number(value, 1, u32::MAX.into()))?,
                "bit" => set(&mut bit, word, parse_bit(value))?,
                _ => return Err(ParseError::Word(word)),
            }
        }
        let place = place.ok_or(ParseError::NoPlace)?;
        // Nothing but writeback ends in `__folio_end_writeback()`.
        let bit = match (place, bit) {
            (Place::BeforeClear | Place::AfterClear, None | Some(Bit::Writeback)) => Bit::Writeback,
            (Place::BeforeClear | Place::AfterClear, Some(_)) => return Err(ParseError::BitThere),
            (Place::BeforeWake | Place::AfterWake, bit) => bit.unwrap_or(Bit::Any),
        };
        // This and `every` were checked against limits that fit.
        let us = us.ok_or(ParseError::NoLength)? as u32;
        if us > place.most_us() {
            return Err(ParseError::TooLong(place.most_us()));
        }
        Ok(Some(Spec {
            place,
            us,
            every: every.unwrap_or(1) as u32,
            dev,
            ino,
            index,
            bit,
        }))
    }

    /// Is this page, about to be woken for `bit`, one of those to hold? `every` is left to the
    /// caller, who counts.
    pub(crate) fn wants(&self, bit: Bit, page: Option<PageId>) -> bool {
        if self.bit != Bit::Any && self.bit != bit {
            return false;
        }
        if self.dev.is_none() && self.ino.is_none() && self.index.is_none() {
            return true;
        }
        page.is_some_and(|page| {
            // `is_none_or` would say it, but is younger than the oldest compiler of 6.12.
            let other = self.dev.is_some_and(|dev| dev != page.dev)
                || self.ino.is_some_and(|ino| ino != page.ino)
                || self
                    .index
                    .is_some_and(|index| index.wrapping_sub(page.index) >= page.pages.max(1));
            !other
        })
    }

    /// Does [`Self::wants`] look at the page at all?
    pub(crate) fn needs_page(&self) -> bool {
        self.dev.is_some() || self.ino.is_some() || self.index.is_some()
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::BeforeClear => "before-clear",
            Place::AfterClear => "after-clear",
            Place::BeforeWake => "before-wake",
            Place::AfterWake => "after-wake",
        };
        let bit = match self.bit {
            Bit::Writeback => "writeback",
            Bit::Locked => "locked",
            Bit::Any => "any",
        };
        write!(f, "where={place} us={}", self.us)?;
        if let Some(dev) = self.dev {
            write!(f, " dev={}:{}", dev >> 20, dev & 0xf_ffff)?;
        }
        if let Some(ino) = self.ino {
            write!(f, " ino={ino}")?;
        }
        if let Some(index) = self.index {
            write!(f, " index={index}")?;
        }
        write!(f, " every={} bit={bit}", self.every)
    }
}

fn set<'a, T>(to: &mut Option<T>, word: &'a str, value: Option<T>) -> Result<(), ParseError<'a>> {
    if to.is_some() {
        return Err(ParseError::Twice(word));
    }
    *to = Some(value.ok_or(ParseError::Value(word))?);
    Ok(())
}

fn number(text: &str, least: u64, most: u64) -> Option<u64> {
    // `parse` takes a sign, a file in debugfs does not.
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| (least..=most).contains(n))
}

fn parse_place(text: &str) -> Option<Place> {
    match text {
        "before-clear" => Some(Place::BeforeClear),
        "after-clear" => Some(Place::AfterClear),
        "before-wake" => Some(Place::BeforeWake),
        "after-wake" => Some(Place::AfterWake),
        _ => None,
    }
}

fn parse_bit(text: &str) -> Option<Bit> {
    match text {
        "writeback" => Some(Bit::Writeback),
        "locked" => Some(Bit::Locked),
        "any" => Some(Bit::Any),
        _ => None,
    }
}

fn parse_dev(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once(':')?;
    let major = number(major, 0, 0xfff)? as u32;
    let minor = number(minor, 0, 0xf_ffff)? as u32;
    Some((major << 20) | minor)
}
