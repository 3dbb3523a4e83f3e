// SPDX-License-Identifier: GPL-2.0

//! What ftrace calls at the entries of functions.

use crate::{bindings, hook::ftrace::Callee};
use kernel::{
    ftrace::{self, Entry},
    prelude::*,
};

/// A function that is called as ftrace calls one.
pub(crate) struct Function(bindings::ftrace_func_t);

// SAFETY: What [`Registration::new`] is given does what is allowed in any context, and stops what comes to it
// again in the same one (hooks.c).
unsafe impl ftrace::Handler for Function {
    #[inline(always)]
    fn call(&self, entry: &Entry<'_>) {
        if let Some(function) = self.0 {
            // SAFETY: By the safety requirements of [`Registration::new`] it is made for this place; it uses no ops.
            unsafe {
                function(
                    entry.ip(),
                    entry.return_address(),
                    core::ptr::null_mut(),
                    entry.as_raw(),
                )
            };
        }
    }
}

/// A function whose entry is ftrace's to call from. Dropping it may sleep, see the kernel crate's.
#[allow(dead_code)]
pub(crate) enum Registration {
    Direct(Pin<KBox<ftrace::DirectCall>>),
    Function(Pin<KBox<ftrace::Registration<Function>>>),
}

impl Registration {
    /// Has `callee` called at the entry of the function at `address`, from before this returns. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if ftrace has no place at that function, `EBUSY` if somebody else is called directly there or
    /// ftrace is switched off. Then nothing stays.
    ///
    /// # Safety
    ///
    /// What is called must be made for that function, and stay until the registration is gone.
    pub(crate) unsafe fn new(address: usize, callee: Callee) -> Result<Self> {
        Ok(match callee {
            Callee::Direct(trampoline) => {
                // SAFETY: By the safety requirements; hooks.c makes it as the architecture wants it.
                let call = unsafe { ftrace::DirectCall::new(address, trampoline) };
                Self::Direct(KBox::pin_init(call, GFP_KERNEL)?)
            }
            Callee::Function(function) => {
                let calls = ftrace::Registration::new(address, Function(function));
                Self::Function(KBox::pin_init(calls, GFP_KERNEL)?)
            }
        })
    }
}
