// SPDX-License-Identifier: GPL-2.0

//! The assertions that were proposed, each against something true and something false.

use super::lane::{programs, Lane};
use crate::console::Findings;
use crate::guest::Boot;
use crate::outcome::Outcome;
use anyhow::{bail, Result};
use serde::{Deserialize, Serialize};

/// A kernel with an assertion, a script that does what it is there for, and the function it is in.
const ASSERTIONS: &[(&str, &str, &str)] = &[
    ("warn-zero-count-plain", "read-race", "folio_wake_bit"),
    ("warn-zero-count", "read-race", "folio_wake_bit"),
    ("warn-unlocked-start", "events", "__folio_start_writeback"),
];

/// Does nothing that any of them is there for: pages are reclaimed behind many who wait for them.
const INNOCENT: &str = "reclaim-frozen";

/// When the assertion fired.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Alarms {
    pub truly: bool,
    pub falsely: bool,
}

/// Nothing for a kernel without an assertion.
pub fn measure(lane: &Lane, key: &str) -> Result<Option<Alarms>> {
    let Some((_, guilty, function)) = ASSERTIONS.iter().find(|(with, ..)| *with == key) else {
        return Ok(None);
    };
    let goes_in = programs(lane.lab, key)?;
    let scripts = ["lib", "race", guilty, INNOCENT];
    let alarms = lane.kept(
        "alarms",
        key,
        &goes_in,
        &scripts,
        |_| true,
        || {
            let fired = |script: &str| -> Result<bool> {
                let name = format!("alarms-{key}-{script}");
                let mut boot = Boot::of_scripts(lane.lab, key, &name, &[script])?;
                boot.env.push(("WW_DETECT".to_string(), "1".to_string()));
                let guest = lane.boot(lane.accel, &boot)?;
                // A finding of the kernel is what is looked for: a script that fails of it has run.
                if !matches!(guest.result.outcome, Outcome::Pass | Outcome::Fail) {
                    let log = guest.dir.join("console.log");
                    bail!("{name}: {}, {}", guest.result.why, log.display());
                }
                let all = guest.console.findings(guest.console.all());
                // By itself, this kernel may say something true beside what is innocent.
                let counted = match boot.provokes_reads {
                    true => all,
                    false => all.others(),
                };
                Ok(warned(&counted, function))
            };
            Ok(Alarms {
                truly: fired(guilty)?,
                falsely: fired(INNOCENT)?,
            })
        },
    )?;
    Ok(Some(alarms))
}

/// Has the assertion in this function fired?
fn warned(findings: &Findings, function: &str) -> bool {
    let place = format!(" {function}+0x");
    let mut splats = findings.splats.iter();
    splats.any(|splat| splat.text.starts_with("WARNING: ") && splat.text.contains(&place))
}
