// SPDX-License-Identifier: GPL-2.0

//! What is booted, and what must be seen of it: the table of `make repro`, as data.

use crate::env::Lab;
use crate::guest::Boot;
use anyhow::Result;

/// What the kernel must say of itself.
#[derive(Clone, Copy, Debug)]
pub enum Said {
    Nothing,
    /// A `BUG()`, and so the guest's end.
    Bug {
        file: &'static str,
        function: Option<&'static str>,
        /// One of these is in the line; any line will do if there are none.
        page_dumped: &'static [&'static str],
    },
}

/// What wakewatch must say.
#[derive(Clone, Copy, Debug)]
pub enum Heard {
    Nothing,
    /// This verdict; `about` is part of its headline.
    Verdict {
        verdict: &'static str,
        about: &'static str,
        /// Not after the kernel's own line.
        first: bool,
        /// Verdicts that may come beside it.
        beside: &'static [&'static str],
        /// What the story of one of its reports must tell, besides.
        story: &'static [&'static str],
    },
}

/// One row of the table: a script in a boot.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub script: &'static str,
    pub scenario: &'static str,
    pub kernel: Said,
    pub wakewatch: Heard,
    /// Counters that show that the scenario really ran, where the guest survives it.
    pub moved: &'static [&'static str],
    /// A program was hurt: its script says whose call has failed, and a report must say that this task was
    /// woken.
    pub hurt: bool,
}

/// One guest, with one or more scripts in it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub name: &'static str,
    pub kernel: &'static str,
    pub detect: bool,
    /// Of its scripts.
    pub env: &'static [(&'static str, &'static str)],
    pub rows: &'static [Row],
}

pub const ORDER0_BUG: Said = Said::Bug {
    file: "fs/ext4/inode.c:",
    function: Some("mpage_prepare_extent_to_map"),
    page_dumped: &[],
};

pub const TAIL_BUG: Said = Said::Bug {
    file: "include/linux/page-flags.h:",
    function: None,
    // 6.12's name of the word, and 7.3's.
    page_dumped: &["compound_head & 1", "compound_info & 1"],
};

/// Two rows of any kernel without the bug of 2020.
const SILENT_SYNC: Row = Row {
    script: "sync",
    scenario: "one file written and synced",
    kernel: Said::Nothing,
    wakewatch: Heard::Nothing,
    moved: &["end_writeback"],
    hurt: false,
};
const SILENT_ORDER0: Row = Row {
    script: "order0",
    scenario: "order-0 reuse",
    kernel: Said::Nothing,
    wakewatch: Heard::Nothing,
    moved: &["delays"],
    hurt: false,
};

