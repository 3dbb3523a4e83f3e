// SPDX-License-Identifier: GPL-2.0

//! A probe at the entry of a kernel function.
//!
//! C header: include/linux/kprobes.h; kernel/kprobes.c (6.12).

use super::{
    registered::{Object, Registered},
    Entry, Handler,
};
use crate::{bindings, detect::symbol::Range, text::Line};
use kernel::{c_str, error::to_result, prelude::*};

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

    /// Arms or disarms the probe, which stays registered. May sleep. Ask [`are_on`] before.
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
    pub(super) fn address(&self) -> usize {
        // SAFETY: It is registered as long as `self` lives, and the kernel does not change `addr`.
        unsafe { (*self.0.get()).addr as usize }
    }

    /// Where the function's code is; nowhere, if that can't be told.
    pub(crate) fn range(&self) -> Range {
        range_of(self.address()).unwrap_or_default()
    }

    /// What is called.
    pub(super) fn handler(&self) -> &T {
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

/// Are kprobes switched on? May sleep.
///
/// # Errors
///
/// `EAGAIN`, explained in the kernel log, if not; or those of [`are_off`].
pub(crate) fn are_on() -> Result {
    if are_off()? {
        pr_err!("kprobes are switched off: write 1 to /sys/kernel/debug/kprobes/enabled\n");
        return Err(EAGAIN);
    }
    Ok(())
}

/// Are all kprobes switched off, by `/sys/kernel/debug/kprobes/enabled`? May sleep.
///
/// `enable_kprobe()` (kernel/kprobes.c, 6.12) says nothing of it if so, and leaves the probe disarmed for good.
/// What it leaves behind can be told only by a probe that is the only one of its place.
///
/// # Errors
///
/// Those of `register_kprobe()` and `enable_kprobe()`.
pub(crate) fn are_off() -> Result<bool> {
    let mut probe = bindings::kprobe {
        addr: bindings::ww_nobody_calls as *mut u8,
        flags: bindings::KPROBE_FLAG_DISABLED,
        // SAFETY: All-zero is what a C initialiser leaves in the other fields.
        ..unsafe { core::mem::zeroed() }
    };
    // SAFETY: `probe` is initialised, and stays where it is until it is unregistered.
    to_result(unsafe { bindings::register_kprobe(&mut probe) })?;
    // SAFETY: Just registered.
    let enabled = to_result(unsafe { bindings::enable_kprobe(&mut probe) });
    // SAFETY: As above. Nobody else changes the flag.
    let flags = unsafe { core::ptr::addr_of!(probe.flags).read_volatile() };
    // SAFETY: As above.
    unsafe { bindings::unregister_kprobe(&mut probe) };
    enabled?;
    Ok(flags & bindings::KPROBE_FLAG_DISABLED != 0)
}

/// Where a symbol is; kprobes can look up what is not exported. May sleep.
pub(crate) fn address(symbol: &'static CStr) -> Option<usize> {
    let mut probe = bindings::kprobe {
        symbol_name: symbol.as_char_ptr(),
        flags: bindings::KPROBE_FLAG_DISABLED,
        // SAFETY: All-zero is what a C initialiser leaves in the other fields.
        ..unsafe { core::mem::zeroed() }
    };
    // SAFETY: `probe` is initialised, and stays where it is until it is unregistered.
    if unsafe { bindings::register_kprobe(&mut probe) } == 0 {
        // SAFETY: Just registered.
        unsafe { bindings::unregister_kprobe(&mut probe) };
    }
    // `register_kprobe()` (kernel/kprobes.c, 6.12) has found it before it refuses to probe it.
    let address = probe.addr as usize;
    (address != 0).then_some(address)
}

/// What a symbol is the name of. May sleep.
pub(crate) fn range(symbol: &'static CStr) -> Option<Range> {
    range_of(address(symbol)?)
}

/// Of the symbol that the address is in.
fn range_of(address: usize) -> Option<Range> {
    let mut shown = Line::new();
    // SAFETY: Printed as a symbol.
    unsafe { shown.put_pointer(c_str!("%pS"), address as *const core::ffi::c_void) };
    Range::parse(address, core::str::from_utf8(shown.as_bytes()).ok()?)
}

/// The entry that a kprobe has seen, by its registers.
#[inline(always)]
fn entry_of(regs: &bindings::pt_regs) -> bindings::ww_entry {
    bindings::ww_entry {
        arg: [regs.di, regs.si, regs.dx, regs.cx],
        sp: regs.sp,
        bp: regs.bp,
        ip: regs.ip,
    }
}
