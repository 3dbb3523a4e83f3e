// SPDX-License-Identifier: GPL-2.0

//! The live read race: what a kernel that nobody has broken says by itself, now and then.
//!
//! `readahead_folio()` drops the reader's reference, the end of the read clears `PG_locked` and wakes
//! without one of its own, and whoever drops the page in between makes the wake a leaked one. It needs
//! no reproducer and no delay (docs/results.md), so no test may take it for a false alarm, nor for
//! a finding about anything else.
//!
//! This is the one place that says which findings that are: by verdict, bit and caller. A test that is
//! to see silence leaves them out and has them counted; one that is about `PG_locked` sees them all.

use crate::{Findings, Report, Splat};

/// Ends of reads that wake with no reference of their own, after the reader has dropped its one: read
/// in 6.12.117 and 7.3.4. As they stand on the stack behind `folio_end_read()` and `folio_unlock()`, with
/// what a compiler may have inlined into which.
const ENDS_OF_READS: &[&str] = &[
    // fs/mpage.c
    "mpage_read_end_io",
    "mpage_end_io",
    // fs/buffer.c
    "end_buffer_async_read",
    "end_buffer_async_read_io",
    // fs/ext4/readpage.c
    "__read_end_io",
    // fs/iomap/buffered-io.c, and fs/iomap/bio.c since
    "iomap_read_end_io",
    "iomap_finish_folio_read",
    // fs/btrfs/extent_io.c and subpage.c
    "end_bbio_data_read",
    "end_folio_read",
    "btrfs_folio_end_lock",
    // fs/f2fs/data.c
    "f2fs_finish_read_bio",
    "f2fs_read_end_io",
    // fs/erofs/data.c
    "erofs_onlinefolio_end",
    // fs/netfs/read_collect.c; 9p's, among them the root of a guest
    "netfs_unlock_read_folio",
    "netfs_read_unlock_folios",
    "netfs_rreq_unlock_folios",
    "netfs_unlock_abandoned_read_pages",
    // mm/page_io.c
    "end_swap_bio_read",
    "__end_swap_bio_read",
    "swap_read_end",
];

/// What is between an end of a read and `folio_wake_bit()`.
const PLUMBING: &[&str] = &[
    "folio_wake_bit",
    "folio_end_read",
    "folio_unlock",
    "unlock_page",
    // Of patches/*/read-...
    "folio_unlock_io",
    "folio_clear_locked_and_wake",
];

/// Without the suffix of a clone and the name of a module.
fn plain(function: &str) -> &str {
    function.split([' ', '.']).next().unwrap_or(function)
}

fn is_end_of_read(function: &str) -> bool {
    ENDS_OF_READS.contains(&plain(function))
}

impl Report {
    /// Is it of the live read race?
    ///
    /// The page must have been freed in the window of its own wake, after the clear. A wake whose
    /// window is not known (`folio_unlock()` opens none unless it is asked to, and a window may be
    /// lost) can only be of a page that is free now.
    pub fn is_live(&self) -> bool {
        let freed_in_window = self.word("freed").is_some();
        let without_window = self.word("clear_ns").is_none();
        let possible = match self.verdict.as_str() {
            "zero-ref" => freed_in_window || without_window,
            "reused" | "tail" => freed_in_window,
            _ => false,
        };
        possible && self.rest.starts_with("wake of PG_locked in ") && is_end_of_read(self.caller())
    }

    /// How long its window was, in ns.
    pub fn window_ns(&self) -> Option<u64> {
        self.word("wake")?.parse().ok()
    }

    /// What the page was by the time of its wake.
    pub fn was(&self) -> String {
        match (self.verdict.as_str(), &self.file) {
            ("zero-ref", _) => "free".to_string(),
            ("tail", _) => "a tail page".to_string(),
            (_, Some(_)) => "a page of a file".to_string(),
            (_, None) => "in use, of no file".to_string(),
        }
    }
}

impl Splat {
    /// Is it the assertion of `patches/*/fix` (or another one in `folio_wake_bit()`), and does it speak of
    /// the live read race? It fires some instructions after wakewatch's probe: wakewatch need not have seen
    /// the page free.
    pub fn is_live(&self) -> bool {
        self.text.starts_with("WARNING: ")
            && self.text.contains(" folio_wake_bit+0x")
            && self.waker().is_some_and(is_end_of_read)
    }

    /// Who has called `folio_wake_bit()`, where the finding is in there.
    pub fn waker(&self) -> Option<&str> {
        let mut callers = self.callers.iter().map(String::as_str);
        callers.find(|caller| !PLUMBING.contains(&plain(caller)))
    }
}

/// How far apart in seconds the kernel's word and wakewatch's about one wake may be.
const ONE_WAKE: f64 = 0.1;

impl Findings {
    /// What is left when the live read race is taken away, and the scheduler's word about a busy host.
    pub fn others(mut self) -> Self {
        self.reports.retain(|report| !report.is_live());
        self.splats.retain(|splat| splat.excuse().is_none());
        self
    }

    /// Wakes that the live read race has been lost with, as wakewatch tells them.
    pub fn live_reports(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter().filter(|report| report.is_live())
    }

