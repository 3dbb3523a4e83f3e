// SPDX-License-Identifier: GPL-2.0

//! The lab: boots guests, says what became of each, and tabulates it.
//!
//! One verb a task. Started by scripts/lab.sh, which knows where the kernels, the
//! modules and virtme-ng are.

// The module's own file, for the words of a delay; the lab only reads them.
#[path = "../../../rust/detect/amplify.rs"]
#[expect(dead_code)]
mod amplify;
mod bench;
mod certainty;
// The same, for the words of knobs.
#[path = "../../../rust/detect/config.rs"]
#[expect(dead_code)]
mod config;
mod console;
mod debugfs;
mod decode;
mod env;
mod form;
mod guest;
mod jsonl;
mod junit;
mod kernels;
mod ktap;
mod kvm;
mod live;
mod matrix;
mod mutants;
mod natural;
mod outcome;
mod page;
mod refusals;
mod repro;
mod results;
mod run;
mod shell;
mod soak;
mod stress;
mod suites;
mod table;
mod victims;
mod vmcore;
mod xfstests;

use anyhow::{bail, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "lab",
    about = "Boots guests, says what became of each, and tabulates it"
)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Boot one guest and run a script in it
    Boot(BootArgs),
    /// Reproduce the bug and its absence, and print the table
    Repro {
        /// Only what needs no patch, on this kernel
        #[arg(long, value_name = "KEY")]
        kernel: Option<String>,
    },
    /// Run the test suites; the last line has the counts
    Test {
        /// Only this suite
        #[arg(long, value_name = "SUITE")]
        only: Option<String>,
        /// Suites with guests at a time; otherwise what there are CPUs and memory for
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
        jobs: Option<u8>,
    },
    /// An interactive guest with the loop device set up and wakewatch loaded
    Shell {
        #[arg(long, value_name = "KEY")]
        kernel: String,
        #[arg(long, default_value = "2G")]
        memory: String,
    },
    /// What wakewatch costs: instructions an event, and write throughput
    Bench {
        /// Pairs of writes, without wakewatch and with it
        #[arg(long, default_value_t = 24)]
        pairs: usize,
        /// Only `count` or `write`
        #[arg(long, value_name = "PART")]
        only: Option<String>,
    },
    /// Everything at once on the fixed kernel, for as long as one likes
    Soak {
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// Of the guest; otherwise what the script asks for
        #[arg(long)]
        memory: Option<String>,
    },
    /// fio, fsx, stress-ng and others at work, and what they read back; started by scripts/stress.sh
    Stress(stress::Args),
    /// The module comes and goes
    Lifecycle {
        #[arg(long, value_name = "KEY", default_value = "fixed")]
        kernel: String,
        /// Loads and unloads under write load
        #[arg(long, default_value_t = 2000)]
        cycles: u64,
    },
    /// The same races on the kernel of every proposal, in one table
    Matrix {
        /// Kernels of the table, built
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        /// One that could not be built
        #[arg(long, value_name = "KEY")]
        failed: Vec<String>,
        /// Measure again what was measured before
        #[arg(long)]
        fresh: bool,
        /// Only this of it
        #[arg(long, value_enum)]
        part: Option<matrix::Part>,
    },
    /// Count losses of the live read race without any delay; started by scripts/live.sh
    Live(natural::Args),
    /// Who is hurt by the live read race, and how; started by scripts/victims.sh
    Victims(victims::Args),
    /// A program of the user's, again and again; started by scripts/run.sh
    Run(run::Args),
    /// Run tests of an xfstests tree; started by scripts/xfstests.sh
    Xfstests(xfstests::Args),
    /// Compare two runs of it
    XfstestsCompare { a: PathBuf, b: PathBuf },
    /// Put the parts of one together
    XfstestsMerge {
        #[arg(required = true)]
        runs: Vec<PathBuf>,
    },
    /// Losses of the live read race that came by themselves, of all runs in this cache
    Findings {
        /// Print that many of their stories, the newest first
        #[arg(long, default_value_t = 1)]
        stories: usize,
    },
    /// Make the page of a run again: results/index.html
    Page { run: PathBuf },
    /// What has run on which kernel, over all runs of this cache
    Kernels {
        /// The same file of other machines' caches, kernels.jsonl
        others: Vec<PathBuf>,
    },
    /// Show that reproduction is certain
    Certainty {
        /// Boots of each scenario
        #[arg(long, default_value_t = 20)]
        boots: usize,
    },
}

