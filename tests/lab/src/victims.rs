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
    #[arg(long, value_name = "KEY", default_value = "stock")]
    kernel: String,
    /// Which, with commas; otherwise all
    #[arg(long)]
    only: Option<String>,
}

/// The kernel as it ships: every victim must be one there, and none on another.
const SHIPPED: &str = "stock";

pub fn verb(lab: &Lab, args: &Args) -> Result<bool> {
    let mut boot = Boot::of_scripts(lab, &args.kernel, "victims", &["victims"])?;
    boot.live = true;
    let mut set = |name: &str, value: String| boot.env.push((name.to_string(), value));
    set("WW_DETECT", "1".to_string());
    if let Some(only) = &args.only {
        set("WW_VICTIMS", only.replace(',', " "));
    }
    if args.kernel != SHIPPED {
        set("WW_EIO", "no".to_string());
    }
    let guest = soak::run(lab, &boot, args.only.as_deref().unwrap_or("all of them"))?;
    let build = boot.kernel.dir.file_name().unwrap_or_default();
    let text = page(&build.to_string_lossy(), &guest);
    fs::write(guest.dir.join("table.md"), &text)?;
    println!("\n{text}");
    Ok(guest.result.outcome == Outcome::Pass)
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
    for victim in guest.console.results().filter_map(Victim::of) {
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
}
