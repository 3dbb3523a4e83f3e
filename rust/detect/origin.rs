// SPDX-License-Identifier: GPL-2.0

//! Whose wake is it: made by the call that has opened the window, or by another one?
//!
//! What a call leaves on the stack is told apart from all others by two things: *where* its return
//! address is (the place that the stack pointer shows at its entry), and *what* it is (after which
//! instruction the caller goes on; there is one function that is called there). As long as that
//! address is found at that place, and the place is a return address's, the call has not returned.

/// A call, as its entry saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Where its return address is: the lower half, stacks are smaller.
    pub(crate) slot: u32,
    /// Where it returns to; 0 if other tracers hide that.
    pub(crate) caller: u64,
}

/// What [`origin`] makes of a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The call that has opened the window makes the wake.
    Own,
    /// It has returned: somebody else makes the wake.
    Foreign,
    /// Other tracers hide it.
    Hidden,
}

/// What is between the wake and the call that has opened the window can't be more bytes of stack than this:
/// the wake's own return address and what a tracer's trampoline or a patched function keep there.
pub(crate) const NEAR: u32 = 2048;

/// Is the wake made in `call`?
///
/// `entry` is the place of the return address at the entry of the wake. `address` says which return
/// address is at a place, whatever tracers have put there; `None` if that can't be told. `returns` says
/// whether a place is that of a return address of somebody on the stack.
pub(crate) fn origin(
    call: Call,
    entry: u32,
    mut address: impl FnMut(u32) -> Option<u64>,
    returns: impl FnOnce(u32) -> bool,
) -> Origin {
    let between = call.slot.wrapping_sub(entry);
    // The opener has jumped to the wake; or it has called it, or a trampoline or patch is between them.
    if between != 0 && (between > NEAR || !returns(call.slot)) {
        return Origin::Foreign;
    }
    match address(call.slot) {
        Some(caller) if call.caller != 0 => {
            if caller == call.caller {
                Origin::Own
            } else {
                Origin::Foreign
            }
        }
        _ => Origin::Hidden,
    }
}
