// SPDX-License-Identifier: GPL-2.0

//! What an event on a page means.
//!
//! Everything below this module is plain logic: no `unsafe`, no kernel types, no
//! I/O. The module feeds it facts read from a page; `tests/host` compiles the very
//! same files and tests them on the host.

pub(crate) mod amplify;
pub(crate) mod callers;
pub(crate) mod config;
pub(crate) mod expected;
pub(crate) mod holders;
pub(crate) mod limit;
mod note;
pub(crate) mod origin;
pub(crate) mod switch;
pub(crate) mod symbol;
pub(crate) mod verdict;
pub(crate) mod window;
mod word;
