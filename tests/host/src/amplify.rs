// SPDX-License-Identifier: GPL-2.0

//! The words of the `amplify` file.

use crate::detect::amplify::{Bit, PageId, ParseError, Place, Spec};
use proptest::prelude::*;

#[test]
fn the_whole_language() {
    assert_eq!(Spec::parse("off"), Ok(None));
    assert_eq!(Spec::parse(" off\n"), Ok(None));
    assert_eq!(
        Spec::parse("where=after-clear us=60000 dev=7:1 ino=12 index=3 every=2\n"),
        Ok(Some(Spec {
            place: Place::AfterClear,
            us: 60_000,
            dev: Some((7 << 20) | 1),
            ino: Some(12),
            index: Some(3),
            every: 2,
            bit: Bit::Writeback,
        }))
    );
    assert_eq!(
        Spec::parse("where=before-wake,us=1,bit=locked"),
        Spec::parse("where=before-wake us=1 bit=locked")
    );
    assert_eq!(
        Spec::parse("bit=locked us=1 where=before-wake"),
        Ok(Some(Spec {
            place: Place::BeforeWake,
            us: 1,
            dev: None,
            ino: None,
            index: None,
            every: 1,
            bit: Bit::Locked,
        }))
    );
}

#[test]
fn what_is_not_understood() {
    use ParseError::*;
    for (line, error) in [
        ("", NoPlace),
        ("on", Word("on")),
        ("off off", Word("off")),
        ("us=5", NoPlace),
        ("where=after-clear", NoLength),
        ("where=here us=5", Value("where=here")),
        ("where=before-wake us=0", Value("us=0")),
        ("where=before-wake us=10000001", Value("us=10000001")),
        ("where=after-wake us=100001", TooLong(100_000)),
        ("us=10000000 where=after-wake", TooLong(100_000)),
        ("where=before-wake us=+5", Value("us=+5")),
        ("where=before-wake us=", Value("us=")),
        ("where=before-wake us=5 us=6", Twice("us=6")),
        ("where=before-wake us=5 dev=7", Value("dev=7")),
        ("where=before-wake us=5 dev=4096:0", Value("dev=4096:0")),
        ("where=before-wake us=5 every=0", Value("every=0")),
        ("where=before-wake us=5 bit=dirty", Value("bit=dirty")),
        ("where=before-wake us=5 page=1", Word("page=1")),
        ("where=after-clear us=5 bit=locked", BitThere),
        ("where=before-clear us=5 bit=any", BitThere),
        (
            "where=before-wake us=5 ino=18446744073709551616",
            Value("ino=18446744073709551616"),
        ),
    ] {
        assert_eq!(Spec::parse(line), Err(error), "{line:?}");
    }
}

#[test]
fn each_place_has_its_longest() {
    for (place, most) in [
        ("before-clear", 10_000_000),
        ("after-clear", 10_000_000),
        ("before-wake", 10_000_000),
        ("after-wake", 100_000),
    ] {
        let line = |us: u32| format!("where={place} us={us}");
        assert!(Spec::parse(&line(most)).is_ok(), "{place}");
        let text = Spec::parse(&line(most + 1)).unwrap_err().to_string();
        assert!(text.contains(&format!("us=1..{most}")), "{text}");
    }
}

/// An informational line must not look like a finding.
#[test]
fn errors_do_not_cry_wolf() {
    for line in ["BUG:", "x=", "where=WARNING:"] {
        let text = Spec::parse(line).unwrap_err().to_string();
        assert!(
            text.contains("not one of") || text.contains("out of range"),
            "{text}"
        );
    }
}

#[test]
fn a_page_is_meant_or_not() {
    let spec = Spec::parse("where=before-wake us=5 dev=7:0 ino=12 index=3 bit=locked")
        .unwrap()
        .unwrap();
    let page = PageId {
        dev: 7 << 20,
        ino: 12,
        index: 3,
        pages: 1,
    };
    assert!(spec.wants(Bit::Locked, Some(page)));
    assert!(!spec.wants(Bit::Writeback, Some(page)));
    assert!(!spec.wants(Bit::Locked, None));
    assert!(!spec.wants(
        Bit::Locked,
        Some(PageId {
            dev: (7 << 20) | 1,
            ..page
        })
    ));
    assert!(!spec.wants(Bit::Locked, Some(PageId { ino: 13, ..page })));
    assert!(!spec.wants(Bit::Locked, Some(PageId { index: 4, ..page })));
    // A large folio has the index of its head.
    assert!(spec.wants(
        Bit::Locked,
        Some(PageId {
            index: 0,
            pages: 4,
            ..page
        })
    ));
    assert!(!spec.wants(
        Bit::Locked,
        Some(PageId {
            index: 0,
            pages: 3,
            ..page
        })
    ));
}

fn specs() -> impl Strategy<Value = Spec> {
    (
        prop_oneof![
            Just(Place::BeforeClear),
            Just(Place::AfterClear),
            Just(Place::BeforeWake),
            Just(Place::AfterWake)
        ],
        0..=u32::MAX,
        prop::option::of(any::<u32>()),
        prop::option::of(any::<u64>()),
        prop::option::of(any::<u64>()),
        1..=u32::MAX,
        prop_oneof![Just(Bit::Writeback), Just(Bit::Locked), Just(Bit::Any)],
    )
        .prop_map(|(place, us, dev, ino, index, every, bit)| Spec {
            place,
            // Somewhere in what the place takes.
            us: 1 + us % place.most_us(),
            dev,
            ino,
            index,
            every,
            bit: if matches!(place, Place::BeforeClear | Place::AfterClear) {
                Bit::Writeback
            } else {
                bit
            },
        })
}

proptest! {
    /// What is read back can be written again.
    #[test]
    fn shown_and_read_again(spec in specs()) {
        let shown = spec.to_string();
        prop_assert!(shown.len() < 256, "fits the file's one line");
        prop_assert_eq!(Spec::parse(&shown), Ok(Some(spec)));
    }

    #[test]
    fn arbitrary_text_does_no_harm(line in "\\PC*") {
        let _ = Spec::parse(&line).map_err(|err| err.to_string());
    }

    #[test]
    fn arbitrary_words_of_the_language_do_no_harm(
        line in "((where|us|dev|ino|index|every|bit|off)=?[-+a-z0-9:=]{0,12}[ \n\t]?){0,8}"
    ) {
        let _ = Spec::parse(&line).map_err(|err| err.to_string());
    }
}
