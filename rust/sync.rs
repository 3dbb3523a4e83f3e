// SPDX-License-Identifier: GPL-2.0

//! What lock-free code is made of. `tests/host` puts loom's types in the place of these, and tries
//! every interleaving of the same source.

pub(crate) use core::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

/// How many addresses of a stack are kept with what is noted in a handler. Each is a store of its own, and
/// other threads may come in before each: loom has fewer.
pub(crate) const STACK: usize = 12;

/// `loom::cell::UnsafeCell`, as far as it is used here.
pub(crate) struct Cell<T>(core::cell::UnsafeCell<T>);

impl<T> Cell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Hands out a pointer to read through.
    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Hands out a pointer to write through.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// A count of one CPU's, made by its handlers alone, of which an interrupt's may come in the middle of a task's.
/// So it is one instruction; no other CPU is locked out, which costs ten times as much.
pub(crate) trait Count {
    /// One more. On the cell's own CPU, with preemption disabled. Any context.
    fn one_more(&self);

    /// One less. As above.
    fn one_less(&self);
}

macro_rules! count {
    ($atomic:ty, $inc:literal, $dec:literal) => {
        impl Count for $atomic {
            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            fn one_more(&self) {
                // SAFETY: Writes to an atomic, which is there as long as the reference.
                unsafe { core::arch::asm!($inc, in(reg) self.as_ptr(), options(nostack)) };
            }

            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            fn one_less(&self) {
                // SAFETY: As above.
                unsafe { core::arch::asm!($dec, in(reg) self.as_ptr(), options(nostack)) };
            }

            #[cfg(not(target_arch = "x86_64"))]
            #[inline(always)]
            fn one_more(&self) {
                self.fetch_add(1, Ordering::Relaxed);
            }

            #[cfg(not(target_arch = "x86_64"))]
            #[inline(always)]
            fn one_less(&self) {
                self.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
}
count!(AtomicU64, "inc qword ptr [{}]", "dec qword ptr [{}]");
count!(AtomicU32, "inc dword ptr [{}]", "dec dword ptr [{}]");
