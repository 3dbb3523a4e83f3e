// SPDX-License-Identifier: GPL-2.0

//! A probe at the entry of a kernel function.
//!
//! C header: include/linux/kprobes.h; kernel/kprobes.c (6.12).

use super::{Entry, Handler};
use kernel::{c_str, prelude::*};

pub(crate) use super::backend::kprobe::Registration;

/// What is called for [`are_off`].
struct Nothing;

impl Handler for Nothing {
    fn entered(&self, _at: Entry<'_>) {}
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
/// Those of [`Registration::new`] and [`Registration::arm`].
pub(crate) fn are_off() -> Result<bool> {
    let probe = Registration::new(c_str!("ww_nobody_calls"), Nothing)?;
    probe.arm(true)?;
    Ok(probe.is_disarmed())
}
