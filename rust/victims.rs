// SPDX-License-Identifier: GPL-2.0

//! The victims of a leaked wake: tasks that waited for the page's next life and are woken by its
//! last one.
//!
//! The wake's handler notes on its CPU what it has found, and the handler of `wake_page_function()`,
//! which the kernel calls for every waiter in the hash bucket, picks those that match. So the queue
//! is never locked or walked here. A wake that is moved to another CPU between the two (possible
//! until it takes the queue's lock) loses its victims.

use crate::{
    bindings, compat,
    detect::expected::{Notes, Waiter, Wake, KINDS},
    hook::Context,
    page::Page,
    percpu::PerCpu,
    report::Victim,
};
use core::{
    ffi::c_void,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use kernel::prelude::*;

/// The leaked wakes that are going on.
pub(crate) struct Victims {
    notes: PerCpu<Notes>,
    /// Does the kernel's function leave a waiter whose bit is set, even if that one does not want it?
    leaves_shared: AtomicBool,
}

/// What kind of context this is.
fn kind() -> usize {
    const { assert!(bindings::WW_CONTEXT_HARDIRQ as usize + 1 == KINDS) };
    // SAFETY: Reads the CPU's state. Any context.
    unsafe { bindings::ww_context() as usize }
}

impl Victims {
    /// None. May sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            notes: PerCpu::zeroed()?,
            leaves_shared: AtomicBool::new(false),
        })
    }

    /// Asks the kernel's function whom it wakes. May sleep.
    ///
    /// # Safety
    ///
    /// `wake_page_function` must be where the function of that name begins.
    pub(crate) unsafe fn ask(&self, wake_page_function: usize) -> Result {
        // SAFETY: By the safety requirements.
        let leaves = unsafe { bindings::ww_leaves_shared(wake_page_function as _) };
        if leaves < 0 {
            return Err(Error::from_errno(leaves));
        }
        self.leaves_shared.store(leaves != 0, Relaxed);
        Ok(())
    }

    /// A wake begins, looked at or not: this context's last one is over. For handlers of functions.
    #[inline]
    pub(crate) fn wake_begins(&self) {
        let notes = self.notes.this_cpu();
        if !notes.is_empty() {
            notes.begins(kind(), Context::now().id());
        }
    }

    /// The wake that begins is a finding, with that number. For handlers of functions.
    pub(crate) fn expect(&self, page: Page, flag: u32, number: u64) {
        let page = page.addr() as u64;
        let wake = Wake { page, flag };
        self.notes
            .this_cpu()
            .expect(kind(), Context::now().id(), wake, number);
    }

    /// Is no leaked wake going on here? For handlers of functions.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.notes.this_cpu().is_empty()
    }

    /// The task behind `wait`, and the number of the finding, if the wake that `key` is of is a leaked
    /// one; the conditions are those of `wake_page_function()`.
    ///
    /// # Safety
    ///
    /// `wait` must be the `wait_queue_entry` of a waiter for a page bit, and stay one; `key`, the
    /// `wait_page_key` of a wake.
    pub(crate) unsafe fn woken(&self, wait: usize, key: usize) -> Option<(u64, Victim)> {
        let wait = wait as *mut bindings::wait_queue_entry;
        let (mut flag, mut bit) = (0, 0);
        // SAFETY: By the safety requirements; the waiter is embedded in a `wait_page_queue`.
        let (page, folio) = unsafe {
            (
                bindings::ww_key_folio(key as *const c_void, &mut flag),
                bindings::ww_waiter_folio(wait, &mut bit),
            )
        };
        if folio != page || bit != flag {
            return None;
        }
        let (page, flag) = (page as usize, flag as u32);
        let wake = Wake {
            page: page as u64,
            flag,
        };
        let number = self
            .notes
            .this_cpu()
            .expected(kind(), Context::now().id(), wake)?;
        // SAFETY: By the safety requirements.
        let (waits, task) = unsafe { ((*wait).flags, (*wait).private) };
        // SAFETY: The waker was called with it as a page.
        let flags = unsafe { Page::from_addr(page) }.flags();
        let waiter = Waiter {
            exclusive: waits & bindings::WW_WQ_FLAG_EXCLUSIVE != 0,
            custom: waits & bindings::WW_WQ_FLAG_CUSTOM != 0,
            set: flags.wrapping_shr(flag) & 1 != 0,
        };
        if !waiter.is_woken(self.leaves_shared.load(Relaxed)) {
            return None;
        }
        let task = task.cast::<bindings::task_struct>();
        // SAFETY: A waiter's task stays until it has left the queue. `comm` may be written meanwhile: any bytes
        // are a value.
        let (pid, comm) = unsafe { ((*task).pid, (*task).comm) };
        let victim = Victim {
            pid,
            comm: comm.map(compat::byte),
            flag,
        };
        Some((number, victim))
    }
}
