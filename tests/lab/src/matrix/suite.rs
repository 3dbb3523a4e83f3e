// SPDX-License-Identifier: GPL-2.0

//! The suite `matrix`: the bug in all its forms, and what the merged fix leaves of it.

use super::races;
use super::row::Mark;
use crate::ktap::{Status, Test};
use crate::outcome::Outcome;
use crate::suites::Run;
use anyhow::{bail, Result};

/// What must come of it, for `lab test`: the bug in all its forms, and what the merged fix leaves of it.
const EXPECTED: &[(&str, &[(&str, Mark)])] = &[
    (
        "broken",
        &[
            ("order0", Mark::Lost),
            ("tail", Mark::Lost),
            ("own", Mark::Holds),
            ("later", Mark::Lost),
            ("waits", Mark::Holds),
            ("dma", Mark::Lost),
        ],
    ),
    (
        "get-around",
        &[
            ("order0", Mark::Holds),
            ("tail", Mark::Holds),
            ("own", Mark::Holds),
            ("later", Mark::Lost),
            ("waits", Mark::Holds),
            ("dma", Mark::Lost),
        ],
    ),
];

pub fn suite(run: &mut Run) -> Result<Vec<Test>> {
    let lab = run.lab;
    let mut tests = Vec::new();
    for (key, expected) in EXPECTED {
        let row = races::run(lab, key, &mut |boot| {
            let guest = run.boot(boot)?;
            if guest.result.outcome == Outcome::LabError {
                bail!("{}: {}", boot.name, guest.result.why);
            }
            Ok(guest)
        })?;
        for (race, mark) in *expected {
            let title = format!("{key}: {race} {}", mark.sign());
            tests.push(match row.cells.get(*race) {
                Some(cell) if cell.mark == *mark => Test::new(title, Status::Pass),
                Some(cell) => {
                    let log = cell.log.display();
                    let seen = cell.mark.sign();
                    Test::fail(title, format!("{seen}: {}, {log}", cell.evidence))
                }
                None => Test::fail(title, "no result"),
            });
        }
    }
    Ok(tests)
}
