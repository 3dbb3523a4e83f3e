// SPDX-License-Identifier: GPL-2.0

//! One guest, from nothing to a verdict in a folder of its own.
//!
//! virtme-ng runs in a process group of its own, so that QEMU, two processes below
//! it, ends with it. Its output goes through pipes: QEMU reopens and truncates a regular
//! file. stdout (the script) and stderr (the console) are two pipes, because QEMU writes the
//! console byte by byte and would put a script's line in the middle of the kernel's.

use crate::console::{
    count_verdicts, split_time, Console, Stream, KMSG_END, KMSG_START, MARK_END, MARK_START,
};
use crate::debugfs;
use crate::env::{Kernel, Lab, Needs, DEFAULT_TIMEOUT};
use crate::kernels::{self, Which};
use crate::ktap::{self, Counts, Test};
use crate::kvm::Accel;
use crate::live::{self, Live};
use crate::outcome::{classify, repeat, settle, Limit, Outcome};
use anyhow::{Context, Result};
use nix::sys::signal::{killpg, Signal};
use nix::time::{clock_getcpuclockid, clock_gettime, ClockId};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A guest to be.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Folder below the run's, and the guest's host name.
    pub name: String,
    pub kernel: Kernel,
    pub memory: String,
    /// Seconds for the script.
    pub timeout: u64,
    /// Seconds between two lines of the script's, if it's to say something all the time.
    pub stall: Option<u64>,
    /// Look at QEMU's CPU time at each line of the script's.
    pub metered: bool,
    /// Seconds until the kernel's first line.
    pub first_line: u64,
    /// Seconds from there to the start of the script.
    pub boot_limit: u64,
    pub append: Vec<String>,
    /// More arguments of vng's; the last word on each counts.
    pub machine: Vec<String>,
    /// Print what the script says as it comes.
    pub live: bool,
    /// ... in these words, if there are others for a line; with all that was said so far.
    pub tell: Option<fn(&Console, &str) -> Option<String>>,
    /// Kernel findings that are no failure.
    pub expect: Vec<String>,
    /// It loses the live read race on purpose.
    pub provokes_reads: bool,
    /// Boot it again, once, if QEMU has ended by itself.
    pub repeat: bool,
    pub env: Vec<(String, String)>,
    /// The script and its arguments.
    pub argv: Vec<String>,
}

impl Boot {
    /// Scripts of tests/guest in one guest, with what they ask for at their tops.
    pub fn of_scripts(lab: &Lab, key: &str, name: &str, scripts: &[&str]) -> Result<Self> {
        let paths: Vec<PathBuf> = scripts.iter().map(|s| lab.guest_script(s)).collect();
        let needs: Result<Vec<Needs>> = paths.iter().map(|path| Needs::of(path)).collect();
        let argv = match &paths[..] {
            [one] => vec![one.display().to_string()],
            _ => {
                let mut argv = vec![lab.guest_script("run").display().to_string()];
                argv.extend(scripts.iter().map(|s| s.to_string()));
                argv
            }
        };
        Self::new(lab, key, name, &Needs::join(&needs?), argv)
    }

    pub fn new(lab: &Lab, key: &str, name: &str, needs: &Needs, argv: Vec<String>) -> Result<Self> {
        // A variant's kernel checks what it does (see tests/config) and takes its time for it.
        let variant = std::env::var_os("CONFIG_VARIANT").filter(|name| !name.is_empty());
        let slow = variant.map_or(1, |_| 4);
        let mut env = Vec::new();
        if let Some(module) = lab.module(key) {
            env.push(("WW_KO".to_string(), module.display().to_string()));
        }
        if let Ok(repro) = std::env::var("WW_REPRO") {
            env.push(("WW_REPRO".to_string(), repro));
        }
        let kernel = lab.kernel(key)?;
        // udev loads the modules of a distribution's, over 9p.
        let modules = if kernel.installed { 2 } else { 1 };
        Ok(Self {
            name: name.to_string(),
            kernel,
            memory: needs.memory.clone().unwrap_or("2G".to_string()),
            timeout: needs.timeout.unwrap_or(DEFAULT_TIMEOUT) * slow * PATIENCE,
            stall: None,
            metered: false,
            first_line: FIRST_LINE,
            boot_limit: BOOT * slow * modules,
            append: needs.append.clone(),
            machine: Vec::new(),
            live: false,
            tell: None,
            expect: needs.expect.clone(),
            provokes_reads: needs.provokes_reads,
            repeat: true,
            env,
            argv,
        })
    }
}

