// SPDX-License-Identifier: GPL-2.0

//! The module's own decision logic, the very same files, tested where tests are quick.
//!
//! What is here has no `unsafe` but the ring's and needs no kernel.
#![cfg(test)]
// The module uses more of it than the tests.
#![allow(dead_code)]

#[path = "../../../rust/detect/mod.rs"]
mod detect;
#[path = "../../../rust/ring.rs"]
mod ring;

mod amplify;
mod limit;
mod report_ring;
mod verdict;
