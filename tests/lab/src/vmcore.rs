// SPDX-License-Identifier: GPL-2.0

//! wakewatch as a debugger sees it: scripts/wakewatch.drgn.py says of a dump of a guest's memory, and
//! of the running guest, what the module's files in debugfs say.
//!
//! The guest (tests/guest/drgn.sh) asks for the dump by a file. The lab is then QEMU's monitor client,
//! which stops the machine meanwhile.

use crate::env::Lab;
use crate::guest::Boot;
use crate::ktap::{Status, Test};
use crate::suites::{guest_tests, Run};
use anyhow::{bail, Context, Result};
use serde_json::{json, Value};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What the module has as files.
const FILES: [&str; 4] = ["stats", "reports", "callers", "windows"];
/// A dump of half a gigabyte takes seconds.
const MONITOR: Duration = Duration::from_secs(60);

pub fn suite(run: &mut Run) -> Result<Vec<Test>> {
    let drgn = std::env::var_os("WW_DRGN").map(PathBuf::from);
    let Some(drgn) = drgn.filter(|drgn| drgn.is_file()) else {
        let mut test = Test::new("drgn", Status::Skip);
        test.notes.push("no drgn; run: make setup".to_string());
        return Ok(vec![test]);
    };
    let mut boot = Boot::of_scripts(run.lab, "stock", "drgn", &["drgn"])?;
    let dir = run.dir.join(&boot.name);
    // Not in the run's folder: the name of a socket has 107 bytes.
    let socket = std::env::temp_dir().join(format!("ww-qmp-{}", std::process::id()));
    // One word: alone, what begins with a dash would be taken for an option of vng's.
    boot.machine = vec![format!(
        "--qemu-opts=-device vmcoreinfo -qmp unix:{},server=on,wait=off",
        socket.display()
    )];
    let vmlinux = boot.kernel.dir.join("vmlinux");
    for (name, value) in [
        ("WW_DRGN", drgn.as_path()),
        ("WW_VMLINUX", vmlinux.as_path()),
        ("WW_ROOT", run.lab.root.as_path()),
        ("WW_DUMP", Path::new("1")),
    ] {
        boot.env
            .push((name.to_string(), value.display().to_string()));
    }
    let over = AtomicBool::new(false);
    let (guest, dumped) = thread::scope(|scope| {
        let dumper = scope.spawn(|| dump_when_wanted(&dir, &socket, &over));
        let guest = run.boot(&boot);
        over.store(true, Ordering::Relaxed);
        (guest, dumper.join())
    });
    let _ = fs::remove_file(&socket);
    let mut tests = vec![Test::group("the live guest", guest_tests(&guest?))];
    let dump = dir.join("vmcore");
    if matches!(dumped, Ok(true)) {
        let said = Session {
            drgn: &drgn,
            vmlinux: &vmlinux,
            dump: &dump,
        };
        tests.push(Test::group("its dump", said.tests(run.lab, &dir)?));
    }
    // A failure is looked at with it; else it is half a gigabyte of nothing.
    if tests.iter().all(|test| test.status != Status::Fail) {
        fs::remove_file(&dump)?;
    }
    Ok(tests)
}

/// Waits until the guest wants its dump, and tells it when it is there, or what went wrong. `false` if
/// there is none.
fn dump_when_wanted(dir: &Path, socket: &Path, over: &AtomicBool) -> bool {
    while !over.load(Ordering::Relaxed) {
        if dir.join("dump.wanted").exists() {
            let done = dump(socket, &dir.join("vmcore"));
            let why = match &done {
                Ok(()) => String::new(),
                Err(err) => format!("{err:#}\n"),
            };
            return fs::write(dir.join("dump.done"), why).is_ok() && done.is_ok();
        }
        thread::sleep(Duration::from_millis(100));
    }
    false
}

/// The memory of the machine behind a monitor, as ELF.
fn dump(socket: &Path, to: &Path) -> Result<()> {
    let stream = UnixStream::connect(socket).context("QEMU's monitor")?;
    stream.set_read_timeout(Some(MONITOR))?;
    let mut monitor = BufReader::new(stream);
    let arguments = json!({"paging": false, "protocol": format!("file:{}", to.display())});
    for command in [
        json!({"execute": "qmp_capabilities"}),
        json!({"execute": "dump-guest-memory", "arguments": arguments}),
    ] {
        writeln!(monitor.get_mut(), "{command}")?;
        answer(&mut monitor).with_context(|| format!("QEMU's monitor, {}", command["execute"]))?;
    }
    Ok(())
}

/// Reads past the greeting and events.
fn answer(monitor: &mut impl BufRead) -> Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if monitor.read_line(&mut line)? == 0 {
            bail!("it is gone");
        }
        let said: Value = serde_json::from_str(&line)?;
        if said.get("return").is_some() {
            return Ok(());
        }
        if let Some(error) = said.get("error") {
            bail!("{error}");
        }
    }
}

