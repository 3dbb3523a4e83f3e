// SPDX-License-Identifier: GPL-2.0

//! The module's own decision logic, the very same files, tested where tests are quick.
//!
//! What is here has no `unsafe` but the ring's and needs no kernel. With `--cfg loom` the atomics of
//! the lock-free files are loom's, and what is tested is every interleaving of a few threads.
#![cfg(test)]
// The module uses more of it than the tests.
#![allow(dead_code)]

#[path = "../../../rust/detect/mod.rs"]
mod detect;
#[path = "../../../rust/ring.rs"]
mod ring;
#[cfg(not(loom))]
#[path = "../../../rust/sync.rs"]
mod sync;
#[cfg(loom)]
mod sync {
    pub(crate) use loom::cell::UnsafeCell as Cell;
    pub(crate) use loom::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
    pub(crate) const STACK: usize = 1;

    /// As in the module.
    pub(crate) trait Count {
        fn one_more(&self);
        fn one_less(&self);
    }

    impl Count for AtomicU64 {
        fn one_more(&self) {
            self.fetch_add(1, Ordering::Relaxed);
        }

        fn one_less(&self) {
            self.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl Count for AtomicU32 {
        fn one_more(&self) {
            self.fetch_add(1, Ordering::Relaxed);
        }

        fn one_less(&self) {
            self.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(loom)]
mod loom_models;

#[cfg(not(loom))]
mod amplify;
#[cfg(not(loom))]
mod callers;
#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
mod documents;
#[cfg(not(loom))]
mod expected;
#[cfg(not(loom))]
mod holders;
#[cfg(not(loom))]
mod limit;
#[cfg(not(loom))]
mod origin;
#[cfg(not(loom))]
mod reference;
#[cfg(not(loom))]
mod report_ring;
#[cfg(not(loom))]
mod switch;
#[cfg(not(loom))]
mod symbol;
#[cfg(not(loom))]
mod verdict;
#[cfg(not(loom))]
mod window;