/// How many a guest has, unless it is asked for another number.
pub const GUEST_CPUS: usize = 2;
/// Seconds until the first line of a kernel; it takes one or two, where the host has nothing else to do.
pub const FIRST_LINE: u64 = 120;
/// Seconds from there to the script's start; it takes five under TCG. More than RCU's watchdog has, so that a kernel
/// that hangs has said why: [`crate::outcome::repeat`] reads it.
pub const BOOT: u64 = RCU_STALL + 100;
/// Seconds for a guest that has ended its script, or has panicked, to go away.
const GONE: u64 = 120;
/// Seconds for the kernel's first line, once the script says that it has begun.
const CONSOLE: u64 = 10;
/// What a script says it needs is on a host with nothing else to do. Others have more.
pub const PATIENCE: u64 = 4;
/// So have the kernel's own watchdogs: a virtual CPU may have to wait for one of the host's. In the
/// order of their names: RCU ([`RCU_STALL`]), soft lockups (twice that), hung tasks; seconds.
const WATCHDOGS: &str = "watchdog_thresh=60 sysctl.kernel.hung_task_timeout_secs=300";
const RCU_STALL: u64 = 300;

/// virtme-ng's init says so where the script's own port has not come up in time, as on a host with far too
/// much to do: then the script has the console. The kernel's lines are told from its by their times.
const FALLBACK: &str = "virtme-ng-init: starting script (console fallback)";

/// What became of it.
#[derive(Debug)]
pub struct Guest {
    pub dir: PathBuf,
    pub console: Console,
    pub tests: Vec<Test>,
    pub result: Record,
}

/// result.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub kernel: String,
    /// The kernel's directory in the cache, whose name says what went in.
    #[serde(default)]
    pub build: String,
    pub release: Option<String>,
    pub scenario: String,
    pub outcome: Outcome,
    pub why: String,
    pub tests: Counts,
    pub exit_status: Option<i32>,
    /// wakewatch's headlines on the console, counted by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// wakewatch's counters, by script, where the guest lived to save them.
    pub stats: BTreeMap<String, BTreeMap<String, u64>>,
    /// How each function was hooked that was, by the last of its scripts.
    #[serde(default)]
    pub hooks: BTreeMap<String, String>,
    pub kernel_said: Option<String>,
    /// Guest time of that line.
    pub kernel_said_at: Option<f64>,
    pub accel: Accel,
    pub qemu: String,
    pub memory: String,
    pub append: Vec<String>,
    /// Losses of the live read race that came by themselves.
    pub live: Vec<Live>,
    /// Why earlier tries of this boot were thrown away.
    pub retries: Vec<String>,
    pub seconds: f64,
    pub files: BTreeMap<String, PathBuf>,
}

/// What became of it, after what its script has said.
impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for why in &self.retries {
            writeln!(f, "# booted twice: {why}")?;
        }
        write!(f, "# {}: {} ({} s)", self.outcome, self.why, self.seconds)
    }
}

/// Process groups to take down with the lab.
static GROUPS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn groups() -> std::sync::MutexGuard<'static, Vec<i32>> {
    GROUPS.lock().unwrap_or_else(|err| err.into_inner())
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Has the lab been told to stop? Then its guests are dead, and say nothing of what they ran.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Ends every guest, and lets a verb know why. Was it called before?
pub fn interrupt() -> bool {
    let before = INTERRUPTED.swap(true, Ordering::Relaxed);
    kill_all();
    before
}

