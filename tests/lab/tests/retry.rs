// SPDX-License-Identifier: GPL-2.0

//! The one retry, and what a run's summary says besides, from outside: with a virtme-ng and a QEMU that
//! only pretend, so that a fault can be had at will.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BOOT: &str = "echo '[    0.000000] Linux version 6.12.117 (a)' >&2";
const INT3: &str = "echo '[    0.900000] Run /init as init process' >&2
echo '[    1.000000] Oops: int3: 0000 [#1] SMP' >&2
echo '[    1.000000] Code: 89 de 44 89 f2 e8 <39> e0 fb ff 48' >&2
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
        let script = self.0.join("a.sh").display().to_string();
        self.run(&vng, &["boot", "--kernel", "old", &script])
    }

    fn run(&self, vng: &Path, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(args)
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
fn an_int3_that_is_not_there_is_tried_again_and_it_shows() {
    let scratch = Scratch::new("again");
    let out = scratch.lab("10.0.2", INT3, PASS);
    assert!(out.status.success(), "{}", stdout(&out));
    assert!(stdout(&out).contains("booted twice"), "{}", stdout(&out));
    let result = scratch.0.join("root/results/old-a/result.json");
    let result = fs::read_to_string(result).unwrap();
    assert!(
        result.contains("ran an int3 that was not in memory"),
        "{result}"
    );
    // What was thrown away can still be read.
    assert!(scratch
        .0
        .join("root/results/old-a.thrown-away/console.log")
        .exists());
}

#[test]
fn a_retry_hides_no_failure() {
    let scratch = Scratch::new("hides");
    let out = scratch.lab("10.0.2", INT3, FAIL);
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(stdout(&out).contains("booted twice"), "{}", stdout(&out));
}

#[test]
fn the_same_fault_twice_is_a_panic() {
    let scratch = Scratch::new("twice");
    let out = scratch.lab("10.0.2", INT3, INT3);
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(stdout(&out).contains("# panic: "), "{}", stdout(&out));
}

#[test]
fn an_int3_of_the_kernels_own_is_not_tried_again() {
    let scratch = Scratch::new("own");
    let out = scratch.lab("10.0.2", &INT3.replace("e8 <39>", "cc <39>"), PASS);
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(!stdout(&out).contains("booted twice"), "{}", stdout(&out));
}

#[test]
fn an_ordinary_panic_is_not_tried_again() {
    let scratch = Scratch::new("ordinary");
    let panic = "echo '[    1.1] Kernel panic - not syncing: Attempted to kill init!' >&2";
    let out = scratch.lab("10.0.2", panic, PASS);
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(!stdout(&out).contains("booted twice"), "{}", stdout(&out));
}

/// Of QEMU's, while its guest maps its PCI devices; no kernel has said a word about it.
const ASSERTED: &str = "echo 'qemu-system-x86_64: hw/pci/msix.c:228: msix_table_mmio_write: Assertion failed.' >&2; exit 134";

#[test]
fn a_qemu_that_ends_by_itself_is_tried_again() {
    for (name, ends) in [
        ("asserted", ASSERTED),
        ("killed", "kill -KILL $$"),
        ("silent", "exit 1"),
    ] {
        let scratch = Scratch::new(name);
        let out = scratch.lab("10.0.2", ends, PASS);
        assert!(out.status.success(), "{name}: {}", stdout(&out));
        assert!(stdout(&out).contains("booted twice"), "{}", stdout(&out));
        let last = "\n1 boot was repeated: old-a (QEMU 10.0.2 ended before the script began: ";
        assert!(stdout(&out).contains(last), "{}", stdout(&out));
    }
}

#[test]
fn a_qemu_that_ends_twice_is_a_lab_error() {
    let scratch = Scratch::new("ends-twice");
    let out = scratch.lab("10.0.2", ASSERTED, ASSERTED);
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(stdout(&out).contains("# lab error: "), "{}", stdout(&out));
}

#[test]
fn what_has_begun_is_not_begun_again() {
    let scratch = Scratch::new("begun");
    let out = scratch.lab(
        "10.0.2",
        &format!("echo '# ww-lab: start'\n{ASSERTED}"),
        PASS,
    );
    assert_eq!(out.status.code(), Some(1), "{}", stdout(&out));
    assert!(!stdout(&out).contains("booted twice"), "{}", stdout(&out));
    assert!(stdout(&out).contains("# lab error: "), "{}", stdout(&out));
}

#[test]
fn a_natural_loss_is_shown_and_kept() {
    let scratch = Scratch::new("natural");
    let report = "for line in ===== 'BUG: wakewatch: zero-ref wake of PG_locked in __read_end_io' 'file dev 7:0 ino 13 index 0' \
'wakewatch: story verdict=zero-ref clear_ns=1 freed=250000 wake=1120000 victims=0' =====; do echo \"[    5.0] $line\" >&2; done";
    let out = scratch.lab("10.0.2", &format!("{report}\n{PASS}"), ":");
    assert!(out.status.success(), "{}", stdout(&out));
    let said = "\n1 finding of the live read race, natural: zero-ref wake of PG_locked in __read_end_io (make findings)";
    assert!(stdout(&out).contains(said), "{}", stdout(&out));
    let vng = scratch.0.join("vng");
    let out = scratch.run(&vng, &["findings"]);
    assert!(out.status.success(), "{out:?}");
    for part in [
        "old 6.12.117",
        "__read_end_io",
        "free",
        "1.12 ms",
        "freed=250000",
    ] {
        assert!(stdout(&out).contains(part), "{part}: {}", stdout(&out));
    }
}

#[test]
fn a_script_may_have_to_speak_on_the_console() {
    let scratch = Scratch::new("fallback");
    let said = format!(
        "{{ echo '[    9.0] virtme-ng-init: starting script (console fallback)'; {}; echo '[    9.9] reboot: Power down'; }} >&2",
        PASS.replace('\n', "; ")
    );
    let out = scratch.lab("10.0.2", &said, ":");
    assert!(out.status.success(), "{}", stdout(&out));
    assert!(
        stdout(&out).contains("1 passed, 0 failed"),
        "{}",
        stdout(&out)
    );
    assert!(!stdout(&out).contains("booted twice"), "{}", stdout(&out));
}

#[test]
fn every_run_leaves_a_page() {
    let scratch = Scratch::new("page");
    let out = scratch.lab("10.0.2", FAIL, ":");
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let page = scratch.0.join("root/results/index.html");
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("wakewatch boot: 0 passed, 1 failed, 0 skipped"));
    // Again, if it is asked for; and only in a run's folder.
    fs::remove_file(&page).unwrap();
    let vng = scratch.0.join("vng");
    let results = scratch.0.join("root/results").display().to_string();
    assert!(scratch.run(&vng, &["page", &results]).status.success());
    assert!(page.is_file());
    let root = scratch.0.join("root").display().to_string();
    let refused = scratch.run(&vng, &["page", &root]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("is no run: ") && said.lines().count() == 1,
        "{said}"
    );
    assert!(!scratch.0.join("root/index.html").exists());
}
