// SPDX-License-Identifier: GPL-2.0

//! A probe at the entry of a kernel function.
//!
//! C header: include/linux/kprobes.h; kernel/kprobes.c (6.12).

use super::{explain, Regs};
use crate::bindings;
use core::marker::PhantomPinned;
use kernel::{error::to_result, prelude::*, types::Opaque};

/// What is done when the function is entered.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Runs with preemption disabled, in any context but NMI. At most one kprobe handler runs on
    /// a CPU at a time: a hit inside of another handler is skipped and counted by
    /// [`Registration::missed`].
    fn entry(&self, regs: &Regs);
}

/// A registered kprobe.
///
/// # Invariants
///
/// `probe` does not move, and the kernel holds it if and only if `registered`, which is true from
/// the end of [`Registration::new`] to `drop`.
pub(crate) struct Registration<T: Handler> {
    probe: Opaque<bindings::kprobe>,
    registered: bool,
    handler: T,
    _pin: PhantomPinned,
}

// SAFETY: The kernel serialises access to a registered kprobe; `T` is `Send`.
unsafe impl<T: Handler> Send for Registration<T> {}
// SAFETY: All methods on `&self` may be called from any thread; `T` is `Sync`.
unsafe impl<T: Handler> Sync for Registration<T> {}

impl<T: Handler> Registration<T> {
    /// Probes the entry of `symbol`, once it is armed. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such symbol, `EINVAL` if it may not be probed; either is explained
    /// in the kernel log, and nothing stays registered.
    pub(crate) fn new(symbol: &'static CStr, handler: T) -> Result<Pin<KBox<Self>>> {
        let mut this = Pin::from(KBox::new(
            Self {
                probe: Opaque::new(bindings::kprobe {
                    symbol_name: symbol.as_char_ptr(),
                    pre_handler: Some(Self::trampoline),
                    flags: bindings::KPROBE_FLAG_DISABLED,
                    // SAFETY: All-zero is what a C initialiser leaves in the other fields.
                    ..unsafe { core::mem::zeroed() }
                }),
                registered: false,
                handler,
                _pin: PhantomPinned,
            },
            GFP_KERNEL,
        )?);
        // SAFETY: Nothing is moved out of the pin.
        let raw = unsafe { this.as_mut().get_unchecked_mut() };
        // SAFETY: `probe` is initialised, and pinned until it is unregistered.
        to_result(unsafe { bindings::register_kprobe(raw.probe.get()) })
            .inspect_err(|&err| explain(symbol, err))?;
        // INVARIANT: The kernel holds it from here on.
        raw.registered = true;
        Ok(this)
    }

    /// Arms or disarms the probe, which stays registered. May sleep.
    ///
    /// # Errors
    ///
    /// `EAGAIN`, explained in the kernel log, if all kprobes are switched off by
    /// `/sys/kernel/debug/kprobes/enabled`: `enable_kprobe()` (kernel/kprobes.c, 6.12) says nothing of
    /// it, and leaves the probe disarmed for good.
    pub(crate) fn arm(&self, armed: bool) -> Result {
        let probe = self.probe.get();
        if !armed {
            // SAFETY: By the type invariant the probe is registered.
            return to_result(unsafe { bindings::disable_kprobe(probe) });
        }
        // SAFETY: As above.
        to_result(unsafe { bindings::enable_kprobe(probe) })?;
        // SAFETY: As above; nobody else changes the flag.
        if unsafe { (*probe).flags } & bindings::KPROBE_FLAG_DISABLED != 0 {
            pr_err!("kprobes are switched off: write 1 to /sys/kernel/debug/kprobes/enabled\n");
            return Err(EAGAIN);
        }
        Ok(())
    }

    /// How many hits the kernel has skipped because another probe was being handled.
    pub(crate) fn missed(&self) -> u64 {
        // SAFETY: By the type invariant `probe` is valid; `nmissed` is a statistic that the kernel
        // writes without a lock, so a racing read sees an old or a new value.
        unsafe { core::ptr::addr_of!((*self.probe.get()).nmissed).read_volatile() as u64 }
    }

    /// The counter behind [`Self::missed`], for who has to look at it in a handler. Valid as long as
    /// the registration lives.
    pub(crate) fn missed_counter(&self) -> *const kernel::ffi::c_ulong {
        // SAFETY: By the type invariant `probe` is valid; only an address is computed.
        unsafe { core::ptr::addr_of!((*self.probe.get()).nmissed) }
    }

    /// # Safety
    ///
    /// Called by the kernel only, with the kprobe of a `Registration<T>` and the registers of the
    /// hit.
    unsafe extern "C" fn trampoline(
        probe: *mut bindings::kprobe,
        regs: *mut bindings::pt_regs,
    ) -> kernel::ffi::c_int {
        // SAFETY: `probe` is the `probe` of a registered, hence live, `Registration<T>`.
        let this = unsafe { &*kernel::container_of!(probe, Self, probe) };
        // SAFETY: `regs` are those of the hit and outlive this call.
        this.handler.entry(unsafe { Regs::from_raw(regs) });
        0
    }
}

impl<T: Handler> Drop for Registration<T> {
    fn drop(&mut self) {
        if self.registered {
            // SAFETY: By the type invariant it is registered. Returns after a grace period: no
            // handler runs then. May sleep.
            unsafe { bindings::unregister_kprobe(self.probe.get()) };
        }
    }
}