/// Ends every guest; for a lab that can't go on.
pub fn kill_all() {
    let groups = groups();
    for &group in groups.iter() {
        let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
    }
    if !groups.is_empty() {
        std::thread::sleep(Duration::from_millis(500));
    }
    for &group in groups.iter() {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// The arguments of vng that every guest has in common.
pub fn vng(lab: &Lab, kernel: &Kernel, memory: &str, accel: Accel, dir: &Path) -> Command {
    let mut cmd = Command::new(&lab.vng);
    // vng calls its sibling virtme-run by name.
    if let Some(bin) = lab.vng.parent() {
        let mut path = bin.as_os_str().to_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        cmd.env("PATH", path);
    }
    cmd.arg("--run").arg(&kernel.image);
    // The guest's modules are the ones it is told to insert, unless it can't even boot without; the host's virtiofsd may be
    // too old; guests need neither network nor a monitor.
    if !kernel.installed {
        cmd.arg("--skip-modules");
    }
    cmd.args(["--force-9p", "--disable-monitor", "--user", "root"]);
    cmd.args([
        "--cpus",
        &GUEST_CPUS.to_string(),
        "--memory",
        memory,
        "--cwd",
        "/",
    ]);
    if accel.is_tcg() {
        cmd.arg("--disable-kvm");
    }
    if accel == Accel::TcgInTurn {
        cmd.arg("--qemu-opts=-accel tcg,thread=single");
    }
    // Each of virtme-ng's consoles is a device that could have 31 ports, and QEMU's main loop would look at the queues of
    // all of them whenever it wakes.
    cmd.arg("--qemu-opts=-global virtio-serial-pci.max_ports=2");
    cmd.arg(format!("--rwdir={}", dir.display()));
    for shared in [Some(lab.root.clone()), Some(lab.cache.clone())] {
        if let Some(path) = shared.filter(|path| is_hidden(path) && !dir.starts_with(path)) {
            cmd.arg(format!("--rodir={}", path.display()));
        }
    }
    // Half a second of looking for a keyboard and a mouse that are not there.
    cmd.args(["--append", "i8042.noaux i8042.nokbd"]);
    // Nor of having udev look at 512 halves of terminals of the old kind, and at ports that are not there,
    // which takes seconds without KVM.
    cmd.args(["--append", "pty.legacy_count=0 8250.nr_uarts=1"]);
    // What virtme-ng says, and that the root is cached: nobody changes it meanwhile, and without a cache each
    // program is read from the host again whenever it is started. What guests write is another mount.
    let root = "rootflags=version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose";
    cmd.args(["--append", root]);
    let stall = format!("rcupdate.rcu_cpu_stall_timeout={RCU_STALL}");
    cmd.args(["--append", &stall, "--append", WATCHDOGS]);
    // A distribution's kernel has its modules loaded by udev, and everything else is for what is never started here.
    // The kernel hands it to its init, whose own directories come after it.
    if !kernel.installed {
        cmd.args([
            "--append",
            &format!("PATH={}", init_programs(lab).display()),
        ]);
    }
    // The kernel panics where its timer has not ticked often enough within some turns of a loop: with a host that has
    // much to do that decides nothing (timer_irq_works(), arch/x86/kernel/apic/io_apic.c, 6.12).
    cmd.args(["--append", "no_timer_check"]);
    // The lab's own marks are never too many.
    cmd.args(["--append", "printk.devkmsg=on"]);
    cmd
}

/// What virtme-ng's init starts instead of programs of the same names.
fn init_programs(lab: &Lab) -> PathBuf {
    lab.root.join("tests/guest/init")
}

/// A line of shell: nothing that runs in the guest later finds [`init_programs`].
pub fn leave_init(lab: &Lab) -> String {
    let dir = quote(&format!("{}:", init_programs(lab).display()));
    format!("PATH=${{PATH#{dir}}}\n")
}

/// Whether virtme-ng mounts something empty over it in the guest.
pub fn is_hidden(path: &Path) -> bool {
    [
        "/run",
        "/dev/shm",
        "/var/tmp",
        "/var/log",
        "/var/cache",
        "/var/lib/apt",
    ]
    .iter()
    .any(|hidden| path.starts_with(hidden))
}

/// Boots it, once more if QEMU is at fault, and writes everything down.
pub fn run(lab: &Lab, accel: Accel, run_dir: &Path, boot: &Boot) -> Result<Guest> {
    let mut retries = Vec::new();
    let dir = run_dir.join(&boot.name);
    let given = files(&dir)?;
    loop {
        let begun = Instant::now();
        let (console, limit) = run_once(lab, accel, &dir, boot)?;
        let again = boot.repeat && retries.is_empty() && !interrupted();
        let fault = again.then(|| repeat(&console, limit, accel));
        if let Some(fault) = fault.flatten() {
            let why = format!("QEMU {} {fault}", lab.qemu_version);
            lab.tally().repeated(&boot.name, &why);
            retries.push(why);
            set_aside(&dir, &given)?;
            continue;
        }
        let tests = ktap::parse(console.results());
        let (outcome, why) = classify(&console, &tests, limit, &boot.expect);
        let mut tests = settle(outcome, &why, tests);
        for test in &mut tests {
            test.kernel = Some(boot.kernel.build());
        }
        let splats = console.splats(console.all());
        let splat = crate::console::chief_splat(&splats);
        let mut counts = Counts::default();
        tests.iter().for_each(|test| counts += test.counts());
        let mut result = Record {
            kernel: boot.kernel.key.clone(),
            build: boot.kernel.build(),
            release: console.release().map(str::to_string),
            scenario: boot.name.clone(),
            outcome,
            why,
            tests: counts,
            exit_status: console.ended(),
            verdicts: count_verdicts(&console.reports(console.all())),
            stats: read_stats(&dir, debugfs::stats),
            hooks: read_stats(&dir, debugfs::hooks).values().fold(
                BTreeMap::new(),
                |mut all, hooks| {
                    debugfs::add_hooks(&mut all, hooks);
                    all
                },
            ),
            kernel_said: splat.map(|s| s.summary()),
            kernel_said_at: splat.map(|s| s.time),
            accel,
            qemu: lab.qemu_version.clone(),
            memory: boot.memory.clone(),
            append: boot.append.clone(),
            live: Vec::new(),
            retries,
            seconds: (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            files: BTreeMap::new(),
        };
        result.live = live::collect(lab, boot, &console, &result, &dir)?;
        write_files(&dir, &boot.kernel, &console, &tests, &mut result)?;
        // One that the lab has not built knows nothing of itself.
        if let Ok(kernel) = Which::of(&boot.kernel) {
            kernels::booted(&mut lab.tally().booted, kernel, &result.hooks);
        }
        return Ok(Guest {
            dir,
            console,
            tests,
            result,
        });
    }
}

fn run_once(lab: &Lab, accel: Accel, dir: &Path, boot: &Boot) -> Result<(Console, Option<Limit>)> {
    fs::create_dir_all(dir)?;
    let entry = write_entry(lab, dir, boot)?;
    let mut cmd = vng(lab, &boot.kernel, &boot.memory, accel, dir);
    cmd.args(["--verbose", "--name", &host_name(&boot.name)]);
    for word in &boot.append {
        cmd.args(["--append", word]);
    }
    cmd.args(&boot.machine);
    let pid_file = dir.join("qemu.pid");
    if boot.metered {
        cmd.arg(format!("--qemu-opts=-pidfile {}", pid_file.display()));
    }
    // stderr joins stdout in the guest: the console has the other pipe for itself.
    cmd.arg("--exec");
    cmd.arg(format!(
        "/bin/bash {} 2>&1",
        quote(&entry.display().to_string())
    ));
    let mut child = cmd
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("{} does not start", lab.vng.display()))?;
    let group = child.id() as i32;
    groups().push(group);
    if interrupted() {
        kill_all();
    }

    let (sender, receiver) = mpsc::channel();
    let script = child.stdout.take().context("no stdout")?;
    let kernel = child.stderr.take().context("no stderr")?;
    spawn_reader(script, Stream::Script, sender.clone());
    spawn_reader(kernel, Stream::Console, sender);

    let mut log = File::create(dir.join("console.log"))?;
    let mut meter = None;
    let mut console = Console::default();
    let mut stage = Limit::FirstLine(boot.first_line);
    let mut deadline = Instant::now() + Duration::from_secs(boot.first_line);
    // Of the script as a whole, where it may not stall either.
    let mut end = deadline;
    let mut hit = None;
    let mut killed = false;
    let mut fallback = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok((stream, text)) => {
                writeln!(log, "{text}")?;
                fallback |= text.ends_with(FALLBACK);
                let stream = match stream {
                    Stream::Console if fallback && split_time(&text).0.is_none() => Stream::Script,
                    stream => stream,
                };
                if boot.live
                    && stream == Stream::Script
                    && ![MARK_START, MARK_END]
                        .iter()
                        .any(|mark| text.starts_with(mark))
                {
                    let told = boot.tell.and_then(|tell| tell(&console, &text));
                    println!("{}", told.as_ref().unwrap_or(&text));
                }
                let next = next_stage(stage, stream, &text, boot.boot_limit, boot.timeout);
                console.push(stream, text);
                if boot.metered && stream == Stream::Script {
                    meter = meter.or_else(|| cpu_clock(&pid_file));
                    if let (Some(clock), Some(line)) = (meter, console.lines.last_mut()) {
                        line.cpu = clock_gettime(clock).ok().map(Duration::from);
                    }
                }
                if let (Some((next, secs)), None) = (next, hit) {
                    stage = next;
                    deadline = Instant::now() + Duration::from_secs(secs);
                    end = deadline;
                }
                if let (Limit::Script(_), None) = (stage, hit) {
                    // Whatever there is to be found, nobody would see it.
                    if !fallback && console.kernel_said_nothing() {
                        stage = Limit::Console;
                        deadline = Instant::now() + Duration::from_secs(CONSOLE);
                        end = deadline;
                    }
                }
                if let (Limit::Console, Stream::Console) = (stage, stream) {
                    stage = Limit::Script(boot.timeout);
                    deadline = Instant::now() + Duration::from_secs(boot.timeout);
                    end = deadline;
                }
                if let (Limit::Script(_), Some(stall), None) = (stage, boot.stall, hit) {
                    if stream == Stream::Script {
                        deadline = end.min(Instant::now() + Duration::from_secs(stall));
                    }
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let signal = if hit.is_none() {
                    Signal::SIGTERM
                } else if !killed {
                    killed = true;
                    Signal::SIGKILL
                } else {
                    // Something outside the group holds the pipes open.
                    break;
                };
                let limit = match boot.stall {
                    Some(stall) if deadline < end => Limit::Stall(stall),
                    _ => stage,
                };
                hit = hit.or(Some(limit));
                let _ = killpg(Pid::from_raw(group), signal);
                deadline = Instant::now() + Duration::from_secs(3);
            }
        }
    }
    // The pipes are closed, so QEMU is gone, unless it is stuck in its own exit.
    let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
    child.wait()?;
    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    groups().retain(|&other| other != group);
    Ok((console, hit))
}

/// The clock of all threads of the process in this file.
fn cpu_clock(pid_file: &Path) -> Option<ClockId> {
    let pid = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    clock_getcpuclockid(Pid::from_raw(pid)).ok()
}

/// The stage of a guest's life that a line begins, with the seconds it may last.
fn next_stage(
    stage: Limit,
    stream: Stream,
    text: &str,
    boot: u64,
    script: u64,
) -> Option<(Limit, u64)> {
    let kernel = stream == Stream::Console;
    match stage {
        Limit::AfterPanic(_) => None,
        _ if kernel && text.contains("] Kernel panic - not syncing") => {
            Some((Limit::AfterPanic(GONE), GONE))
        }
        Limit::FirstLine(_) if kernel && text.contains("] Linux version ") => {
            Some((Limit::Boot(boot), boot))
        }
        Limit::FirstLine(_) | Limit::Boot(_) if !kernel && text.starts_with(MARK_START) => {
            Some((Limit::Script(script), script))
        }
        Limit::Script(_) if !kernel && text.starts_with(MARK_END) => {
            Some((Limit::PowerOff(GONE), GONE))
        }
        _ => None,
    }
}

fn spawn_reader(pipe: impl Read + Send + 'static, stream: Stream, to: Sender<(Stream, String)>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\r', '\n']).to_string();
            if to.send((stream, text)).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// What the guest runs. A file and not an argument: the kernel's command line has 2048
