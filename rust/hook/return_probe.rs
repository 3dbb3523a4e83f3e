// SPDX-License-Identifier: GPL-2.0

//! A probe at the return of a kernel function, which remembers something from its entry.
//!
//! C header: include/linux/kprobes.h; kernel/kprobes.c, kernel/trace/rethook.c (6.12).

use super::{
    entry_of,
    registered::{Object, Registered},
    Entry,
};
use crate::{bindings, compat};
use core::mem::size_of;
use kernel::prelude::*;

/// What is done when the function is entered and when it returns.
pub(crate) trait Handler: Send + Sync + 'static {
    /// What is carried from the entry to the return.
    type Carried: Copy;

    /// Runs at the entry, with preemption disabled. `None` lets this call's return pass.
    fn entered(&self, at: Entry<'_>) -> Option<Self::Carried>;

    /// Runs between the function's last instruction and its caller's next one, with preemption
    /// disabled. Other probes' hits on this CPU are skipped (and counted by them) meanwhile.
    ///
    /// `return_to` is where the caller goes on.
    fn exit(&self, carried: &Self::Carried, return_to: usize);
}

// SAFETY: `unregister_kretprobe()` returns after a grace period: no handler runs then, and calls that
// are still inside the function return without one.
unsafe impl Object for bindings::kretprobe {
    unsafe fn register(object: *mut Self) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements.
        unsafe { bindings::register_kretprobe(object) }
    }

    unsafe fn unregister(object: *mut Self) {
        // SAFETY: By the safety requirements.
        unsafe { bindings::unregister_kretprobe(object) }
    }
}

/// A registered kretprobe.
pub(crate) struct Registration<T: Handler>(Pin<KBox<Registered<bindings::kretprobe, T>>>);

impl<T: Handler> Registration<T> {
    /// Probes the return of `symbol`. May sleep. The errors are those of
    /// [`super::kprobe::Registration::new`]; ask [`super::kprobe::are_on`] before.
    pub(crate) fn new(symbol: &'static CStr, handler: T) -> Result<Self> {
        // The kernel aligns an instance's data to a pointer.
        const { assert!(core::mem::align_of::<T::Carried>() <= size_of::<usize>()) };
        // SAFETY: All-zero is what a C initialiser leaves in the fields not named.
        let mut probe: bindings::kretprobe = unsafe { core::mem::zeroed() };
        probe.kp.symbol_name = symbol.as_char_ptr();
        probe.entry_handler = Some(Self::entry_trampoline);
        probe.handler = Some(Self::exit_trampoline);
        probe.data_size = size_of::<T::Carried>();
        Registered::new(symbol, probe, handler).map(Self)
    }

    /// How many returns the kernel has skipped: too many calls at once, or another probe was
    /// being handled.
    pub(crate) fn missed(&self) -> u64 {
        let probe = self.0.get();
        // SAFETY: It is registered as long as `self` lives; both are statistics that the kernel
        // writes without a lock, so a racing read sees an old or a new value.
        unsafe {
            let returns = core::ptr::addr_of!((*probe).nmissed).read_volatile() as u64;
            let entries = core::ptr::addr_of!((*probe).kp.nmissed).read_volatile() as u64;
            returns + entries
        }
    }

    /// # Safety
    ///
    /// Called by the kernel only, with an instance of a `Registration<T>`'s kretprobe.
    unsafe extern "C" fn entry_trampoline(
        instance: *mut bindings::kretprobe_instance,
        regs: *mut bindings::pt_regs,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements.
        let handler = unsafe { Self::handler(instance) };
        // SAFETY: `regs` are those of the hit and outlive this call.
        match handler.entered(Entry::new(&entry_of(unsafe { &*regs }))) {
            Some(carried) => {
                // SAFETY: The kernel has allocated `data_size` bytes there, aligned to a pointer.
                unsafe { Self::data(instance).write(carried) };
                0
            }
            None => 1,
        }
    }

    /// # Safety
    ///
    /// As for [`Self::entry_trampoline`], which has returned 0 for this instance.
    unsafe extern "C" fn exit_trampoline(
        instance: *mut bindings::kretprobe_instance,
        regs: *mut bindings::pt_regs,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements.
        let handler = unsafe { Self::handler(instance) };
        // SAFETY: `regs` are those of the return and outlive this call. `entry_trampoline` has
        // written the data.
        let (return_to, carried) = unsafe { ((*regs).ip, &*Self::data(instance)) };
        handler.exit(carried, compat::word(return_to));
        0
    }

    /// # Safety
    ///
    /// `instance` must be of a `Registration<T>`'s kretprobe, in one of its handlers.
    unsafe fn handler<'a>(instance: *mut bindings::kretprobe_instance) -> &'a T {
        // SAFETY: A handler runs only while the kretprobe is registered, so it can be found and is
        // the object of a live `Registered`.
        unsafe { Registered::handler(bindings::ww_get_kretprobe(instance)) }
    }

    /// # Safety
    ///
    /// `instance` must point at a kretprobe instance.
    unsafe fn data(instance: *mut bindings::kretprobe_instance) -> *mut T::Carried {
        // SAFETY: By the safety requirements; no reference is made.
        unsafe { core::ptr::addr_of_mut!((*instance).data) }.cast()
    }
}
