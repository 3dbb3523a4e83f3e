// SPDX-License-Identifier: GPL-2.0

//! Per-CPU memory.
//!
//! C header: include/linux/percpu.h; mm/percpu.c (6.12).

use crate::{
    bindings,
    detect::{callers::Row, expected::Notes},
};
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
// SAFETY: Atomic integers.
unsafe impl Zeroed for Notes {}
// SAFETY: Several of what is `Zeroed`.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// As long as one lives, the task stays on its CPU and runs.
pub(crate) struct NoPreempt(PhantomData<*mut ()>);

impl NoPreempt {
    #[inline]
    pub(crate) fn new() -> Self {
        // SAFETY: Any context; undone by `drop`.
        unsafe { bindings::ww_preempt_disable() };
        Self(PhantomData)
    }
}

impl Drop for NoPreempt {
    fn drop(&mut self) {
        // SAFETY: `new` has disabled it, on this CPU: not `Send`, and nothing between has slept.
        unsafe { bindings::ww_preempt_enable() };
    }
}

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
        unsafe { &*this_cpu_ptr(self.at.as_ptr().cast()).cast() }
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

impl<const N: usize> PerCpu<[AtomicU64; N]> {
    /// Counts in one place of this CPU's, in one instruction. Any context with preemption disabled.
    #[cfg(all(target_arch = "x86_64", CONFIG_SMP))]
    #[inline(always)]
    pub(crate) fn one_more(&self, place: usize) {
        let at = self.at.as_ptr().cast::<AtomicU64>().wrapping_add(place % N);
        // SAFETY: By the type invariant; %gs makes it this CPU's.
        unsafe { core::arch::asm!("inc qword ptr gs:[{}]", in(reg) at, options(nostack)) };
    }

    /// As above.
    #[cfg(not(all(target_arch = "x86_64", CONFIG_SMP)))]
    pub(crate) fn one_more(&self, place: usize) {
        self.this_cpu()[place % N].one_more();
    }
}

/// `this_cpu_ptr()` (arch/x86/include/asm/percpu.h, 6.12), which is too short to be called.
///
/// # Safety
///
/// `at` must be memory from `alloc_percpu()`. It is this CPU's for as long as preemption is disabled.
#[cfg(all(target_arch = "x86_64", CONFIG_SMP))]
#[inline(always)]
unsafe fn this_cpu_ptr(at: *mut kernel::ffi::c_void) -> *mut kernel::ffi::c_void {
    at.wrapping_byte_add(offset())
}

#[cfg(not(all(target_arch = "x86_64", CONFIG_SMP)))]
use bindings::ww_this_cpu_ptr as this_cpu_ptr;

/// A variable of this CPU's, or a word `at` so many bytes in it, as `this_cpu_read()` has it
/// (arch/x86/include/asm/percpu.h, 6.12).
#[cfg(all(target_arch = "x86_64", CONFIG_SMP))]
macro_rules! this_cpu_read {
    ($mov:literal, $variable:path, $at:expr) => {{
        let word;
        // SAFETY: A per-CPU variable, hence found through %gs. It is read, no more.
        unsafe {
            core::arch::asm!(
                $mov,
                out(reg) word,
                sym $variable,
                const $at,
                options(nostack, readonly, preserves_flags),
            );
        }
        word
    }};
}

/// How far per-CPU memory of this CPU is from where it is said to be: another number for each CPU, and aligned
/// to pages. This CPU's for as long as preemption is disabled.
#[cfg(all(target_arch = "x86_64", CONFIG_SMP))]
#[inline(always)]
pub(crate) fn offset() -> usize {
    this_cpu_read!("mov {}, gs:[rip + {} + {}]", bindings::this_cpu_off, 0)
}

/// As above.
#[cfg(not(all(target_arch = "x86_64", CONFIG_SMP)))]
pub(crate) fn offset() -> usize {
    // SAFETY: Only an address is computed.
    unsafe { bindings::ww_this_cpu_ptr(core::ptr::null_mut()) as usize }
}

/// The task that runs. Any context.
#[cfg(all(target_arch = "x86_64", CONFIG_SMP))]
#[inline(always)]
pub(crate) fn current() -> *const bindings::task_struct {
    this_cpu_read!(
        "mov {}, gs:[rip + {} + {}]",
        bindings::ww_hot_current,
        bindings::WW_AT_CURRENT
    )
}

/// As above.
#[cfg(not(all(target_arch = "x86_64", CONFIG_SMP)))]
pub(crate) fn current() -> *const bindings::task_struct {
    // SAFETY: There is always one.
    unsafe { bindings::get_current() }
}

/// The number of the CPU that this is; of the one that it was, if the task is moved meanwhile. Any context.
#[cfg(all(target_arch = "x86_64", CONFIG_SMP))]
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    this_cpu_read!(
        "mov {:e}, gs:[rip + {} + {}]",
        bindings::ww_hot_cpu,
        bindings::WW_AT_CPU
    )
}

/// As above.
#[cfg(not(all(target_arch = "x86_64", CONFIG_SMP)))]
pub(crate) fn cpu() -> u32 {
    // SAFETY: Reads the CPU's state.
    unsafe { bindings::ww_smp_processor_id() }
}

impl<T: Zeroed> Drop for PerCpu<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, and nobody uses it any more.
        unsafe { bindings::free_percpu(self.at.as_ptr().cast()) };
    }
}