struct Session<'a> {
    drgn: &'a Path,
    vmlinux: &'a Path,
    dump: &'a Path,
}

impl Session<'_> {
    /// What the script says of the dump, against what the guest has saved before and after it.
    fn tests(&self, lab: &Lab, dir: &Path) -> Result<Vec<Test>> {
        let script = lab.root.join("scripts/wakewatch.drgn.py");
        let module = lab.module("stock").context("no module")?;
        let out = Command::new(self.drgn)
            .arg("-c")
            .arg(self.dump)
            .arg("-s")
            .arg(self.vmlinux)
            .arg("-s")
            .arg(&module)
            .arg(&script)
            .output()
            .with_context(|| format!("{} does not start", self.drgn.display()))?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        fs::write(dir.join("vmcore.said"), &said)?;
        let title = "drgn reads it";
        if !out.status.success() {
            let why = String::from_utf8_lossy(&out.stderr).into_owned();
            return Ok(vec![Test::fail(title, why)]);
        }
        let mut tests = vec![Test::new(title, Status::Pass)];
        for file in FILES {
            let saved = |when: &str| fs::read_to_string(dir.join(when).join(file));
            let (before, after) = (saved("before-dump")?, saved("after-dump")?);
            let title = format!("{file}: what the file had");
            tests.push(match differs(&before, part(&said, file), &after) {
                None => Test::new(title, Status::Pass),
                Some(why) => Test::fail(title, why),
            });
        }
        let title = "every open window is listed";
        let open = part(&said, "open").lines();
        let listed = open.filter(|l| l.starts_with("window of PG_")).count();
        let table = format!("table open={listed} ");
        let same = listed > 0 && part(&said, "windows").contains(&table);
        tests.push(Test::of(title, same, || format!("not in windows: {table}")));
        Ok(tests)
    }
}

/// What the script says of one file.
fn part<'a>(said: &'a str, file: &str) -> &'a str {
    let from = format!("==> {file} <==\n");
    let rest = said.split_once(&from).map_or("", |(_, rest)| rest);
    rest.find("\n==> ").map_or(rest, |end| &rest[..=end])
}

/// The first line that isn't what it was before or after, or, where only its decimal numbers have changed,
/// something in between.
fn differs(before: &str, said: &str, after: &str) -> Option<String> {
    let (before, said, after): (Vec<_>, Vec<_>, Vec<_>) = (
        before.lines().collect(),
        said.lines().collect(),
        after.lines().collect(),
    );
    if said.is_empty() {
        return Some("nothing was said".to_string());
    }
    if said == before || said == after {
        return None;
    }
    if said.len() != before.len() || said.len() != after.len() {
        let lines = (before.len(), said.len(), after.len());
        return Some(format!("lines before, in the dump, after: {lines:?}"));
    }
    for ((before, said), after) in before.iter().zip(&said).zip(&after) {
        if said != before && said != after && !between(before, said, after) {
            return Some(format!("{said}\nwas {before}\nand {after}"));
        }
    }
    None
}

fn between(before: &str, said: &str, after: &str) -> bool {
    let words = |line: &str| -> Vec<String> {
        line.split([' ', '='])
            .map(|word| word.to_string())
            .collect()
    };
    let (before, said, after) = (words(before), words(said), words(after));
    before.len() == said.len()
        && said.len() == after.len()
        && before
            .iter()
            .zip(&said)
            .zip(&after)
            .all(|((before, said), after)| {
                let number = |word: &String| word.parse::<u64>();
                match (number(before), number(said), number(after)) {
                    (Ok(before), Ok(said), Ok(after)) => (before..=after).contains(&said),
                    _ => said == before || said == after,
                }
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_and_nothing_else() {
        let before = "wake: 3\nsite=a calls=7\n";
        let after = "wake: 9\nsite=a calls=8\n";
        for good in [before, after, "wake: 5\nsite=a calls=8\n"] {
            assert_eq!(differs(before, good, after), None);
        }
        for bad in [
            "",
            "wake: 5\n",
            "wake: 2\nsite=a calls=7\n",
            "wake: 10\nsite=a calls=8\n",
            "wake: 5\nsite=b calls=8\n",
            "woke: 5\nsite=a calls=8\n",
        ] {
            assert!(differs(before, bad, after).is_some(), "{bad}");
        }
    }

    #[test]
    fn parts() {
        let said = "==> stats <==\na: 1\n==> open <==\nb\n";
        assert_eq!(part(said, "stats"), "a: 1\n");
        assert_eq!(part(said, "open"), "b\n");
        assert_eq!(part(said, "callers"), "");
    }

    #[test]
    fn answers_of_a_monitor() {
        let mut said = "{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"STOP\"}\n{\"error\": {\"desc\": \"no\"}}\n"
            .as_bytes();
        assert!(answer(&mut said).is_ok());
        assert!(answer(&mut said).unwrap_err().to_string().contains("no"));
        assert!(answer(&mut said).is_err());
    }
}
