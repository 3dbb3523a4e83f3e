// SPDX-License-Identifier: GPL-2.0

//! Is the wake made by the call that has opened the window?

use crate::detect::origin::{origin, Call, Origin, NEAR};
use proptest::prelude::*;

/// A stack: places of return addresses, from the wake's on, and what is at them.
struct Stack(Vec<(u32, u64)>);

impl Stack {
    fn origin(&self, call: Call) -> Origin {
        let at = |slot| self.0.iter().find(|frame| frame.0 == slot);
        let address = |slot| at(slot).map(|frame| frame.1);
        origin(call, self.0[0].0, address, |slot| at(slot).is_some())
    }
}

const CALL: Call = Call {
    slot: 0x8000,
    caller: 0xffff_ffff_8100_1000,
};

#[test]
fn a_jump_to_the_wake() {
    let stack = Stack(vec![(CALL.slot, CALL.caller), (0x8040, 1)]);
    assert_eq!(stack.origin(CALL), Origin::Own);
}

#[test]
fn a_call_of_the_wake() {
    let stack = Stack(vec![(0x7ff0, 1), (CALL.slot, CALL.caller)]);
    assert_eq!(stack.origin(CALL), Origin::Own);
}

/// A trampoline that calls what it traces, as those of fexit programs do.
#[test]
fn a_trampoline_between() {
    let stack = Stack(vec![(0x7f00, 1), (0x7ff8, 2), (CALL.slot, CALL.caller)]);
    assert_eq!(stack.origin(CALL), Origin::Own);
}

/// folio_unlock(), called from elsewhere, at the same depth by chance.
#[test]
fn another_call_at_the_same_place() {
    let stack = Stack(vec![(CALL.slot, CALL.caller + 16)]);
    assert_eq!(stack.origin(CALL), Origin::Foreign);
}

/// The same call site, but it is not the same call: the stack is deeper now, or less deep.
#[test]
fn the_same_caller_at_another_place() {
    for slot in [CALL.slot - 16, CALL.slot + 16] {
        let stack = Stack(vec![(slot, CALL.caller)]);
        assert_eq!(stack.origin(CALL), Origin::Foreign, "{slot:#x}");
    }
}

/// A word that looks right, but is only what an earlier call has left there.
#[test]
fn what_is_no_return_address_proves_nothing() {
    let left_behind = |_| Some(CALL.caller);
    assert_eq!(
        origin(CALL, CALL.slot - 64, left_behind, |_| false),
        Origin::Foreign
    );
}

#[test]
fn what_is_hidden_is_not_guessed() {
    assert_eq!(origin(CALL, CALL.slot, |_| None, |_| true), Origin::Hidden);
    let hidden = Call { caller: 0, ..CALL };
    assert_eq!(
        origin(hidden, CALL.slot, |_| Some(0), |_| true),
        Origin::Hidden
    );
}

proptest! {
    /// Nothing is its own that isn't there.
    #[test]
    fn own_only_if_it_is_on_the_stack(frames in prop::collection::vec((0x7800u32..0x8800, 1u64..4), 1..8), slot in 0x7800u32..0x8800, caller in 0u64..4) {
        let mut frames = frames;
        frames.sort_unstable();
        frames.dedup_by_key(|frame| frame.0);
        let call = Call { slot, caller };
        let there = frames.contains(&(slot, caller)) && slot - frames[0].0 <= NEAR;
        let found = Stack(frames).origin(call) == Origin::Own;
        prop_assert_eq!(found, there && caller != 0);
    }
}
