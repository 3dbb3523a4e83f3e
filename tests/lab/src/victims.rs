// SPDX-License-Identifier: GPL-2.0

//! `lab victims`: who takes the late wake-up of a page's last life for the end of its own read, and what
//! comes of it, in one guest and one table. tests/guest/victims.sh has the victims.

use crate::env::Lab;
use crate::guest::{Boot, Guest};
use crate::outcome::Outcome;
use crate::soak;
use crate::table::table;
use anyhow::Result;
use std::fs;

/// What scripts/victims.sh says.
#[derive(clap::Args)]
pub struct Args {
    /// Which kernel; several, with commas, are set side by side
    #[arg(
        long = "kernel",
        value_name = "KEY",
        default_value = "stock",
        value_delimiter = ','
    )]
    kernels: Vec<String>,
    /// Which, with commas; otherwise all
    #[arg(long)]
    only: Option<String>,
}

/// The kernel as it ships: every victim must be one there, and none on another.
const SHIPPED: &str = "stock";

pub fn verb(lab: &Lab, args: &Args) -> Result<bool> {
    let mut guests = Vec::new();
    for kernel in &args.kernels {
        guests.push((kernel.as_str(), one(lab, kernel, args.only.as_deref())?));
    }
    let passed = |(_, guest): &(_, Guest)| guest.result.outcome == Outcome::Pass;
    if let [guest] = &guests[..] {
        return Ok(passed(guest));
    }
    let columns: Vec<(&str, Vec<Victim>)> = guests
        .iter()
        .map(|(key, guest)| (*key, Victim::all(guest)))
        .collect();
    let lost: Vec<Option<Lost>> = args.kernels.iter().map(|key| Lost::of(key)).collect();
    println!("{}", side_by_side(&columns, &lost));
    // Whom a fix saves is the result, and no failure; that a guest did not come to its end is one.
    let whole = |columns: &[(&str, Vec<Victim>)]| {
        let names = |victims: &[Victim]| -> Vec<String> {
            victims.iter().map(|v| v.name.to_string()).collect()
        };
        columns
            .iter()
            .all(|(_, victims)| !victims.is_empty() && names(victims) == names(&columns[0].1))
    };
    Ok(whole(&columns) && guests.iter().filter(|(key, _)| *key == SHIPPED).all(passed))
}

fn one(lab: &Lab, kernel: &str, only: Option<&str>) -> Result<Guest> {
    let mut boot = Boot::of_scripts(lab, kernel, "victims", &["victims"])?;
    boot.live = true;
    let mut set = |name: &str, value: String| boot.env.push((name.to_string(), value));
    set("WW_DETECT", "1".to_string());
    if let Some(only) = only {
        set("WW_VICTIMS", only.replace(',', " "));
    }
    if kernel != SHIPPED {
        set("WW_EIO", "no".to_string());
    }
    let guest = soak::run(lab, &boot, only.unwrap_or("all of them"))?;
    let text = page(&boot.kernel.build(), &guest);
    fs::write(guest.dir.join("table.md"), &text)?;
    println!("\n{text}");
    Ok(guest)
}

/// One of the script's lines that are meant for this.
#[derive(Debug, PartialEq)]
struct Victim<'a> {
    name: &'a str,
    place: &'a str,
    answer: &'a str,
    wrong: &'a str,
    calls: &'a str,
    freed: &'a str,
    told: &'a str,
    afterwards: &'a str,
}

impl<'a> Victim<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix("# victim: ")?;
        let mut words = rest.split('|');
        let mut next = || words.next();
        Some(Self {
            name: next()?,
            place: next()?,
            answer: next()?,
            wrong: next()?,
            calls: next()?,
            freed: next()?,
            told: next()?,
            afterwards: next()?,
        })
    }

    fn all(guest: &'a Guest) -> Vec<Self> {
        guest.console.results().filter_map(Self::of).collect()
    }

    /// What came of it on one of several kernels, and what the model says of that kernel if it says otherwise.
    fn cell(&self, lost: Option<&Lost>) -> String {
        let mut text = format!("{} of {}", self.wrong, self.calls);
        if self.told != "0" {
            text.push_str(&format!(" ({})", self.told));
        }
        if let Some(lost) = lost {
            match (self.wrong != "0", lost.is_victim(self.name)) {
                (true, false) => text.push_str(" / ok"),
                (false, true) => text.push_str(" / LOST"),
                _ => {}
            }
        }
        text
    }
}

/// Who has a folio_wait_locked() of its own: all others wait in filemap_read_folio().
const OWN_WAIT: &[&str] = &["f2fs-stat", "f2fs-rmdir", "gfs2-remount"];

/// Which of the two the model says that a kernel does not save.
struct Lost {
    read_folio: bool,
    own_wait: bool,
}

