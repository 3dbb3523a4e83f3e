// SPDX-License-Identifier: GPL-2.0

//! An interactive guest: what one lives in while hunting.

use crate::env::Lab;
use crate::guest::{self, quote};
use crate::kvm;
use anyhow::{bail, Context, Result};
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;

pub fn verb(lab: &Lab, key: &str, memory: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        bail!("a shell needs a terminal; `lab boot` runs a script without one");
    }
    crate::env::memory_bytes(memory)?;
    let kernel = lab.kernel(key)?;
    let Some(module) = lab.module(key) else {
        bail!("no module for kernel `{key}`: WW_MODULE_{key} is not set");
    };
    let run_dir = lab.run_dir("shell")?;
    let accel = kvm::probe(lab, &run_dir, &|line| println!("{line}"))?;

    let dir = run_dir.display().to_string();
    let repro = std::env::var("WW_REPRO").unwrap_or_default();
    let setup = lab.guest_script("shell-setup").display().to_string();
    let text = format!(
        "#!/bin/bash\n{}export WW_KO={} WW_REPRO={} WW_OUT={}\nexec /bin/bash --rcfile {} -i\n",
        guest::leave_init(lab),
        quote(&module.display().to_string()),
        quote(&repro),
        quote(&dir),
        quote(&setup)
    );
    let shell = run_dir.join("shell.sh");
    fs::write(&shell, text)?;
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755))?;

    let status = guest::vng(lab, &kernel, memory, accel, &run_dir)
        .args(["--name", &format!("wakewatch-{key}"), "--shell"])
        .arg(&shell)
        .status()
        .with_context(|| format!("{} does not start", lab.vng.display()))?;
    Ok(status.success())
}