/// bytes. It also tells a person how to repeat the run by hand.
fn write_entry(lab: &Lab, dir: &Path, boot: &Boot) -> Result<PathBuf> {
    let mut text = format!("#!/bin/bash\n{}", leave_init(lab));
    let out = dir.display().to_string();
    for (name, value) in boot.env.iter().chain([&("WW_OUT".to_string(), out)]) {
        text.push_str(&format!("export {name}={}\n", quote(value)));
    }
    let argv: Vec<String> = boot.argv.iter().map(|arg| quote(arg)).collect();
    text.push_str(&format!(
        "echo '{KMSG_START}' >/dev/kmsg\necho '{MARK_START}'\n/bin/bash {} 2>&1\nstatus=$?\n\
         echo '{KMSG_END}' >/dev/kmsg\necho \"{MARK_END}$status\"\nexit $status\n",
        argv.join(" ")
    ));
    let path = dir.join("entry.sh");
    fs::write(&path, text)?;
    Ok(path)
}

/// For a shell.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn host_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(60)
        .collect()
}

/// The names of the files in `dir`, which need not be there.
fn files(dir: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    if dir.exists() {
        for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name());
            }
        }
    }
    Ok(names)
}

/// Where what a boot of the guest of this folder has left is put, if it is booted again.
pub fn thrown_away(dir: &Path) -> PathBuf {
    let mut away = dir.as_os_str().to_os_string();
    away.push(".thrown-away");
    PathBuf::from(away)
}

