// SPDX-License-Identifier: GPL-2.0

//! Loads a module with one of the allocations on the way failing: the kernel's own fault
//! injection makes it fail (Documentation/fault-injection/fault-injection.rst), for this task
//! alone, and only inside the system call.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::setup::not_set_up;
use crate::sys;

pub fn run(module: &Path, parameters: &str, fail: u32) -> Result<()> {
    let image = fs::read(module).with_context(|| module.display().to_string())?;
    let path = "/proc/thread-self/fail-nth";
    let mut nth = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(e) => not_set_up!("{path}: {e}: is this a kernel with CONFIG_FAULT_INJECTION?"),
    };

    write!(nth, "{fail}")?;
    let loaded = sys::load_module(&image, parameters);
    // What is left of the count: 0 if it was used up.
    let mut left = [0; 16];
    let len = nth.read_at(&mut left, 0)?;
    nth.write_all_at(b"0", 0)?;
    let left = std::str::from_utf8(&left[..len])?.trim();

    println!(
        "allocation {fail} {}: {}",
        if left == "0" { "failed" } else { "not reached" },
        match loaded {
            Ok(()) => "loaded".to_string(),
            Err(e) => format!("refused, {e}"),
        }
    );
    Ok(())
}
