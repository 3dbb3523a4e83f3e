// SPDX-License-Identifier: GPL-2.0

//! A probe at the return of a kernel function, which remembers something from its entry.
//!
//! C header: include/linux/kprobes.h; kernel/kprobes.c, kernel/trace/rethook.c (6.12).

use super::{explain, Regs};
use crate::bindings;
use core::{marker::PhantomPinned, mem::size_of};
use kernel::{error::to_result, prelude::*, types::Opaque};

/// What is done when the function is entered and when it returns.
pub(crate) trait Handler: Send + Sync + 'static {
    /// What is carried from the entry to the return.
    type Carried: Copy;

    /// Runs at the entry, with preemption disabled. `None` lets this call's return pass.
    fn entry(&self, regs: &Regs) -> Option<Self::Carried>;

    /// Runs between the function's last instruction and its caller's next one, with preemption
    /// disabled. Other probes' hits on this CPU are skipped (and counted by them) meanwhile.
    ///
    /// `return_to` is where the caller goes on.
    fn exit(&self, carried: &Self::Carried, return_to: usize);
}

/// A registered kretprobe.
///
/// # Invariants
///
/// `probe` does not move, and the kernel holds it if and only if `registered`, which is true from
/// the end of [`Registration::new`] to `drop`.
pub(crate) struct Registration<T: Handler> {
    probe: Opaque<bindings::kretprobe>,
    registered: bool,
    handler: T,
    _pin: PhantomPinned,
}

// SAFETY: The kernel serialises access to a registered kretprobe; `T` is `Send`.
unsafe impl<T: Handler> Send for Registration<T> {}
// SAFETY: All methods on `&self` may be called from any thread; `T` is `Sync`.
unsafe impl<T: Handler> Sync for Registration<T> {}

impl<T: Handler> Registration<T> {
    /// Probes the return of `symbol`. May sleep. The errors are those of
    /// [`super::kprobe::Registration::new`].
    pub(crate) fn new(symbol: &'static CStr, handler: T) -> Result<Pin<KBox<Self>>> {
        // The kernel aligns an instance's data to a pointer.
        const { assert!(core::mem::align_of::<T::Carried>() <= size_of::<usize>()) };
        // SAFETY: All-zero is what a C initialiser leaves in the fields not named.
        let mut probe: bindings::kretprobe = unsafe { core::mem::zeroed() };
        probe.kp.symbol_name = symbol.as_char_ptr();
        probe.entry_handler = Some(Self::entry_trampoline);
        probe.handler = Some(Self::exit_trampoline);
        probe.data_size = size_of::<T::Carried>();
        let mut this = Pin::from(KBox::new(
            Self {
                probe: Opaque::new(probe),
                registered: false,
                handler,
                _pin: PhantomPinned,
            },
            GFP_KERNEL,
        )?);
        // SAFETY: Nothing is moved out of the pin.
        let raw = unsafe { this.as_mut().get_unchecked_mut() };
        // SAFETY: `probe` is initialised, and pinned until it is unregistered.
        to_result(unsafe { bindings::register_kretprobe(raw.probe.get()) })
            .inspect_err(|&err| explain(symbol, err))?;
        // INVARIANT: The kernel holds it from here on.
        raw.registered = true;
        Ok(this)
    }

    /// How many returns the kernel has skipped: too many calls at once, or another probe was
    /// being handled.
    pub(crate) fn missed(&self) -> u64 {
        let probe = self.probe.get();
        // SAFETY: By the type invariant `probe` is valid; both are statistics that the kernel
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
        let this = unsafe { Self::of(instance) };
        // SAFETY: `regs` are those of the hit and outlive this call.
        match this.handler.entry(unsafe { Regs::from_raw(regs) }) {
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
        let this = unsafe { Self::of(instance) };
        // SAFETY: `regs` are those of the return and outlive this call. `entry_trampoline` has
        // written the data.
        let (regs, carried) = unsafe { (Regs::from_raw(regs), &*Self::data(instance)) };
        this.handler.exit(carried, regs.ip());
        0
    }

    /// # Safety
    ///
    /// `instance` must be of a `Registration<T>`'s kretprobe, in one of its handlers.
    unsafe fn of<'a>(instance: *mut bindings::kretprobe_instance) -> &'a Self {
        // SAFETY: A handler runs only while the kretprobe is registered, so it can be found and is
        // the `probe` of a live `Registration<T>`.
        unsafe { &*kernel::container_of!(bindings::ww_get_kretprobe(instance), Self, probe) }
    }

    /// # Safety
    ///
    /// `instance` must point at a kretprobe instance.
    unsafe fn data(instance: *mut bindings::kretprobe_instance) -> *mut T::Carried {
        // SAFETY: By the safety requirements; no reference is made.
        unsafe { core::ptr::addr_of_mut!((*instance).data) }.cast()
    }
}

impl<T: Handler> Drop for Registration<T> {
    fn drop(&mut self) {
        if self.registered {
            // SAFETY: By the type invariant it is registered. Returns after a grace period: no
            // handler runs then, and calls that are still inside the function return without one.
            // May sleep.
            unsafe { bindings::unregister_kretprobe(self.probe.get()) };
        }
    }
}