#[derive(clap::Args)]
struct BootArgs {
    /// Otherwise what the script asks for
    #[arg(long, value_name = "KEY")]
    kernel: Option<String>,
    /// Of the guest; otherwise what the script asks for
    #[arg(long)]
    memory: Option<String>,
    /// Seconds for the script, boot not counted
    #[arg(long, value_name = "SECS")]
    timeout: Option<u64>,
    /// The guest's name and its folder's
    #[arg(long)]
    name: Option<String>,
    /// Environment of the script
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// More kernel parameters
    #[arg(long, value_name = "PARAMETER")]
    append: Vec<String>,
    script: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// The exit status that a shell has for it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let done = run();
    decode::finish();
    match done {
        _ if guest::interrupted() => ExitCode::from(INTERRUPTED),
        Ok(status) => ExitCode::from(status),
        Err(err) => {
            eprintln!("lab: {err:#}");
            ExitCode::from(2)
        }
    }
}

/// The exit status.
fn run() -> Result<u8> {
    let args = Args::parse();
    end_guests_on_panic();
    let lab = env::Lab::from_env()?;
    // A run of hours has results before its end; it ends by itself, unless it is told twice.
    let saves = matches!(args.verb, Verb::Xfstests(_));
    ctrlc::set_handler(move || {
        let again = guest::interrupt();
        eprintln!("lab: interrupted, its guests are ended");
        if again || !saves {
            std::process::exit(INTERRUPTED.into());
        }
    })?;
    // The suites have a last line of their own.
    let summary = !matches!(
        args.verb,
        Verb::Test { .. } | Verb::Findings { .. } | Verb::Page { .. } | Verb::Kernels { .. }
    );
    let name = args.verb.kept_as();
    let done = verb(&lab, args.verb);
    // One that was told to end says nothing of a kernel.
    if let Some(name) = name.filter(|_| !guest::interrupted()) {
        let wrong = match &done {
            Ok(0) => None,
            Ok(_) => Some("not all is as it must be".to_string()),
            Err(err) => Some(format!("{err:#}")),
        };
        let booted = lab.tally().booted.clone();
        kernels::keep(&lab, &booted, name, wrong)?;
    }
    page::leave(&lab);
    if summary {
        lab.tally()
            .lines()
            .iter()
            .for_each(|line| println!("{line}"));
    }
    done
}

impl Verb {
    /// What `lab kernels` calls it. What is not about all there is to see of a kernel is not kept, and each
    /// suite keeps its own.
    fn kept_as(&self) -> Option<&'static str> {
        match self {
            Verb::Repro { .. } => Some("repro"),
            Verb::Bench { only: None, .. } => Some("bench"),
            Verb::Soak { .. } => Some("soak"),
            Verb::Stress(_) => Some("stress"),
            Verb::Lifecycle { .. } => Some("lifecycle"),
            Verb::Matrix { part: None, .. } => Some("matrix"),
            Verb::Live(_) => Some("live"),
            Verb::Victims(_) => Some("victims"),
            Verb::Xfstests(_) => Some("xfstests"),
            Verb::Certainty { .. } => Some("certainty"),
            _ => None,
        }
    }
}

