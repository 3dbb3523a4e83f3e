// SPDX-License-Identifier: GPL-2.0

//! A probe at the entry of a kernel function.
//!
//! C header: include/linux/kprobes.h; kernel/kprobes.c (6.12).

use super::registered::{Object, Registered};
use crate::{
    bindings,
    hook::{entry_of, Entry, Handler},
};
use kernel::{error::to_result, prelude::*};

// SAFETY: `unregister_kprobe()` returns after a grace period: no handler runs then.
unsafe impl Object for bindings::kprobe {
    unsafe fn register(object: *mut Self) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements.
        unsafe { bindings::register_kprobe(object) }
    }

    unsafe fn unregister(object: *mut Self) {
        // SAFETY: By the safety requirements.
        unsafe { bindings::unregister_kprobe(object) }
    }
}

/// A registered kprobe. At most one handler of a kprobe runs on a CPU at a time: a hit inside of another is
/// skipped, and counted by [`Registration::missed`].
pub(crate) struct Registration<T: Handler>(Pin<KBox<Registered<bindings::kprobe, T>>>);

impl<T: Handler> Registration<T> {
    /// Probes the entry of `symbol`, once it is armed. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such symbol, `EINVAL` if it may not be probed; either is explained
    /// in the kernel log, and nothing stays registered.
    pub(crate) fn new(symbol: &'static CStr, handler: T) -> Result<Self> {
        let probe = bindings::kprobe {
            symbol_name: symbol.as_char_ptr(),
            pre_handler: Some(Self::trampoline),
            flags: bindings::KPROBE_FLAG_DISABLED,
            // SAFETY: All-zero is what a C initialiser leaves in the other fields.
            ..unsafe { core::mem::zeroed() }
        };
        Registered::new(symbol, probe, handler).map(Self)
    }

    /// Arms or disarms the probe, which stays registered. May sleep. Ask [`are_on`](crate::hook::kprobe::are_on)
    /// before.
    pub(crate) fn arm(&self, armed: bool) -> Result {
        let probe = self.0.get();
        // SAFETY: It is registered as long as `self` lives.
        to_result(unsafe {
            if armed {
                bindings::enable_kprobe(probe)
            } else {
                bindings::disable_kprobe(probe)
            }
        })
    }

    /// Is it not armed, whatever was asked for?
    pub(crate) fn is_disarmed(&self) -> bool {
        // SAFETY: It is registered as long as `self` lives; a racing read sees old or new flags.
        let flags = unsafe { core::ptr::addr_of!((*self.0.get()).flags).read_volatile() };
        flags & bindings::KPROBE_FLAG_DISABLED != 0
    }

    /// How many hits the kernel has skipped because another probe was being handled.
    pub(crate) fn missed(&self) -> u64 {
        // SAFETY: It is registered as long as `self` lives; `nmissed` is a statistic that the kernel
        // writes without a lock, so a racing read sees an old or a new value.
        unsafe { core::ptr::addr_of!((*self.0.get()).nmissed).read_volatile() as u64 }
    }

    /// The counter behind [`Self::missed`], for who has to look at it in a handler. Valid as long as
    /// the registration lives.
    pub(crate) fn missed_counter(&self) -> *const kernel::ffi::c_ulong {
        // SAFETY: It is registered as long as `self` lives; only an address is computed.
        unsafe { core::ptr::addr_of!((*self.0.get()).nmissed) }
    }

    /// Where the function begins.
    pub(crate) fn address(&self) -> usize {
        // SAFETY: It is registered as long as `self` lives, and the kernel does not change `addr`.
        unsafe { (*self.0.get()).addr as usize }
    }

    /// What is called.
    pub(crate) fn handler(&self) -> &T {
        // SAFETY: It is that of a live `Registered`.
        unsafe { Registered::handler(self.0.get()) }
    }

    /// # Safety
    ///
    /// Called by the kernel only, with the kprobe of a `Registration<T>` and the registers of the
    /// hit.
    unsafe extern "C" fn trampoline(
        probe: *mut bindings::kprobe,
        regs: *mut bindings::pt_regs,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements it is registered, hence live.
        let handler: &T = unsafe { Registered::handler(probe) };
        // SAFETY: `regs` are those of the hit and outlive this call.
        handler.entered(Entry::new(&entry_of(unsafe { &*regs })));
        0
    }
}
