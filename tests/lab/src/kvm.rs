// SPDX-License-Identifier: GPL-2.0

//! Is there a KVM that works? /dev/kvm does not tell: on some hosts it opens, creates
//! machines, and their guests hang without a line. So look at the CPU first, and then try.

use crate::env::Lab;
use crate::guest::{self, Boot};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    Kvm,
    Tcg,
    /// One thread of the host's for all of a guest's CPUs: QEMU goes on to the next one when the one that runs
    /// waits, spins (`pause`) or is interrupted. So nobody spins for a CPU that the host does not run, which is what
    /// half of the work is where it has fewer CPUs than its guests; but no two instructions run at once.
    #[serde(rename = "tcg-in-turn")]
    TcgInTurn,
}

impl Accel {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
            Self::TcgInTurn => "TCG, CPUs in turn",
        }
    }

    pub fn is_tcg(self) -> bool {
        self != Self::Kvm
    }
}

#[derive(Serialize, Deserialize)]
struct Probe {
    /// Host kernel, CPU and QEMU: what the answer depends on.
    key: String,
    accel: Accel,
    reason: String,
}

/// The whole try, boot included.
const TRY_SECONDS: u64 = 20;

/// What guests can use, said in one line; tried once per host.
pub fn probe(lab: &Lab, run_dir: &Path, say: &dyn Fn(&str)) -> Result<Accel> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if let Some(reason) = no_kvm(&cpuinfo, Path::new("/dev/kvm")) {
        say(&format!("KVM: {reason}, using TCG"));
        return Ok(Accel::Tcg);
    }
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default()
        .trim_start_matches([' ', '\t', ':']);
    let host = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let key = format!("{} | {model} | QEMU {}", host.trim(), lab.qemu_version);
    let cached = lab.cache.join("kvm-probe.json");
    let known: Option<Probe> = fs::read_to_string(&cached)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .filter(|probe: &Probe| probe.key == key);
    let probe = match known {
        Some(probe) => probe,
        None => {
            let (accel, reason) = try_kvm(lab, run_dir)?;
            let probe = Probe { key, accel, reason };
            fs::write(&cached, serde_json::to_string_pretty(&probe)? + "\n")?;
            probe
        }
    };
    match probe.accel {
        Accel::Kvm => say(&format!("KVM: {}, using it", probe.reason)),
        Accel::Tcg | Accel::TcgInTurn => say(&format!("KVM: {}, using TCG", probe.reason)),
    }
    Ok(probe.accel)
}

/// Why there can't be a working KVM, if that can be seen.
fn no_kvm(cpuinfo: &str, device: &Path) -> Option<String> {
    let virt = cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "vmx" || flag == "svm");
    if !virt {
        return Some("no vmx/svm in /proc/cpuinfo".to_string());
    }
    match fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => None,
        Err(err) => Some(format!("{} can't be opened: {err}", device.display())),
    }
}

fn try_kvm(lab: &Lab, run_dir: &Path) -> Result<(Accel, String)> {
    let Some(kernel) = lab.any_kernel() else {
        return Ok((Accel::Tcg, "no kernel to try it with".to_string()));
    };
    let boot = Boot {
        name: "kvm-probe".to_string(),
        kernel,
        memory: "512M".to_string(),
        timeout: 5,
        stall: None,
        metered: false,
        first_line: TRY_SECONDS / 2,
        boot_limit: TRY_SECONDS / 2,
        append: Vec::new(),
        machine: Vec::new(),
        live: false,
        tell: None,
        expect: Vec::new(),
        provokes_reads: false,
        // One that does not boot is the answer.
        repeat: false,
        env: Vec::new(),
        argv: vec!["-c".to_string(), "true".to_string()],
    };
    let guest = guest::run(lab, Accel::Kvm, run_dir, &boot)?;
    let hypervisor = guest
        .console
        .lines
        .iter()
        .any(|line| line.text.contains("Hypervisor detected: KVM"));
    Ok(match (guest.result.exit_status, hypervisor) {
        (Some(0), true) => (Accel::Kvm, "a guest booted with it".to_string()),
        (Some(0), false) => (Accel::Tcg, "QEMU fell back to TCG by itself".to_string()),
        _ => (
            Accel::Tcg,
            format!("a guest did not boot with it ({})", guest.result.why),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_flags_decide_first() {
        let null = Path::new("/dev/null");
        let none = Path::new("/nonexistent/kvm");
        assert!(no_kvm("flags\t\t: fpu vme\n", null)
            .unwrap()
            .contains("no vmx/svm"));
        assert!(no_kvm("model name : vmx-like\nflags : fpu\n", null).is_some());
        assert!(no_kvm("flags : fpu vmx\n", none)
            .unwrap()
            .contains("can't be opened"));
        assert_eq!(no_kvm("flags : fpu svm\n", null), None);
    }
}