fn verb(lab: &env::Lab, verb: Verb) -> Result<u8> {
    let good = match verb {
        Verb::Run(args) => return run::verb(lab, &args),
        Verb::Boot(args) => boot(lab, args),
        Verb::Repro { kernel } => repro::verb(lab, kernel.as_deref()),
        Verb::Test { only, jobs } => suites::verb(lab, only.as_deref(), jobs.map(usize::from)),
        Verb::Shell { kernel, memory } => shell::verb(lab, &kernel, &memory),
        Verb::Bench { pairs, only } => bench::verb(lab, pairs, only.as_deref()),
        Verb::Soak { minutes, memory } => soak::verb(lab, minutes, memory),
        Verb::Stress(args) => stress::verb(lab, &args),
        Verb::Live(args) => natural::verb(lab, &args),
        Verb::Lifecycle { kernel, cycles } => soak::lifecycle(lab, &kernel, cycles),
        Verb::Matrix {
            keys,
            failed,
            fresh,
            part,
        } => matrix::verb(lab, &keys, &failed, fresh, part),
        Verb::Victims(args) => victims::verb(lab, &args),
        Verb::Xfstests(args) => xfstests::verb(lab, &args),
        Verb::XfstestsMerge { runs } => xfstests::merge_verb(lab, &runs),
        Verb::XfstestsCompare { a, b } => xfstests::compare_verb(lab, &a, &b),
        Verb::Findings { stories } => live::verb(lab, stories),
        Verb::Page { run } => page::verb(&run),
        Verb::Kernels { others } => kernels::verb(lab, &others),
        Verb::Certainty { boots } => certainty::verb(lab, boots),
    };
    Ok(u8::from(!good?))
}

/// No guest outlives the lab, not even one whose reader went away: println!() panics on
/// a closed pipe.
fn end_guests_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        guest::kill_all();
        let message = info.payload().downcast_ref::<String>();
        if message.is_some_and(|text| text.starts_with("failed printing to stdout")) {
            std::process::exit(1);
        }
        report(info);
    }));
}

fn boot(lab: &env::Lab, args: BootArgs) -> Result<bool> {
    let script = args
        .script
        .canonicalize()
        .map_err(|err| anyhow::anyhow!("no guest script {}: {err}", args.script.display()))?;
    let mut needs = env::Needs::of(&script)?;
    let asked = needs.kernel.clone().filter(|key| key != "any");
    let Some(key) = args.kernel.or(asked) else {
        bail!("{} runs on any kernel: say --kernel KEY", script.display());
    };
    if let Some(memory) = args.memory {
        env::memory_bytes(&memory)?;
        needs.memory = Some(memory);
    }
    needs.timeout = args.timeout.or(needs.timeout);
    needs.append.extend(args.append);
    let stem = script.file_stem().unwrap_or_default().to_string_lossy();
    let name = args.name.unwrap_or(format!("{key}-{stem}"));
    let mut argv = vec![script.display().to_string()];
    argv.extend(args.args);
    let mut boot = guest::Boot::new(lab, &key, &name, &needs, argv)?;
    for pair in args.env {
        match pair.split_once('=') {
            Some((name, value)) if is_name(name) => {
                boot.env.push((name.to_string(), value.to_string()));
            }
            _ => bail!("--env {pair}: NAME=VALUE is wanted"),
        }
    }

    boot.live = true;
    let run_dir = lab.run_dir("boot")?;
    let accel = kvm::probe(lab, &run_dir, &|line| println!("{line}"))?;
    println!("boot {key}: {}", boot.name);
    let guest = guest::run(lab, accel, &run_dir, &boot)?;
    let result = &guest.result;
    println!("{result}");
    println!("# log: {}", guest.dir.join("console.log").display());
    if !matches!(
        result.outcome,
        outcome::Outcome::Pass | outcome::Outcome::Skip
    ) {
        print_tail(&guest);
    }
    Ok(matches!(
        result.outcome,
        outcome::Outcome::Pass | outcome::Outcome::Skip
    ))
}

/// The last lines of a guest that went wrong.
fn print_tail(guest: &guest::Guest) {
    println!(
        "# the last lines of {}:",
        guest.dir.join("console.log").display()
    );
    for line in guest.console.tail(20) {
        println!("#   {}", line.text);
    }
}

/// Whether a shell can export it.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
