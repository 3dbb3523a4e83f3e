// SPDX-License-Identifier: GPL-2.0

//! Functions, by address and by name.

use crate::detect::symbol::{is_clone_of, Range};
use proptest::prelude::*;

#[test]
fn a_range_as_the_kernel_shows_it() {
    let range = Range::parse(0x1004, "folio_end_read+0x4/0x60").expect("a symbol");
    assert_eq!(
        range,
        Range {
            start: 0x1000,
            size: 0x60
        }
    );
    assert!(range.has(0x1000) && range.has(0x105f));
    assert!(!range.has(0xfff) && !range.has(0x1060));
    assert_eq!(
        Range::parse(0x1004, "ext4_readahead+0x4/0x60 [ext4]"),
        Some(range)
    );
}

#[test]
fn what_is_no_symbol_is_nowhere() {
    for shown in ["", "0xffffffff81001004", "folio_end_read", "f+4/6", "f+0x4"] {
        assert_eq!(Range::parse(0x1004, shown), None, "{shown}");
    }
    assert!(!Range::default().has(0));
}

#[test]
fn clones_with_the_same_arguments() {
    for symbol in [
        "folio_wake_bit",
        "folio_wake_bit.llvm.1234567890",
        "folio_wake_bit.lto_priv.0",
        "folio_wake_bit.__uniq.77.llvm.8",
    ] {
        assert!(is_clone_of(symbol, "folio_wake_bit"), "{symbol}");
    }
}

#[test]
fn what_may_have_other_arguments() {
    for symbol in [
        "vfs_read",
        "folio_wake_bit.constprop.0",
        "folio_wake_bit.isra.0",
        "folio_wake_bit.part.0",
        "folio_wake_bit.cold",
        "folio_wake_bit.llvm.",
        "folio_wake_bit.llvm.1.isra.0",
        "folio_wake_bit_2",
        "xfolio_wake_bit",
        "folio_wake_bi",
        "",
    ] {
        assert!(!is_clone_of(symbol, "folio_wake_bit"), "{symbol}");
    }
}

proptest! {
    #[test]
    fn anything(address: usize, shown in "\\PC*", name in "\\PC*") {
        let _ = Range::parse(address, &shown);
        let _ = is_clone_of(&shown, &name);
    }
}
