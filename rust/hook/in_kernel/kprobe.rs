// SPDX-License-Identifier: GPL-2.0

//! A probe at the entry of a kernel function.

use crate::hook::{entry_of, explain, Entry, Handler};
use kernel::{
    kprobe::{self, Regs},
    prelude::*,
};

/// What the kernel crate is given for a handler of ours.
struct Entered<T>(T);

// SAFETY: The handlers are this crate's, which keep to what their `Handler` asks for: the same, and more.
unsafe impl<T: Handler> kprobe::Handler for Entered<T> {
    fn handle(&self, regs: &Regs) {
        // SAFETY: They are those of the hit, and nobody writes to them before this returns.
        let regs = unsafe { &*regs.as_raw() };
        self.0.entered(Entry::new(&entry_of(regs)));
    }
}

/// A registered kprobe. At most one handler of a kprobe runs on a CPU at a time: a hit inside of another is
/// skipped, and counted by [`Registration::missed`].
pub(crate) struct Registration<T: Handler>(Pin<KBox<kprobe::Registration<Entered<T>>>>);

impl<T: Handler> Registration<T> {
    /// Probes the entry of `symbol`, once it is armed. May sleep. Its errors are those of `register_kprobe()`,
    /// explained in the kernel log.
    pub(crate) fn new(symbol: &'static CStr, handler: T) -> Result<Self> {
        let probe = kprobe::Registration::new_disabled(symbol, Entered(handler));
        KBox::pin_init(probe, GFP_KERNEL)
            .inspect_err(|&err| explain(symbol, err))
            .map(Self)
    }

    /// Arms or disarms the probe, which stays registered. May sleep. Ask [`are_on`](crate::hook::kprobe::are_on)
    /// before.
    pub(crate) fn arm(&self, armed: bool) -> Result {
        if armed {
            self.0.enable()
        } else {
            self.0.disable()
        }
    }

    /// Is it not armed, whatever was asked for?
    pub(crate) fn is_disarmed(&self) -> bool {
        self.0.is_disabled()
    }

    /// How many hits the kernel has skipped because another probe was being handled.
    pub(crate) fn missed(&self) -> u64 {
        self.0.missed() as u64
    }

    /// The counter behind [`Self::missed`], for who has to look at it in a handler. Valid as long as
    /// the registration lives.
    pub(crate) fn missed_counter(&self) -> *const kernel::ffi::c_ulong {
        // SAFETY: It is registered as long as `self` lives; only an address is computed.
        unsafe { core::ptr::addr_of!((*self.0.as_raw()).nmissed) }
    }

    /// Where the function begins.
    pub(crate) fn address(&self) -> usize {
        self.0.address()
    }

    /// What is called.
    pub(crate) fn handler(&self) -> &T {
        &self.0.handler().0
    }
}
