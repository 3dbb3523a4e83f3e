// SPDX-License-Identifier: GPL-2.0

//! A probe on one of the kernel's tracepoints.

use crate::hook::tracepoint::{no_tracepoint, Handler};
use kernel::{prelude::*, tracepoint};

/// What the kernel crate is given for a handler of ours. The probe takes a pointer to this for one to that.
#[repr(transparent)]
struct Probe<T>(T);

// SAFETY: [`Handler`] asks for the same.
unsafe impl<T: Handler> tracepoint::Handler for Probe<T> {
    const NAME: &'static CStr = T::NAME;
    const PROBE: *const core::ffi::c_void = T::PROBE;
}

/// A registered probe.
#[allow(dead_code)]
pub(crate) struct Registration<T: Handler>(Pin<KBox<tracepoint::Registration<Probe<T>>>>);

impl<T: Handler> Registration<T> {
    /// Connects `handler` to its tracepoint. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT`, explained in the kernel log, if this kernel has no such tracepoint.
    pub(crate) fn new(handler: T) -> Result<Self> {
        KBox::pin_init(tracepoint::Registration::new(Probe(handler)), GFP_KERNEL)
            .inspect_err(|&err| {
                if err == ENOENT {
                    no_tracepoint(T::NAME);
                }
            })
            .map(Self)
    }
}
