// SPDX-License-Identifier: GPL-2.0

//! Two minutes of mixed work on each kernel, with a delay on a few pages: does it survive, and is what
//! was written what is read back?

use super::lane::{programs, Lane};
use super::row::{Mark, Row};
use crate::console::{chief_splat, count_verdicts};
use crate::debugfs::{self, Snapshot};
use crate::guest::Guest;
use crate::ktap::Status;
use crate::live::without_live;
use crate::outcome::Outcome;
use crate::stress;
use crate::table::table;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Guests at a time. Each has its two minutes, and less work done in them.
pub const AT_A_TIME: usize = 3;
const SECONDS: u64 = 120;
/// Results of stress.sh that look at data; each has its words somewhere in its name.
const DATA: [&str; 3] = ["fio", "fsx", "e2fsck"];
/// The result that is wakewatch's: some kernels are told of without losing anything.
const SAID: &str = "wakewatch has nothing to say";

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stress {
    pub mark: Mark,
    pub evidence: String,
    /// Is what was read what had been written? Nothing, if the guest did not live to tell.
    pub verified: Option<bool>,
    pub end_writeback: u64,
    pub delays: u64,
    /// Findings of wakewatch's, by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Windows that a wake has ended, by the power of two that their length in ns has reached.
    pub windows: BTreeMap<u32, u64>,
    pub log: PathBuf,
}

impl Stress {
    pub fn data(&self) -> &'static str {
        match self.verified {
            Some(true) => "ok",
            Some(false) => "WRONG",
            None => "-",
        }
    }
}

pub fn measure(lane: &Lane, key: &str) -> Result<Stress> {
    let mut goes_in = programs(lane.lab, key)?;
    goes_in.push(format!("{SECONDS} {}", stress::DELAY));
    let scripts = ["lib", "pressure", "stress"];
    let whole = |stress: &Stress| stress.mark != Mark::Unknown;
    lane.kept("stress", key, &goes_in, &scripts, whole, || {
        let mut boot = stress::boot(lane.lab, key, SECONDS, Some(stress::DELAY))?;
        boot.append.push("oops=panic".to_string());
        // The script's own time is for a guest that has the machine to itself.
        boot.timeout += SECONDS;
        boot.boot_limit *= AT_A_TIME as u64;
        Ok(of_guest(&lane.boot(lane.accel, &boot)?))
    })
}

fn of_guest(guest: &Guest) -> Stress {
    let console = &guest.console;
    let all = console.findings(console.all());
    let left = all.clone().others();
    // An assertion that fired is no loss.
    let splat = chief_splat(&left.splats).filter(|splat| !splat.text.starts_with("WARNING: "));
    let failed = |words: &[&str]| {
        guest.tests.iter().find(|test| {
            test.status == Status::Fail && words.iter().any(|word| test.name.contains(word))
        })
    };
    let lived = matches!(guest.result.outcome, Outcome::Pass | Outcome::Fail);
    let others = guest.tests.iter().find(|test| {
        let said = test.name.contains(SAID) || test.name.starts_with("the kernel log has");
        test.status == Status::Fail && !said
    });
    let (mark, evidence) = match (splat, failed(&DATA), others) {
        (Some(splat), ..) => (Mark::Lost, splat.summary()),
        (None, Some(test), _) => (Mark::Lost, test.name.clone()),
        (None, None, Some(test)) => (Mark::Unknown, test.name.clone()),
        (None, None, None) if lived => (Mark::Holds, "survived".to_string()),
        (None, None, None) => (Mark::Unknown, guest.result.why.clone()),
    };
    let stats = guest.result.stats.values().next().cloned();
    let stats = stats.unwrap_or_default();
    let snapshot = Snapshot::read(&guest.dir.join("snapshot"));
    let stat = |name: &str| stats.get(name).copied().unwrap_or(0);
    Stress {
        verified: (lived && mark != Mark::Unknown).then(|| failed(&DATA).is_none()),
        mark,
        evidence,
        end_writeback: stat("end_writeback"),
        delays: stat("delays"),
        verdicts: if stats.is_empty() {
            count_verdicts(&left.reports)
        } else {
            without_live(debugfs::findings(stat), &all)
        },
        windows: windows(snapshot.unwrap_or_default()),
        log: guest.dir.join("console.log"),
    }
}

/// The histogram of all call sites together.
fn windows(snapshot: Snapshot) -> BTreeMap<u32, u64> {
    let mut all = BTreeMap::new();
    for (power, n) in snapshot.windows.into_values().flatten() {
        *all.entry(power).or_default() += n;
    }
    all
}

/// The table of the stress and of the alarms, readable at 100 columns.
pub fn text(rows: &[Row]) -> String {
    let mut table = table([
        "kernel",
        "2 min",
        "data",
        "delays",
        "alarms",
        "wakewatch said",
    ]);
    for row in rows
        .iter()
        .filter(|row| row.stress.is_some() || row.alarms.is_some())
    {
        let mut cells = vec![row.key.clone()];
        cells.extend(match &row.stress {
            Some(stress) => [
                stress.mark.sign().to_string(),
                stress.data().to_string(),
                match stress.delays {
                    0 => "-".to_string(),
                    n => n.to_string(),
                },
            ],
            None => ["-"; 3].map(str::to_string),
        });
        cells.push(alarms(row));
        let said = row
            .stress
            .as_ref()
            .map(|stress| debugfs::by_verdict(&stress.verdicts));
        cells.push(match said {
            None => "-".to_string(),
            Some(said) if said.is_empty() => "nothing".to_string(),
            Some(said) => said,
        });
        table.add_row(cells);
    }
    let mut out = format!(
        "{table}\n\nTwo minutes of stress.sh with a delay ({}), and what fio, fsx and e2fsck say of\n\
         the data. `alarms`: what the kernel's own assertion fired for, something true or a FALSE alarm;\n\
         behind a `/` what the model says, where it says otherwise.\n",
        stress::DELAY
    );
    for row in rows {
        if let Some(stress) = row
            .stress
            .as_ref()
            .filter(|stress| stress.mark != Mark::Holds)
        {
            out.push_str(&format!("- **{}**: {}\n", row.key, stress.evidence));
        }
    }
    out
}

/// Alarms of the kernel's own assertion, true and false.
pub fn alarms(row: &Row) -> String {
    let words = |truly, falsely| match (truly, falsely) {
        (true, true) => "true, FALSE",
        (true, false) => "true",
        (false, true) => "FALSE",
        (false, false) => "none",
    };
    let Some(alarms) = row.alarms else {
        return "-".to_string();
    };
    let measured = words(alarms.truly, alarms.falsely);
    let model = words(
        row.model.contains_key("true-alarm"),
        row.model.contains_key("false-alarm"),
    );
    if measured == model {
        measured.to_string()
    } else {
        format!("{measured} / {model}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_all_call_sites_are_added() {
        let snapshot = Snapshot::parse(
            "== callers\n\
             site=end_writeback calls=96 none=0 caller=a\n\
             == windows\n\
             site=end_writeback caller=ext4_finish_bio+0x19b/0x290 n=9 16:7 17:2\n\
             site=end_read caller=a n=1 16:1\n\
             table open=3 freed=0 room=1024\n",
        );
        let all = windows(snapshot);
        assert_eq!(all, BTreeMap::from([(16, 8), (17, 2)]));
    }
}
