// SPDX-License-Identifier: GPL-2.0

//! Per-CPU memory.
//!
//! C header: include/linux/percpu.h; mm/percpu.c (6.12).

use crate::{bindings, detect::callers::Row};
use core::{
    marker::PhantomData,
    mem::{align_of, size_of},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};
use kernel::prelude::*;

/// What can be shared by CPUs and starts as zeroes.
///
/// # Safety
///
/// All-zero bytes must be a value of it, which must not need to be dropped.
pub(crate) unsafe trait Zeroed: Sync {}

// SAFETY: An integer.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: Atomic integers.
unsafe impl Zeroed for Row {}
// SAFETY: Several of what is `Zeroed`.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// A `T` for each possible CPU.
///
/// # Invariants
///
/// `at` is per-CPU memory with a `T` for each possible CPU.
pub(crate) struct PerCpu<T: Zeroed> {
    at: NonNull<core::ffi::c_void>,
    _values: PhantomData<T>,
}

// SAFETY: Per-CPU memory belongs to no thread; `T` is `Sync`, and not dropped.
unsafe impl<T: Zeroed> Send for PerCpu<T> {}
// SAFETY: As above.
unsafe impl<T: Zeroed> Sync for PerCpu<T> {}

impl<T: Zeroed> PerCpu<T> {
    /// All of them zeroes. May sleep.
    pub(crate) fn zeroed() -> Result<Self> {
        // SAFETY: Size and alignment are a type's. The memory is zeroed by the kernel.
        let at = unsafe { bindings::ww_alloc_percpu(size_of::<T>(), align_of::<T>()) };
        // INVARIANT: Just allocated, and zeroes are a `T`.
        NonNull::new(at.cast())
            .map(|at| Self {
                at,
                _values: PhantomData,
            })
            .ok_or(ENOMEM)
    }

    /// That of this CPU. Any context with preemption disabled.
    #[inline]
    pub(crate) fn this_cpu(&self) -> &T {
        // SAFETY: By the type invariant. If the task moved to another CPU, which callers exclude,
        // it would be that of the CPU it was on: valid all the same.
        unsafe { &*bindings::ww_this_cpu_ptr(self.at.as_ptr().cast()).cast() }
    }

    /// Those of all possible CPUs.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        // SAFETY: Set at boot.
        let cpus = unsafe { bindings::nr_cpu_ids };
        (0..cpus)
            // SAFETY: Tests a bit in a mask.
            .filter(|&cpu| unsafe { bindings::ww_cpu_possible(cpu) })
            // SAFETY: By the type invariant; `cpu` is possible.
            .map(|cpu| unsafe { &*bindings::ww_per_cpu_ptr(self.at.as_ptr().cast(), cpu).cast() })
    }
}

impl<T: Zeroed> Drop for PerCpu<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, and nobody uses it any more.
        unsafe { bindings::free_percpu(self.at.as_ptr().cast()) };
    }
}