/// Puts what a boot has left aside, for who wants to see it, and those files back that the next one needs as well:
/// what the verb has put there for the guest.
fn set_aside(dir: &Path, given: &[OsString]) -> Result<()> {
    let away = thrown_away(dir);
    fs::rename(dir, &away)?;
    fs::create_dir_all(dir)?;
    for name in given {
        fs::copy(away.join(name), dir.join(name))?;
    }
    Ok(())
}

/// What `read` makes of the counters that lib.sh's save_reports() left, by script.
fn read_stats<T>(dir: &Path, read: impl Fn(&str) -> T) -> BTreeMap<String, T> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ext| ext == "stats") {
            if let (Some(name), Ok(text)) = (path.file_stem(), fs::read_to_string(&path)) {
                all.insert(name.to_string_lossy().into_owned(), read(&text));
            }
        }
    }
    all
}

fn write_files(
    dir: &Path,
    kernel: &Kernel,
    console: &Console,
    tests: &[Test],
    result: &mut Record,
) -> Result<()> {
    let mut files = BTreeMap::new();
    files.insert("console".to_string(), dir.join("console.log"));

    let script: String = console.results().flat_map(|line| [line, "\n"]).collect();
    fs::write(dir.join("script.log"), script)?;
    files.insert("script".to_string(), dir.join("script.log"));
    // Not as it came, which a guest that dies does not bring to an end.
    let whole = [Test::of(&result.scenario, true, String::new)];
    let tests = if tests.is_empty() { &whole[..] } else { tests };
    fs::write(dir.join("ktap"), ktap::document(tests))?;
    files.insert("ktap".to_string(), dir.join("ktap"));

    // The guest's own files have everything; the console what a dying guest could say.
    let mut reports = String::new();
    for name in result.stats.keys() {
        let saved = fs::read_to_string(dir.join(format!("{name}.reports"))).unwrap_or_default();
        if !saved.trim().is_empty() {
            reports.push_str(&format!("# {name}\n{saved}"));
        }
    }
    if reports.is_empty() {
        reports = console.report_text();
    }
    if !reports.is_empty() {
        fs::write(dir.join("reports"), reports)?;
        files.insert("reports".to_string(), dir.join("reports"));
    }
    let traces = &console.lines[console.traces(&console.findings(console.all()))];
    if !traces.is_empty() && !kernel.installed {
        let path = dir.join("decoded.log");
        files.insert("decoded".to_string(), path.clone());
        crate::decode::start(kernel, traces, path);
    }
    result.files = files;
    fs::write(
        dir.join("result.json"),
        serde_json::to_string_pretty(&result)? + "\n",
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `lab run` has a guest do is a file in the guest's folder.
    #[test]
    fn a_second_boot_is_given_what_the_first_was() {
        let dir = std::env::temp_dir().join(format!("lab-aside-{}", std::process::id()));
        let guest = dir.join("7.3-run");
        fs::create_dir_all(&guest).unwrap();
        fs::write(guest.join("command"), "true").unwrap();
        let given = files(&guest).unwrap();
        fs::write(guest.join("console.log"), "no line").unwrap();
        set_aside(&guest, &given).unwrap();
        assert_eq!(files(&guest).unwrap(), ["command"]);
        assert_eq!(fs::read_to_string(guest.join("command")).unwrap(), "true");
        let away = fs::read_to_string(thrown_away(&guest).join("console.log"));
        assert_eq!(away.unwrap(), "no line");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn stages_follow_each_other() {
        let first = Limit::FirstLine(20);
        let kernel = Stream::Console;
        let (boot, _) =
            next_stage(first, kernel, "[    0.000000] Linux version 6.12", 5, 9).unwrap();
        assert_eq!(boot, Limit::Boot(5));
        assert!(next_stage(boot, kernel, "[    1.0] loop: loaded", 5, 9).is_none());
        // Only the script's own stream can say that the script has started.
        assert!(next_stage(boot, kernel, MARK_START, 5, 9).is_none());
        let (script, secs) = next_stage(boot, Stream::Script, MARK_START, 5, 9).unwrap();
        assert_eq!((script, secs), (Limit::Script(9), 9));
        let (off, _) = next_stage(script, Stream::Script, "# ww-lab: end 0", 5, 9).unwrap();
        assert_eq!(off, Limit::PowerOff(GONE));
        let panic = "[    2.0] Kernel panic - not syncing: x";
        let (dead, _) = next_stage(script, kernel, panic, 5, 9).unwrap();
        assert_eq!(dead, Limit::AfterPanic(GONE));
        assert!(next_stage(dead, kernel, panic, 5, 9).is_none());
    }

    #[test]
    fn quoting() {
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(host_name("broken order0/1"), "broken-order0-1");
    }

    #[test]
    fn hidden_places() {
        assert!(is_hidden(Path::new("/var/cache/wakewatch")));
        assert!(!is_hidden(Path::new("/var/cached")));
        assert!(!is_hidden(Path::new("/root/.cache/wakewatch")));
    }
}