impl Lost {
    /// Nothing where there is no model of the kernel.
    fn of(key: &str) -> Option<Self> {
        let lost = wakewatch_model::reads::lost(key)?.lost;
        Some(Self {
            read_folio: lost.contains_key("read-eio"),
            own_wait: lost.contains_key("own-wait"),
        })
    }

    fn is_victim(&self, name: &str) -> bool {
        match OWN_WAIT.contains(&name) {
            true => self.own_wait,
            false => self.read_folio,
        }
    }
}

/// What came of it, as the documents have it.
fn page(build: &str, guest: &Guest) -> String {
    let mut victims = table([
        "victim",
        "on",
        "the wrong answer",
        "wrong",
        "calls",
        "pages freed before their wake",
        "reports that name it",
    ]);
    let mut afterwards = String::new();
    for victim in Victim::all(guest) {
        victims.add_row([
            victim.name,
            victim.place,
            victim.answer,
            victim.wrong,
            victim.calls,
            victim.freed,
            victim.told,
        ]);
        afterwards.push_str(&format!("- {}: {}\n", victim.name, victim.afterwards));
    }
    format!(
        "victims on {build}: {}\n\n{victims}\n\nAfterwards:\n\n{afterwards}",
        guest.result.why
    )
}

/// The same victims on several kernels, in the order of the first one; `lost` is the model's, by kernel.
fn side_by_side(kernels: &[(&str, Vec<Victim>)], lost: &[Option<Lost>]) -> String {
    let mut header = vec!["victim", "on"];
    header.extend(kernels.iter().map(|(key, _)| *key));
    let mut rows = table(header);
    for victim in kernels.first().map_or(&[][..], |(_, victims)| victims) {
        let mut row = vec![victim.name.to_string(), victim.place.to_string()];
        row.extend(kernels.iter().zip(lost).map(|((_, victims), lost)| {
            let same = victims.iter().find(|other| other.name == victim.name);
            same.map_or("-".to_string(), |same| same.cell(lost.as_ref()))
        }));
        rows.add_row(row);
    }
    format!(
        "{rows}\n\nCalls with a wrong answer, and of how many; in brackets reports that name the task, if there are any;\n\
         behind a `/` what the model says, where it says otherwise.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_script() {
        let line = "# victim: swapon|ext4|swapon() says EIO|10|19|19|9|it can be swapped to";
        let victim = Victim::of(line).unwrap();
        assert_eq!(
            (victim.name, victim.wrong, victim.calls),
            ("swapon", "10", "19")
        );
        assert_eq!(victim.afterwards, "it can be swapped to");
        assert_eq!(Victim::of("# victim: swapon|ext4"), None);
        assert_eq!(Victim::of("ok 1 swapon"), None);
    }

    #[test]
    fn kernels_stand_side_by_side() {
        let of = |lines: &[&'static str]| -> Vec<Victim> {
            lines.iter().map(|line| Victim::of(line).unwrap()).collect()
        };
        let stock = of(&[
            "# victim: swapon|ext4|x|10|19|19|9|y",
            "# victim: proc-mem|ext4|x|10|10|10|10|y",
        ]);
        let fixed = of(&["# victim: swapon|ext4|x|0|30|28|0|y"]);
        let text = side_by_side(&[("stock", stock), ("fixed", fixed)], &[None, None]);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows[0][1..5], ["victim", "on", "stock", "fixed"]);
        assert_eq!(rows[2][1..5], ["swapon", "ext4", "10 of 19 (9)", "0 of 30"]);
        assert_eq!(rows[3][1..5], ["proc-mem", "ext4", "10 of 10 (10)", "-"]);
    }

    #[test]
    fn the_model_has_an_opinion() {
        let cell = |line: &'static str, lost: Option<&Lost>| Victim::of(line).unwrap().cell(lost);
        let (f2fs, swapon) = (
            "# victim: f2fs-stat|f2fs|x|10|12|12|10|y",
            "# victim: swapon|ext4|x|0|30|28|0|y",
        );
        // The lock is taken by filemap_read_folio() alone.
        let lock = Lost::of("read-lock");
        assert_eq!(cell(f2fs, lock.as_ref()), "10 of 12 (10)");
        assert_eq!(cell(swapon, lock.as_ref()), "0 of 30");
        let both = |lost| Lost {
            read_folio: lost,
            own_wait: lost,
        };
        assert_eq!(cell(f2fs, Some(&both(false))), "10 of 12 (10) / ok");
        assert_eq!(cell(swapon, Some(&both(true))), "0 of 30 / LOST");
        assert!(Lost::of("rfc-end-read").is_none());
        assert_eq!(cell(swapon, None), "0 of 30");
    }
}
