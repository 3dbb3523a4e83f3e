// SPDX-License-Identifier: GPL-2.0

//! `ww-repro`: loses the race for a page under writeback on purpose.
//!
//! wakewatch holds the window open, for one page; this program does to that page, meanwhile,
//! what another task may do at any time, and leaves it to the kernel what comes of it.
//!
//! On a kernel with the bug the driver of a scenario may be killed in the middle of a system
//! call. Therefore there are two processes: the driver, and the one that started it, prints
//! what it says, and says how it ended.

mod log;
mod page;
mod rounds;
mod scenario;
mod setup;
mod sys;
mod wakewatch;

use std::env;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use scenario::crew::Clock;
use setup::NotSetUp;
use wakewatch::Wakewatch;

/// The scenario could not run: an unexpected error.
const EXIT_ERROR: u8 = 1;
// 2 is clap's, for a wrong command line.
/// The guest is not what the scenario needs.
const EXIT_NOT_SET_UP: u8 = 3;
/// The scenario ran, but the window was never held open: its silence means nothing.
const EXIT_NO_WINDOW: u8 = 4;
/// The kernel killed the driver.
const EXIT_KILLED: u8 = 5;
/// The scenario has seen what it looks for.
const EXIT_SEEN: u8 = 6;

/// What a scenario looks for, where the kernel says nothing of it.
#[derive(Debug)]
struct Seen(&'static str);

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seen: {}", self.0)
    }
}

impl std::error::Error for Seen {}

/// Set for the second process.
const DRIVER_ENV: &str = "WW_REPRO_DRIVER";

/// Loses the race for a page under writeback on purpose.
///
/// Exit status: 0 the scenario ran to its end, 1 unexpected error, 2 usage, 3 the guest is
/// not set up for it, 4 the window was never held open, 5 the kernel killed the driver, 6 what the scenario
/// looks for was seen.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// wakewatch's directory in debugfs
    #[arg(long, default_value = "/sys/kernel/debug/wakewatch", global = true)]
    debugfs: PathBuf,
    #[command(subcommand)]
    scenario: Scenario,
}

/// When to end, whichever comes first.
#[derive(Args)]
struct Limits {
    /// Rounds at most; the default depends on the scenario
    #[arg(long)]
    rounds: Option<u32>,
    /// Seconds at most; a round that has begun is finished
    #[arg(long, default_value_t = 120)]
    seconds: u64,
}

/// How long threads go on.
#[derive(Args)]
struct Time {
    /// Seconds; the default depends on the scenario
    #[arg(long)]
    seconds: Option<u64>,
    /// Until this file is there, however long it takes
    #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
    until: Option<PathBuf>,
}

impl Time {
    fn or(&self, default: u64) -> Clock {
        match &self.until {
            Some(file) => Clock::until(file.clone()),
            None => Clock::after(Duration::from_secs(self.seconds.unwrap_or(default))),
        }
    }
}

impl Limits {
    /// Is there to be another round after `done`, of `default` unless said otherwise?
    fn allow(&self, done: u32, default: u32, since: Instant) -> bool {
        done < self.rounds.unwrap_or(default) && since.elapsed() < Duration::from_secs(self.seconds)
    }

