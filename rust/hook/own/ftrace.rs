// SPDX-License-Identifier: GPL-2.0

//! What ftrace calls at the entries of functions: a trampoline of ours directly, or a function of ours with
//! ftrace's own trampoline before it.
//!
//! C header: include/linux/ftrace.h; kernel/trace/ftrace.c (6.12).

use crate::{bindings, hook::ftrace::Callee};
use kernel::{error::to_result, prelude::*, types::Opaque};

/// A function whose entry is ftrace's to call from.
///
/// # Invariants
///
/// `ops` is registered for `callee` at one function, and does not move.
pub(crate) struct Registration {
    ops: Pin<KBox<Opaque<bindings::ftrace_ops>>>,
    callee: Callee,
}

// SAFETY: The kernel serialises access to registered ops.
unsafe impl Send for Registration {}
// SAFETY: There are no methods on `&self`.
unsafe impl Sync for Registration {}

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
        // SAFETY: All-zero is what a C initialiser leaves in the fields.
        let mut ops: bindings::ftrace_ops = unsafe { core::mem::zeroed() };
        match callee {
            // SAFETY: A constant.
            Callee::Direct(_) => ops.ops_func = unsafe { bindings::ww_shares },
            Callee::Function(func) => {
                ops.func = func;
                // So that `sysctl kernel.ftrace_enabled=0` is refused, and not obeyed in silence.
                ops.flags = bindings::FTRACE_OPS_FL_PERMANENT as _;
            }
        }
        let ops = KBox::pin(Opaque::new(ops), GFP_KERNEL)?;
        // SAFETY: `ops` are initialised, pinned, and not registered yet.
        to_result(unsafe { bindings::ftrace_set_filter_ip(ops.get(), address as _, 0, 0) })?;
        let registered = match callee {
            // SAFETY: `ops` has its filter; by the safety requirements `trampoline` is right there.
            Callee::Direct(trampoline) => unsafe {
                bindings::register_ftrace_direct(ops.get(), trampoline as usize as _)
            },
            // SAFETY: As above.
            Callee::Function(_) => unsafe { bindings::register_ftrace_function(ops.get()) },
        };
        if let Err(err) = to_result(registered) {
            // SAFETY: It is not registered; this frees its filter.
            unsafe { bindings::ftrace_free_filter(ops.get()) };
            return Err(err);
        }
        // INVARIANT: Just registered.
        Ok(Self { ops, callee })
    }
}

impl Drop for Registration {
    /// May sleep, for as long as any task runs that has not slept or been in user space since: one may have been
    /// preempted in a trampoline. `ftrace_shutdown()` (kernel/trace/ftrace.c, 6.12) waits for that
    /// where the ops are not the kernel's own data, for all CPUs to have scheduled and then for all tasks.
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe {
            match self.callee {
                Callee::Direct(trampoline) => {
                    bindings::unregister_ftrace_direct(
                        self.ops.get(),
                        trampoline as usize as _,
                        true,
                    );
                }
                Callee::Function(_) => {
                    bindings::unregister_ftrace_function(self.ops.get());
                    bindings::ftrace_free_filter(self.ops.get());
                }
            }
        }
    }
}
