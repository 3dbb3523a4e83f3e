// SPDX-License-Identifier: GPL-2.0

//! A probe on one of the kernel's tracepoints, exported to modules or not.
//!
//! C header: include/linux/tracepoint.h; kernel/tracepoint.c (6.12).

use crate::{bindings, compat};
use core::ffi::c_void;
use core::ptr::NonNull;
use kernel::{error::to_result, prelude::*};

/// What a probe function of a tracepoint looks like: a pointer to its handler, then the
/// tracepoint's own arguments.
///
/// The first is a `void *`, and not a pointer to what it is: with a second probe on the tracepoint the call
/// is an indirect one, and a kernel with `CONFIG_CFI_CLANG` has it checked that the prototypes are the same.
///
/// # Safety
///
/// `PROBE` must take a `*mut c_void` and then exactly the arguments of `TP_PROTO` of the
/// tracepoint called `NAME`, and use the first as a `&Self` only.
pub(crate) unsafe trait Handler: Send + Sync + 'static {
    /// The tracepoint's name.
    const NAME: &'static CStr;
    /// An `extern "C"` function, cast to a pointer. Runs in the tracepoint's context, with preemption
    /// disabled by 6.12 and not by 7.3: see [`crate::percpu::NoPreempt`].
    const PROBE: *const c_void;
}

/// A registered probe.
///
/// # Invariants
///
/// `PROBE` is registered at `tracepoint` with a pointer to `handler`, which does not move.
pub(crate) struct Registration<T: Handler> {
    tracepoint: NonNull<bindings::tracepoint>,
    handler: Pin<KBox<T>>,
}

// SAFETY: The tracepoint is static data of the kernel; `T` is `Send`.
unsafe impl<T: Handler> Send for Registration<T> {}
// SAFETY: There are no methods on `&self`.
unsafe impl<T: Handler> Sync for Registration<T> {}

impl<T: Handler> Registration<T> {
    /// Connects `handler` to its tracepoint. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT`, explained in the kernel log, if this kernel has no such tracepoint.
    pub(crate) fn new(handler: T) -> Result<Self> {
        let handler = KBox::pin(handler, GFP_KERNEL)?;
        let tracepoint = find(T::NAME).ok_or_else(|| {
            pr_err!(
                "no tracepoint {}: build the kernel with CONFIG_TRACEPOINTS (CONFIG_FTRACE selects it)\n",
                compat::c_text(T::NAME)
            );
            ENOENT
        })?;
        // SAFETY: `tracepoint` is one of the kernel's own, which are never freed. `PROBE` has the
        // signature it calls, and `handler` outlives the registration.
        to_result(unsafe {
            bindings::tracepoint_probe_register(
                tracepoint.as_ptr(),
                T::PROBE.cast_mut().cast(),
                Self::data(&handler),
            )
        })?;
        // INVARIANT: Just registered; the handler is pinned.
        Ok(Self {
            tracepoint,
            handler,
        })
    }

    fn data(handler: &Pin<KBox<T>>) -> *mut kernel::ffi::c_void {
        core::ptr::from_ref::<T>(handler).cast_mut().cast()
    }
}

impl<T: Handler> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; the arguments are those of the registration. After the
        // second call, which may sleep, no probe runs any more.
        unsafe {
            bindings::tracepoint_probe_unregister(
                self.tracepoint.as_ptr(),
                T::PROBE.cast_mut().cast(),
                Self::data(&self.handler),
            );
            bindings::ww_tracepoint_synchronize_unregister();
        }
    }
}

/// Looks a tracepoint up by its name, since those of mm are not exported.
fn find(name: &CStr) -> Option<NonNull<bindings::tracepoint>> {
    struct Search<'a> {
        name: &'a CStr,
        found: Option<NonNull<bindings::tracepoint>>,
    }

    /// # Safety
    ///
    /// `tp` must be a tracepoint and `search` a `Search`, as `find` passes it.
    unsafe extern "C" fn visit(tp: *mut bindings::tracepoint, search: *mut kernel::ffi::c_void) {
        // SAFETY: By the safety requirements.
        let search = unsafe { &mut *search.cast::<Search<'_>>() };
        // SAFETY: Every tracepoint has a name, a C string.
        if compat::c_bytes(unsafe { CStr::from_char_ptr((*tp).name) })
            == compat::c_bytes(search.name)
        {
            search.found = NonNull::new(tp);
        }
    }

    let mut search = Search { name, found: None };
    // SAFETY: `visit` takes the pointer for what it is, and is called only before this returns.
    unsafe {
        bindings::for_each_kernel_tracepoint(
            Some(visit),
            core::ptr::addr_of_mut!(search).cast::<kernel::ffi::c_void>(),
        )
    };
    search.found
}
