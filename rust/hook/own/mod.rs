// SPDX-License-Identifier: GPL-2.0

//! Registrations by bindings of our own: no kernel has them in Rust.

pub(crate) mod ftrace;
pub(crate) mod kprobe;
mod registered;
pub(crate) mod return_probe;
pub(crate) mod tracepoint;