    /// Those that only the kernel's own assertion tells.
    pub fn live_splats(&self) -> impl Iterator<Item = &Splat> {
        self.splats.iter().filter(|splat| {
            splat.is_live()
                && !self
                    .live_reports()
                    .any(|report| (report.when() - splat.time).abs() < ONE_WAKE)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "==================================================================";

    fn report(headline: &str, story: &str) -> String {
        format!("{RULE}\nBUG: wakewatch: {headline}\n\nflags 0x1\nreport 0 at 8.000000 on CPU 0 in softirq, task x pid 1\nstack:\n folio_wake_bit+0x5/0xe0\nwakewatch: story {story}\n{RULE}\n")
    }

    fn live(headline: &str, story: &str) -> bool {
        Findings::of_text(&report(headline, story)).reports[0].is_live()
    }

    const FREED: &str = "verdict=x bit=PG_locked clear_ns=5 caller=a freed=219000 wake=620000";

    #[test]
    fn a_report_by_verdict_bit_and_caller() {
        assert!(live("zero-ref wake of PG_locked in __read_end_io", FREED));
        assert!(live("reused wake of PG_locked in mpage_read_end_io", FREED));
        assert!(live(
            "reused wake of PG_locked in __read_end_io [ext4]",
            FREED
        ));
        assert!(live(
            "zero-ref wake of PG_locked in end_folio_read.isra.0",
            FREED
        ));
        for other in [
            // The mutant unlock-after-put.
            "zero-ref wake of PG_locked in ext4_da_write_end",
            "zero-ref wake of PG_locked in shrink_folio_list",
            "zero-ref wake of PG_writeback in __read_end_io",
            "zero-ref wake of PG_private_2 in __read_end_io",
            "reused wake of PG_writeback in ext4_finish_bio",
            "unreferenced end of writeback in ext4_finish_bio",
            "unbalanced end of writeback in __read_end_io",
        ] {
            assert!(!live(other, FREED), "{other}");
        }
    }

    #[test]
    fn the_page_was_freed_in_the_window() {
        let before = "verdict=x bit=PG_locked clear_ns=5 caller=a wake=620000";
        assert!(!live("zero-ref wake of PG_locked in __read_end_io", before));
        assert!(!live("reused wake of PG_locked in __read_end_io", before));
        // btrfs ends reads by folio_unlock(), which opens no window.
        let none = "verdict=x bit=PG_locked victims=0";
        assert!(live(
            "zero-ref wake of PG_locked in end_bbio_data_read",
            none
        ));
        assert!(!live(
            "reused wake of PG_locked in end_bbio_data_read",
            none
        ));
    }

    fn warning(caller: &str) -> String {
        format!(
            "page: refcount:0 mapcount:0 mapping:0 index:0x0 pfn:0x1\n\
             flags: 0x1(zone=0)\n\
             page dumped because: VM_WARN_ON_ONCE_FOLIO(folio_was_freed(folio))\n\
             ------------[ cut here ]------------\n\
             WARNING: CPU: 1 PID: 22 at mm/filemap.c:1180 folio_wake_bit+0xb2/0xe0\n\
             RIP: 0010:folio_wake_bit+0xb2/0xe0\n\
             Call Trace:\n <TASK>\n ? __warn+0x1/0x2\n {caller}+0x8c/0x130\n blk_update_request+0x1/0x3\n </TASK>\n\
             ---[ end trace 0000000000000000 ]---\n"
        )
    }

    #[test]
    fn the_kernels_assertion_by_its_caller() {
        let all = Findings::of_text(&warning("__read_end_io"));
        assert_eq!(all.splats.len(), 1);
        assert!(all.splats[0].is_live());
        assert_eq!(all.splats[0].lines.len(), 13);
        assert_eq!(all.live_splats().count(), 1);
        let reclaim = Findings::of_text(&warning("shrink_folio_list"));
        assert!(!reclaim.splats[0].is_live());
        assert_eq!(reclaim.splats[0].waker(), Some("shrink_folio_list"));
        assert!(
            Findings::of_text(&warning("folio_end_read")).splats[0].waker()
                == Some("blk_update_request")
        );
        let elsewhere = warning("__read_end_io").replace("folio_wake_bit", "folio_end_writeback");
        assert!(!Findings::of_text(&elsewhere).splats[0].is_live());
    }

    #[test]
    fn one_wake_told_twice_is_one() {
        let both = format!(
            "{}{}",
            report("zero-ref wake of PG_locked in __read_end_io", FREED),
            warning("__read_end_io")
        );
        let stamped: Vec<String> = both
            .lines()
            .map(|line| format!("[    8.000100] {line}"))
            .collect();
        let all = Findings::of_text(&stamped.join("\n"));
        assert_eq!(
            (all.live_reports().count(), all.live_splats().count()),
            (1, 0)
        );
        assert_eq!(all.reports[0].window_ns(), Some(620000));
        assert_eq!(all.reports[0].was(), "free");
        let left = all.others();
        assert!(left.reports.is_empty() && left.splats.is_empty());
    }
}