    /// Rounds until `enough` pages were freed before their wake-up, or as many as are allowed.
    fn until_freed(
        &self,
        ww: &Wakewatch,
        default: u32,
        enough: u64,
        mut round: impl FnMut(u32) -> Result<()>,
    ) -> Result<()> {
        let before = ww.delays()?;
        let start = Instant::now();
        let (mut rounds, mut freed) = (0, 0);
        while self.allow(rounds, default, start) && freed < enough {
            rounds += 1;
            round(rounds)?;
            freed = ww.delays()?.freed - before.freed;
        }
        println!(
            "{rounds} rounds in {:.1} s, {freed} pages freed before their wake-up",
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

#[derive(Subcommand)]
enum Scenario {
    /// No race at all: one page is written and synced
    Sync {
        /// Directory on ext4 on a loop device
        dir: PathBuf,
    },
    /// Many folios under writeback in one of the states in which they can be
    States {
        /// Directory on a file system, or on a tmpfs
        dir: PathBuf,
        state: scenario::states::State,
    },
    /// The page is dropped inside the window and becomes another file's, which is under
    /// writeback and waited for
    Order0 {
        /// Directory on ext4 on a loop device
        dir: PathBuf,
        #[command(flatten)]
        limits: Limits,
        /// How long the window is held open
        #[arg(long, default_value_t = 100_000)]
        us: u64,
        /// Truncate the second file instead of syncing it
        #[arg(long)]
        truncate: bool,
    },
    /// The waiter of a page's writeback is woken before the bit is cleared
    Own {
        /// Directory on ext4 on a loop device
        dir: PathBuf,
        #[command(flatten)]
        limits: Limits,
        /// How long the window is held open, with interrupts off
        #[arg(long, default_value_t = 50_000)]
        us: u64,
        /// The waiter is a truncation, not fdatasync()
        #[arg(long)]
        truncate: bool,
    },
    /// The wake-up of a page's writeback reaches the waiter of its next one
    Later {
        /// Directory on ext4 on a loop device
        dir: PathBuf,
        #[command(flatten)]
        limits: Limits,
        /// How long the window is held open
        #[arg(long, default_value_t = 100_000)]
        us: u64,
        /// The waiter is a truncation, not fdatasync()
        #[arg(long)]
        truncate: bool,
    },
    /// Waits for writeback, again and again: is a wake-up lost?
    Waits {
        /// Directory on ext4 on a loop device
        dir: PathBuf,
        /// Waits of each kind
        #[arg(long, default_value_t = 500)]
        rounds: u32,
    },
    /// The page is truncated inside the window and becomes a tail of a huge page
    Tail {
        /// Directory on ext4 on a loop device
        dir: PathBuf,
        /// Directory on a tmpfs mounted with huge=always
        shm: PathBuf,
        #[command(flatten)]
        limits: Limits,
        /// How long the window is held open
        #[arg(long, default_value_t = 400_000)]
        us: u64,
    },
    /// A read completes on a page that is dropped before its reader is woken
    ReadRace {
        /// Directory on ext4 on a loop device
        dir: PathBuf,
        #[command(flatten)]
        limits: Limits,
        /// How long the window is held open
        #[arg(long, default_value_t = 10_000)]
        us: u64,
        /// End after this many pages were freed in the window
        #[arg(long, default_value_t = 10)]
        enough: u64,
        /// Let the reader take its page back at once
        #[arg(long)]
        retake: bool,
    },
    /// A page with a late wake-up on its way to it becomes another task's, which waits for a read into it
    Victim {
        #[arg(value_enum)]
        which: scenario::victim::Which,
        #[command(flatten)]
        place: scenario::victim::Place,
        #[command(flatten)]
        limits: Limits,
        /// How long the window is held open
        #[arg(long, default_value_t = 20_000)]
        us: u64,
        /// End after this many wrong answers
        #[arg(long, default_value_t = 10)]
        enough: u32,
    },
    /// How often the live read race is lost without any delay, and what comes of it
    Live {
        /// Directory on ext4 with blocks of 1024 bytes, on a loop device
        dir: PathBuf,
        #[command(flatten)]
        time: Time,
        /// Threads that read the file whose pages are dropped
        #[arg(long, default_value_t = 3)]
        readers: usize,
        /// What goes on besides
        #[arg(long, default_value = "nothing")]
        beside: scenario::live::Beside,
    },
    /// Writeback ends while a reader waits for the page's lock, and before the wake-up that comes
    /// of that the page is truncated and becomes another file's
    Bystander {
        /// Directory on ext4 with blocks of 1024 bytes, on a loop device
        dir: PathBuf,
        #[command(flatten)]
        limits: Limits,
        /// How long the window is held open
        #[arg(long, default_value_t = 200_000)]
        us: u64,
        /// End after this many pages were freed in the window
        #[arg(long, default_value_t = 2)]
        enough: u64,
    },
    /// A write unlocks its page, which is written back and dropped before the wake-up of a reader
    WriteRace {
        /// Directory on ext4 on a loop device
        dir: PathBuf,
        #[command(flatten)]
        limits: Limits,
        /// How long the window is held open
        #[arg(long, default_value_t = 200_000)]
        us: u64,
        /// End after this many pages were freed in the window
        #[arg(long, default_value_t = 2)]
        enough: u64,
        /// Another file gets the page before its wake-up
        #[arg(long)]
        reuse: bool,
    },
    /// Mixed writes, truncation and memory pressure, without any delay
    Stress {
        /// Directory on any file system
        dir: PathBuf,
        #[command(flatten)]
        time: Time,
        /// Megabytes of anonymous memory that are touched over and over
        #[arg(long, default_value_t = 0)]
        hog: usize,
    },
    /// Huge pages cut, split and collapsed, compaction, migration, readahead against truncation,
    /// direct against buffered I/O; to be run beside `stress`, under a memory limit
    Soak {
        /// Directory on ext4 on a loop device
        dir: PathBuf,
        /// Directory on a tmpfs mounted with huge=always
        shm: PathBuf,
        #[command(flatten)]
        time: Time,
    },
    /// Load a module while one of the allocations on the way fails
    Load {
        module: PathBuf,
        /// The module's parameters
        #[arg(default_value = "")]
        parameters: String,
        /// Which allocation; 0 for none
        #[arg(long, default_value_t = 0)]
        fail: u32,
    },
    /// Many readers that wait for locked pages, while the cache is reclaimed behind them;
    /// run it in a memory control group smaller than its file
    Reclaim {
        /// Directory on ext4
        dir: PathBuf,
        #[command(flatten)]
        time: Time,
        /// Threads that read
        #[arg(long, default_value_t = 64)]
        readers: usize,
        /// Megabytes of the file that is read
        #[arg(long, default_value_t = 64)]
        size: u64,
    },
    /// No scenario: reads a kernel log, and says what was found; a line each: `live` for what a kernel with
    /// the live read race says by itself, or `other`; `wakewatch` or `kernel`; and the headline
    Findings {
        /// Print the log instead, without what belongs to those that are `live`
        #[arg(long)]
        rest: bool,
        /// Leave out what only says in another way what others say with this headline, as "reused wake
        /// of PG_writeback"
        #[arg(long, conflicts_with = "rest")]
        loss: Option<String>,
    },
    /// No scenario: somebody else's program, again and again
    Rounds(rounds::Args),
}

fn drive(cli: &Cli) -> Result<()> {
    use Scenario::*;

    let ww = || setup::wakewatch(&cli.debugfs);
    let by = |truncate| {
        if truncate {
            scenario::same_page::By::Truncation
        } else {
            scenario::same_page::By::Sync
        }
    };
    match &cli.scenario {
        Sync { dir } => scenario::sync::run(dir),
        States { dir, state } => scenario::states::run(dir, *state),
        Order0 {
            dir,
            limits,
            us,
            truncate,
        } => scenario::order0::run(&ww()?, dir, limits, *us, *truncate),
        Own {
            dir,
            limits,
            us,
            truncate,
        } => scenario::same_page::own(&ww()?, dir, limits, *us, by(*truncate)),
        Later {
            dir,
            limits,
            us,
            truncate,
        } => scenario::same_page::later(&ww()?, dir, limits, *us, by(*truncate)),
        Waits { dir, rounds } => scenario::waits::run(&ww()?, dir, *rounds),
        Tail {
            dir,
            shm,
            limits,
            us,
        } => scenario::tail::run(&ww()?, dir, shm, limits, *us),
        ReadRace {
            dir,
            limits,
            us,
            enough,
            retake,
        } => scenario::read_race::run(&ww()?, dir, limits, *us, *enough, *retake),
        Victim {
            which,
            place,
            limits,
            us,
            enough,
        } => scenario::victim::run(&ww()?, *which, place, limits, *us, *enough),
        Live {
            dir,
            time,
            readers,
            beside,
        } => scenario::live::run(dir, &time.or(60), *readers, *beside),
        Bystander {
            dir,
            limits,
            us,
            enough,
        } => scenario::bystander::run(&ww()?, dir, limits, *us, *enough),
        WriteRace {
            dir,
            limits,
            us,
            enough,
            reuse,
        } => scenario::write_race::run(&ww()?, dir, limits, *us, *enough, *reuse),
        Stress { dir, time, hog } => scenario::stress::run(dir, &time.or(60), *hog),
        Soak { dir, shm, time } => scenario::soak::run(dir, shm, &time.or(60)),
        Load {
            module,
            parameters,
            fail,
        } => scenario::load::run(module, parameters, *fail),
        Reclaim {
            dir,
            time,
            readers,
            size,
        } => scenario::reclaim::run(dir, &time.or(10), *readers, *size),
        Findings { .. } | Rounds(_) => unreachable!("has no driver"),
    }
}

fn driver(cli: &Cli) -> ExitCode {
    match drive(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("{e:#}");
            ExitCode::from(if e.is::<NotSetUp>() {
                EXIT_NOT_SET_UP
            } else if e.is::<Seen>() {
                EXIT_SEEN
            } else {
                EXIT_ERROR
            })
        }
    }
}

/// Keeps a CPU from going idle while the value lives, without taking time from any task. An idle
/// CPU, and a virtual one the more so, may wake up too late for what it was woken for.
struct Awake(Arc<AtomicBool>);

impl Awake {
    fn new(cpu: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let flag = over.clone();
        thread::spawn(move || {
            // Without them it would be in the way.
            if sys::pin_to_cpu(cpu)
                .and_then(|()| sys::idle_priority())
                .is_err()
            {
                return;
            }
            while !flag.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        Self(over)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Starts the driver, relays what it prints, and says how it ended.
fn supervise(cli: &Cli) -> Result<u8> {
    let ww = Wakewatch::at(&cli.debugfs);
    let before = ww.as_ref().map(Wakewatch::delays).transpose()?;

    let _awake = matches!(
        cli.scenario,
        Scenario::Order0 { .. } | Scenario::Own { .. } | Scenario::Later { .. }
    )
    // Of this process: a driver killed by the kernel would not end while a second thread runs.
    .then(|| Awake::new(setup::DRIVER_CPU));
    let mut child = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(DRIVER_ENV, "1")
        .stdout(Stdio::piped())
        .spawn()
        .context("can't start the driver")?;
    // The pipe ends with the driver, however it ends.
    for line in BufReader::new(child.stdout.take().context("no pipe")?).lines() {
        println!("ww-repro: {}", line?);
    }
    let status = child.wait()?;

    let after = ww.as_ref().map(Wakewatch::delays).transpose()?;
    let delays = match (before, after) {
        (Some(before), Some(after)) => {
            let delays = after.delays - before.delays;
            let freed = after.freed - before.freed;
            println!("ww-repro: {delays} delays, {freed} pages freed during theirs");
            delays
        }
        _ => 0,
    };

    if let Some(signal) = status.signal() {
        println!("ww-repro: the driver was killed by signal {signal}: see the kernel's log");
        return Ok(EXIT_KILLED);
    }
    let code = status.code().map_or(EXIT_ERROR, |code| code as u8);
    if code == 0 && cli.scenario.needs_delay() && delays == 0 {
        println!("ww-repro: the window was never held open: this says nothing about the kernel");
        return Ok(EXIT_NO_WINDOW);
    }
    Ok(code)
}

impl Scenario {
    fn needs_delay(&self) -> bool {
        matches!(
            self,
            Self::Order0 { .. }
                | Self::Own { .. }
                | Self::Later { .. }
                | Self::Waits { .. }
                | Self::Tail { .. }
                | Self::ReadRace { .. }
                | Self::Victim { .. }
                | Self::Bystander { .. }
                | Self::WriteRace { .. }
        )
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();

    if let Scenario::Findings { rest, loss } = &cli.scenario {
        return match log::judge(*rest, loss.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("ww-repro: {e:#}");
                ExitCode::from(EXIT_ERROR)
            }
        };
    }
    if let Scenario::Rounds(args) = &cli.scenario {
        return match rounds::run(args) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(EXIT_KILLED),
            Err(e) => {
                println!("ww-repro: {e:#}");
                ExitCode::from(EXIT_ERROR)
            }
        };
    }
    if env::var_os(DRIVER_ENV).is_some() {
        return driver(&cli);
    }
    match supervise(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("ww-repro: {e:#}");
            ExitCode::from(EXIT_ERROR)
        }
    }
}
