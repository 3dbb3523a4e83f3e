// SPDX-License-Identifier: GPL-2.0

//! Stack traces with files and lines, by the kernel's own decode_stacktrace.sh. It takes
//! some seconds, which the next guest uses to boot.

use crate::console::Line;
use crate::env::Kernel;
use anyhow::{bail, Context, Result};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;

static DECODERS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

fn decoders() -> MutexGuard<'static, Vec<JoinHandle<()>>> {
    DECODERS.lock().unwrap_or_else(|err| err.into_inner())
}

/// Begins to decode `lines` into the file `out`.
pub fn start(kernel: &Kernel, lines: &[Line], out: PathBuf) {
    let dir = kernel.dir.clone();
    let text: String = lines
        .iter()
        .flat_map(|line| [line.text.as_str(), "\n"])
        .collect();
    decoders().push(std::thread::spawn(move || {
        let decoded = decode(&dir, text).and_then(|text| Ok(fs::write(&out, text)?));
        if let Err(err) = decoded {
            eprintln!("lab: no {}: {err:#}", out.display());
        }
    }));
}

/// Waits for what was begun.
pub fn finish() {
    for decoder in decoders().drain(..) {
        // A decoder that panicked has said so.
        let _ = decoder.join();
    }
}

fn decode(kernel: &Path, text: String) -> Result<String> {
    let script = kernel.join("kdir/scripts/decode_stacktrace.sh");
    let vmlinux = kernel.join("vmlinux");
    for path in [&script, &vmlinux] {
        if !path.is_file() {
            bail!("{} does not exist", path.display());
        }
    }
    let mut child = Command::new("/bin/bash")
        .arg(&script)
        .arg(&vmlinux)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("decode_stacktrace.sh does not start")?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let out = child.wait_with_output()?;
    // It stops reading only if it has failed, which its status says.
    let _ = writer.join();
    if !out.status.success() {
        bail!("decode_stacktrace.sh: {}", out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
