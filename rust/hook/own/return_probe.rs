// SPDX-License-Identifier: GPL-2.0

//! A probe at the return of a kernel function, which remembers something from its entry.
//!
//! An fprobe, because it locks out nobody: while a kretprobe's handler runs, the kernel skips what other kprobes
//! of that CPU would see, and a handler that holds a window open runs for long.
//!
//! C header: include/linux/fprobe.h; kernel/trace/fprobe.c (6.12; on the function graph tracer since 6.14).

use super::registered::{Object, Registered};
use crate::{
    bindings, compat,
    hook::{return_probe::Handler, Entry},
};
use core::{
    ffi::{c_char, c_void},
    mem::{size_of, MaybeUninit},
};
use kernel::{ffi::c_ulong, prelude::*};

/// An fprobe of one function.
#[repr(C)]
pub(crate) struct Probe {
    fprobe: bindings::fprobe,
    symbol: *const c_char,
}

// SAFETY: `ww_unregister_fprobe()` returns after a grace period: no handler runs then, and calls that
// are still inside the function return without one.
unsafe impl Object for Probe {
    unsafe fn register(object: *mut Self) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements. The symbol is looked up, and not kept.
        unsafe {
            bindings::ww_register_fprobe(
                core::ptr::addr_of_mut!((*object).fprobe),
                (*object).symbol.cast(),
            )
        }
    }

    unsafe fn unregister(object: *mut Self) {
        // SAFETY: By the safety requirements.
        unsafe { bindings::ww_unregister_fprobe(core::ptr::addr_of_mut!((*object).fprobe)) }
    }
}

/// A registered fprobe.
pub(crate) struct Registration<T: Handler>(Pin<KBox<Registered<Probe, T>>>);

impl<T: Handler> Registration<T> {
    /// Probes the return of `symbol`. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `EINVAL` if ftrace knows no such function, `EOPNOTSUPP` if this kernel has no fprobes
    /// (`CONFIG_FPROBE`); explained in the kernel log. Then nothing stays registered.
    pub(crate) fn new(symbol: &'static CStr, handler: T) -> Result<Self> {
        // The kernel aligns what is carried to a pointer.
        const { assert!(core::mem::align_of::<T::Carried>() <= size_of::<usize>()) };
        // SAFETY: All-zero is what a C initialiser leaves in the fields not named.
        let mut fprobe: bindings::fprobe = unsafe { core::mem::zeroed() };
        fprobe.entry_handler = Some(Self::entry_trampoline);
        fprobe.exit_handler = Some(Self::exit_trampoline);
        fprobe.entry_data_size = size_of::<T::Carried>() as _;
        let symbol_pointer = symbol.as_char_ptr().cast();
        let probe = Probe {
            fprobe,
            symbol: symbol_pointer,
        };
        Registered::new(symbol, probe, handler).map(Self)
    }

    /// How many returns the kernel has skipped: too many calls at once, or one inside of this probe's own handler
    /// in the same context.
    pub(crate) fn missed(&self) -> u64 {
        // SAFETY: It is registered as long as `self` lives; a statistic that the kernel writes without a lock, so
        // a racing read sees an old or a new value.
        unsafe { core::ptr::addr_of!((*self.0.get()).fprobe.nmissed).read_volatile() as u64 }
    }

    /// `R` is `pt_regs` or, since 6.14, `ftrace_regs`.
    ///
    /// # Safety
    ///
    /// Called by the kernel only, with a `Registration<T>`'s fprobe.
    unsafe extern "C" fn entry_trampoline<R>(
        fprobe: *mut bindings::fprobe,
        _entry_ip: c_ulong,
        _return_to: c_ulong,
        regs: *mut R,
        carried: *mut c_void,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the safety requirements.
        let handler = unsafe { Self::handler(fprobe) };
        let mut entry = MaybeUninit::<bindings::ww_entry>::uninit();
        // SAFETY: `regs` are those of the entry and outlive this call. All of `entry` is written.
        let at = unsafe {
            bindings::ww_fprobe_entry(regs.cast(), entry.as_mut_ptr());
            Entry::new(&*entry.as_ptr())
        };
        match handler.entered(at) {
            Some(what) => {
                // SAFETY: The kernel has `entry_data_size` bytes there, aligned to a pointer.
                unsafe { carried.cast::<T::Carried>().write(what) };
                0
            }
            None => 1,
        }
    }

    /// # Safety
    ///
    /// As for [`Self::entry_trampoline`], which has returned 0 for this call.
    unsafe extern "C" fn exit_trampoline<R>(
        fprobe: *mut bindings::fprobe,
        _entry_ip: c_ulong,
        return_to: c_ulong,
        _regs: *mut R,
        carried: *mut c_void,
    ) {
        // SAFETY: By the safety requirements. `entry_trampoline` has written what is carried.
        let (handler, carried) = unsafe { (Self::handler(fprobe), &*carried.cast::<T::Carried>()) };
        handler.exit(carried, compat::word(return_to));
    }

    /// # Safety
    ///
    /// `fprobe` must be of a `Registration<T>`, in one of its handlers.
    unsafe fn handler<'a>(fprobe: *mut bindings::fprobe) -> &'a T {
        // SAFETY: A handler runs only while it is registered, so it is the first field of the object of a live
        // `Registered`.
        unsafe { Registered::handler(fprobe.cast::<Probe>()) }
    }
}