/// The whole of `make repro`. A guest dies of the bug, so each BUG costs a boot; what
/// a guest survives comes before, or together.
pub const PLANS: &[Plan] = &[
    Plan {
        name: "broken-sync-order0",
        kernel: "broken",
        detect: true,
        env: &[],
        rows: &[
            Row {
                script: "sync",
                scenario: "no race at all: one file written and synced",
                kernel: Said::Nothing,
                wakewatch: Heard::Verdict {
                    verdict: "unreferenced",
                    about: "end of writeback",
                    first: true,
                    beside: &[],
                    story: &[],
                },
                moved: &["end_writeback"],
                hurt: false,
            },
            Row {
                script: "order0",
                scenario: "order-0 reuse",
                kernel: ORDER0_BUG,
                wakewatch: Heard::Verdict {
                    verdict: "reused",
                    about: "PG_writeback",
                    first: true,
                    beside: &["unreferenced"],
                    story: &["freed=", "allocated=", "started=", "victim_pid="],
                },
                moved: &[],
                hurt: false,
            },
        ],
    },
    Plan {
        name: "broken-tail",
        kernel: "broken",
        detect: true,
        env: &[],
        rows: &[Row {
            script: "tail",
            scenario: "tail reuse",
            kernel: TAIL_BUG,
            // The kernel's BUG comes in the very wake that is reported.
            wakewatch: Heard::Verdict {
                verdict: "tail",
                about: "PG_writeback",
                first: false,
                beside: &["unreferenced", "zero-ref", "reused"],
                story: &["freed=", "allocated="],
            },
            moved: &[],
            hurt: false,
        }],
    },
    Plan {
        name: "broken-order0-witness",
        kernel: "broken",
        detect: false,
        env: &[],
        rows: &[Row {
            script: "order0",
            scenario: "order-0 reuse, detection off",
            kernel: ORDER0_BUG,
            wakewatch: Heard::Nothing,
            moved: &[],
            hurt: false,
        }],
    },
    Plan {
        name: "broken-tail-witness",
        kernel: "broken",
        detect: false,
        env: &[],
        rows: &[Row {
            script: "tail",
            scenario: "tail reuse, detection off",
            kernel: TAIL_BUG,
            wakewatch: Heard::Nothing,
            moved: &[],
            hurt: false,
        }],
    },
    Plan {
        name: "fixed",
        kernel: "fixed",
        detect: true,
        env: &[],
        rows: &[
            SILENT_SYNC,
            SILENT_ORDER0,
            Row {
                script: "tail",
                scenario: "tail reuse",
                kernel: Said::Nothing,
                wakewatch: Heard::Nothing,
                moved: &["delays"],
                hurt: false,
            },
        ],
    },
    Plan {
        name: "stock-read-race",
        kernel: "stock",
        detect: true,
        env: &[],
        rows: &[Row {
            script: "read-race",
            scenario: "a read completes on a page dropped meanwhile",
            kernel: Said::Nothing,
            wakewatch: Heard::Verdict {
                verdict: "zero-ref",
                about: "PG_locked",
                first: false,
                // Where the host is busy the reader may get the CPU after all.
                beside: &["reused"],
                story: &["freed="],
            },
            moved: &["delays"],
            hurt: false,
        }],
    },
    Plan {
        name: "stock-read-race-retake",
        kernel: "stock",
        detect: true,
        env: &[],
        rows: &[Row {
            script: "read-race-retake",
            scenario: "the same, and its reader takes the page back",
            kernel: Said::Nothing,
            wakewatch: Heard::Verdict {
                verdict: "reused",
                about: "PG_locked",
                first: false,
                // Now and then the wake comes before the reader.
                beside: &["zero-ref"],
                story: &["freed=", "allocated="],
            },
            moved: &["delays"],
            hurt: false,
        }],
    },
    Plan {
        name: "stock-read-eio",
        kernel: "stock",
        detect: true,
        env: &[],
        rows: &[Row {
            script: "read-eio",
            scenario: "a healthy file, and read() says EIO",
            kernel: Said::Nothing,
            wakewatch: Heard::Verdict {
                verdict: "reused",
                about: "PG_locked",
                first: false,
                // Where the reader of the other file takes its page back, or the wake comes first.
                beside: &["zero-ref"],
                story: &["freed=", "allocated=", "victim_pid="],
            },
            moved: &["delays", "victims"],
            hurt: true,
        }],
    },
    Plan {
        name: "fix-read-eio",
        kernel: "read-ref-if-waiters",
        detect: true,
        env: &[("WW_EIO", "no")],
        rows: &[Row {
            script: "read-eio",
            scenario: "the same file, and every read is right",
            kernel: Said::Nothing,
            wakewatch: Heard::Nothing,
            moved: &["delays"],
            hurt: false,
        }],
    },
];

/// What any healthy kernel must be silent about; for one that nobody has patched.
const SILENCE: Plan = Plan {
    name: "silence",
    kernel: "stock",
    detect: true,
    env: &[],
    rows: &[SILENT_SYNC, SILENT_ORDER0],
};

/// The rows that need no patch, on the kernel `key`.
pub fn unpatched(key: &str) -> Vec<Plan> {
    // They are `'static` for all others, and this is done once.
    let key: &'static str = key.to_string().leak();
    std::iter::once(&SILENCE)
        .chain(PLANS.iter().filter(|plan| plan.kernel == "stock"))
        .map(|plan| Plan {
            kernel: key,
            ..*plan
        })
        .collect()
}

/// Scripts that lose the live read race on purpose, as their tops say.
const ABOUT_READS: &[&str] = &["read-race", "read-race-retake", "read-eio"];

impl Row {
    /// Then the live read race is what it is there for, or what must not be.
    pub fn is_about_reads(&self) -> bool {
        ABOUT_READS.contains(&self.script)
    }
}

impl Plan {
    pub fn boot(&self, lab: &Lab) -> Result<Boot> {
        let scripts: Vec<&str> = self.rows.iter().map(|row| row.script).collect();
        let mut boot = Boot::of_scripts(lab, self.kernel, self.name, &scripts)?;
        boot.env
            .push(("WW_DETECT".to_string(), u8::from(self.detect).to_string()));
        boot.env
            .extend(self.env.iter().map(|(k, v)| (k.to_string(), v.to_string())));
        // A BUG ends the guest at once, instead of leaving a half dead one to its time limit.
        if !boot.append.iter().any(|word| word == "oops=panic") {
            boot.append.push("oops=panic".to_string());
        }
        Ok(boot)
    }
}
