// SPDX-License-Identifier: GPL-2.0

//! Registrations by what the kernel crate has, on a kernel with `patches/7.3/rust-hooks`: no bindings of our own.

pub(crate) mod ftrace;
pub(crate) mod kprobe;
pub(crate) mod return_probe;
pub(crate) mod tracepoint;
