// SPDX-License-Identifier: GPL-2.0

//! The one retry, from outside: with a virtme-ng and a QEMU that only pretend, so that an old
//! QEMU's fault can be had at will.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BOOT: &str = "echo '[    0.000000] Linux version 6.12.117 (a)' >&2";
const INT3: &str = "echo '[    1.000000] Oops: int3: 0000 [#1] SMP' >&2
echo '[    1.100000] Kernel panic - not syncing: Fatal exception' >&2";
const PASS: &str = "echo '# ww-lab: start'; echo 'KTAP version 1'; echo 1..1; echo 'ok 1 a'
echo '# ww-lab: end 0'";
const FAIL: &str = "echo '# ww-lab: start'; echo 'KTAP version 1'; echo 1..1; echo 'not ok 1 a'
echo '# ww-lab: end 1'";

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("lab-retry-{name}-{}", std::process::id()));
        fs::create_dir_all(dir.join("root")).unwrap();
        fs::create_dir_all(dir.join("kernel")).unwrap();
        fs::write(dir.join("kernel/bzImage"), "").unwrap();
        fs::write(dir.join("a.sh"), "").unwrap();
        Self(dir)
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Boots a guest that does `first`, and `then` if it is booted again.
    fn lab(&self, qemu: &str, first: &str, then: &str) -> Output {
        let version = format!("echo 'QEMU emulator version {qemu} (x)'");
        self.script("qemu-system-x86_64", &version);
        let booted = self.0.join("booted");
        // Whatever the host's KVM probe starts is not the guest.
        let vng = self.script(
            "vng",
            &format!(
                "[[ \" $* \" == *' --disable-kvm '* ]] || exit 1\n{BOOT}\nif [ -e {0} ]; then\n{then}\nelse\ntouch {0}\n{first}\nfi",
                booted.display()
            ),
        );
        Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(["boot", "--kernel", "old"])
            .arg(self.0.join("a.sh"))
            .env("PATH", path_with(&self.0))
            .env("WW_ROOT", self.0.join("root"))
            .env("WAKEWATCH_CACHE", self.0.join("cache"))
            .env("WW_KERNEL_old", self.0.join("kernel"))
            .env("WW_VNG", vng)
            .output()
            .unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn path_with(dir: &Path) -> String {
    format!(
        "{}:{}",
        dir.display(),
        std::env::var("PATH").unwrap_or_default()
    )
}

fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn an_old_qemu_is_tried_again_and_it_shows() {
    let scratch = Scratch::new("again");
    let out = scratch.lab("7.2.19", INT3, PASS);
    assert!(out.status.success(), "{}", stdout(&out));
    assert!(stdout(&out).contains("booted twice"), "{}", stdout(&out));
    let result = scratch.0.join("root/results/old-a/result.json");
    let result = fs::read_to_string(result).unwrap();
    assert!(result.contains("died on an int3"), "{result}");
    // What was thrown away can still be read.
    assert!(scratch
        .0
        .join("root/results/old-a.thrown-away/console.log")
        .exists());
}

#[test]
fn a_retry_hides_no_failure() {
    let scratch = Scratch::new("hides");
    let out = scratch.lab("7.2.19", INT3, FAIL);
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(stdout(&out).contains("booted twice"), "{}", stdout(&out));
}

#[test]
fn the_same_fault_twice_is_a_panic() {
    let scratch = Scratch::new("twice");
    let out = scratch.lab("7.2.19", INT3, INT3);
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(stdout(&out).contains("# panic: "), "{}", stdout(&out));
}

#[test]
fn a_new_qemu_is_not_tried_again() {
    let scratch = Scratch::new("new");
    let out = scratch.lab("10.0.2", INT3, PASS);
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(!stdout(&out).contains("booted twice"), "{}", stdout(&out));
}

#[test]
fn an_ordinary_panic_is_not_tried_again() {
    let scratch = Scratch::new("ordinary");
    let panic = "echo '[    1.1] Kernel panic - not syncing: Attempted to kill init!' >&2";
    let out = scratch.lab("7.2.19", panic, PASS);
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(!stdout(&out).contains("booted twice"), "{}", stdout(&out));
}
