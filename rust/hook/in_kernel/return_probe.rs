// SPDX-License-Identifier: GPL-2.0

//! A probe at the return of a kernel function.

use crate::{
    bindings,
    hook::{explain, return_probe::Handler, Entry},
};
use core::mem::MaybeUninit;
use kernel::{
    fprobe::{self, Exit},
    prelude::*,
};

/// What the kernel crate is given for a handler of ours.
struct Returns<T>(T);

// SAFETY: The handlers are this crate's, which keep to what their `Handler` asks for: the same, and more.
unsafe impl<T: Handler> fprobe::Handler for Returns<T> {
    type Data = T::Carried;

    fn entry(&self, call: &fprobe::Entry<'_>) -> Option<T::Carried> {
        let mut entry = MaybeUninit::<bindings::ww_entry>::uninit();
        // SAFETY: The registers are those of the entry and outlive this call. All of `entry` is written.
        let at = unsafe {
            bindings::ww_fprobe_entry(call.as_raw().cast(), entry.as_mut_ptr());
            Entry::new(&*entry.as_ptr())
        };
        self.0.entered(at)
    }

    fn exit(&self, call: &Exit<'_>, carried: T::Carried) {
        self.0.exit(&carried, call.return_address());
    }
}

/// A registered fprobe.
pub(crate) struct Registration<T: Handler>(Pin<KBox<fprobe::Registration<Returns<T>>>>);

impl<T: Handler> Registration<T> {
    /// Probes the return of `symbol`. May sleep. Its errors are those of `register_fprobe_syms()`, explained in the
    /// kernel log.
    pub(crate) fn new(symbol: &'static CStr, handler: T) -> Result<Self> {
        let probe = fprobe::Registration::new(symbol, Returns(handler));
        KBox::pin_init(probe, GFP_KERNEL)
            .inspect_err(|&err| explain(symbol, err))
            .map(Self)
    }

    /// How many returns the kernel has skipped: too many calls at once, or one inside of this probe's own handler
    /// in the same context.
    pub(crate) fn missed(&self) -> u64 {
        self.0.missed() as u64
    }
}
