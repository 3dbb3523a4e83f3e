// SPDX-License-Identifier: GPL-2.0

//! The victims of a leaked wake: tasks that waited for the page's next life and are woken by its
//! last one.
//!
//! The wake's handler notes on its CPU what it has found, and the handler of `wake_page_function()`,
//! which the kernel calls for every waiter in the hash bucket, picks those that match. So the queue
//! is never locked or walked here. A wake that is moved to another CPU between the two (possible
//! until it takes the queue's lock) loses its victims.

use crate::{bindings, compat, page::Page, percpu::PerCpu, report::Victim, windows};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kernel::prelude::*;

/// The leaked wake of a CPU: its context (0 if there is none), page, flag, and the number of
/// its report.
type Expected = [AtomicU64; 4];

/// The leaked wakes that are going on, one for each CPU.
pub(crate) struct Victims(PerCpu<Expected>);

impl Victims {
    /// None. May sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(PerCpu::zeroed()?))
    }

    /// A wake begins: this context's last one is over. For kprobe handlers.
    #[inline]
    pub(crate) fn wake_begins(&self) {
        let [context, ..] = self.0.this_cpu();
        if context.load(Relaxed) != 0 {
            context.store(0, Relaxed);
        }
    }

    /// The wake that begins is a finding, with that number. For kprobe handlers.
    pub(crate) fn expect(&self, page: Page, flag: u32, number: u64) {
        let [context, in_page, in_flag, in_number] = self.0.this_cpu();
        in_page.store(page.addr() as u64, Relaxed);
        in_flag.store(flag.into(), Relaxed);
        in_number.store(number, Relaxed);
        context.store(windows::context(), Relaxed);
    }

    /// The number of this context's leaked wake, if it is in one. For kprobe handlers.
    #[inline]
    pub(crate) fn expected(&self) -> Option<u64> {
        let [context, _, _, number] = self.0.this_cpu();
        let expected = context.load(Relaxed);
        (expected != 0 && expected == windows::context()).then(|| number.load(Relaxed))
    }

    /// The task behind `wait`, if the leaked wake is for it; the conditions are those of
    /// `wake_page_function()`.
    ///
    /// # Safety
    ///
    /// `wait` must be the `wait_queue_entry` of a waiter for a page bit, and stay one.
    pub(crate) unsafe fn woken(&self, wait: usize) -> Option<Victim> {
        let wait = wait as *mut bindings::wait_queue_entry;
        let [_, page, flag, _] = self.0.this_cpu();
        let (page, flag) = (page.load(Relaxed) as usize, flag.load(Relaxed) as u32);
        let mut bit = 0;
        // SAFETY: By the safety requirements it is embedded in a `wait_page_queue`.
        let folio = unsafe { bindings::ww_waiter_folio(wait, &mut bit) };
        if folio as usize != page || bit as u32 != flag {
            return None;
        }
        // SAFETY: By the safety requirements.
        let (waits, task) = unsafe { ((*wait).flags, (*wait).private) };
        // SAFETY: The waker was called with it as a page.
        let flags = unsafe { Page::from_addr(page) }.flags();
        let still_set = flags.wrapping_shr(flag) & 1 != 0;
        if waits & bindings::WW_WQ_FLAG_EXCLUSIVE != 0 && still_set {
            return None;
        }
        let task = task.cast::<bindings::task_struct>();
        // SAFETY: A waiter's task stays until it has left the queue.
        let (pid, comm) = unsafe { ((*task).pid, (*task).comm) };
        Some(Victim {
            pid,
            comm: comm.map(compat::byte),
            flag,
        })
    }
}
