// SPDX-License-Identifier: GPL-2.0

//! A probe at the return of a kernel function, which remembers something from its entry.
//!
//! An fprobe, because it locks out nobody: while a kretprobe's handler runs, the kernel skips what other kprobes
//! of that CPU would see, and a handler that holds a window open runs for long.
//!
//! C header: include/linux/fprobe.h; kernel/trace/fprobe.c (6.12; on the function graph tracer since 6.14).

use super::Entry;

pub(crate) use super::backend::return_probe::Registration;

/// What is done when the function is entered and when it returns.
pub(crate) trait Handler: Send + Sync + 'static {
    /// What is carried from the entry to the return.
    type Carried: Copy + Send + 'static;

    /// Runs at the entry, with preemption disabled. `None` lets this call's return pass.
    fn entered(&self, at: Entry<'_>) -> Option<Self::Carried>;

    /// Runs between the function's last instruction and its caller's next one, with preemption
    /// disabled. Interrupts may come meanwhile, to handlers of their own.
    ///
    /// `return_to` is where the caller goes on.
    fn exit(&self, carried: &Self::Carried, return_to: usize);
}
