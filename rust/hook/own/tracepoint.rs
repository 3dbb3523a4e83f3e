// SPDX-License-Identifier: GPL-2.0

//! A probe on one of the kernel's tracepoints, exported to modules or not.
//!
//! C header: include/linux/tracepoint.h; kernel/tracepoint.c (6.12).

use crate::{
    bindings, compat,
    hook::tracepoint::{no_tracepoint, Handler},
};
use core::ptr::NonNull;
use kernel::{error::to_result, prelude::*};

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
        let tracepoint = find(T::NAME)
            .ok_or(ENOENT)
            .inspect_err(|_| no_tracepoint(T::NAME))?;
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
