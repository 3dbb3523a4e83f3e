// SPDX-License-Identifier: GPL-2.0

//! Reports as guests have printed them, and the folder of a run with them.

use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Suite `mutants`: `put-at-clear`, order-0 reuse.
pub const ORDER0: &str = "\
[   21.885976] ==================================================================
[   21.901088] BUG: wakewatch: reused wake of PG_writeback in ext4_finish_bio
[   21.901306]
[   21.902366] page 00000000c43957d1 pfn 0xaefc pages 1 refcount 3 mapcount 0
[   21.902851] flags 0x41bb(locked|waiters|uptodate|dirty|lru|active|private|writeback|zone=0)
[   21.903183] file dev 7:0 ino 14 index 0
[   21.924614] report 0 at 21.856537 on CPU 0 in softirq, task ksoftirqd/0 pid 14
[   21.924895] story:
[   21.925638]  +0.000 ms clear on CPU 0 in softirq, task ksoftirqd/0 pid 14, by ext4_finish_bio+0x19b/0x290
[   21.925932]  +2.637 ms freed on CPU 1 in task, task ww-repro pid 90
[   21.926301]       free_unref_folios+0xeb/0x790
[   21.926423]       folios_put_refs+0x128/0x160
[   21.926501]       mapping_try_invalidate+0x174/0x190
[   21.926581]       generic_fadvise+0x23d/0x270
[   21.926652]       __x64_sys_fadvise64+0x60/0x90
[   21.926745]  +3.250 ms allocated on CPU 1 in task, task ww-repro pid 90
[   21.926884]       __alloc_pages_noprof+0x1a0/0x260
[   21.926964]       __folio_alloc_noprof+0x14/0x60
[   21.927040]       __filemap_get_folio+0x183/0x3d0
[   21.927118]       ext4_da_write_begin+0x1a1/0x2a0
[   21.927222]       generic_perform_write+0xda/0x240
[   21.927321]  +14.598 ms writeback started on CPU 1 in task, task ww-repro pid 90
[   21.927889]       __folio_start_writeback+0x9/0x2b0
[   21.932020]       ext4_bio_write_folio+0x236/0x3c0
[   21.932123]       mpage_submit_folio+0x6d/0x90
[   21.932226]       mpage_process_page_bufs+0x11e/0x180
[   21.932308]       mpage_prepare_extent_to_map+0x368/0x500
[   21.932467]  +110.074 ms wake on CPU 0 in softirq, task ksoftirqd/0 pid 14
[   21.932654] victim task ww-repro pid 90 waits for PG_writeback
[   21.932806] stack:
[   21.932944]  folio_wake_bit+0x5/0xe0
[   21.933034]  folio_end_writeback+0x63/0xe0
[   21.933106]  ext4_finish_bio+0x19b/0x290
[   21.933191]  ext4_end_bio+0xa4/0x140
[   21.933260]  blk_update_request+0x115/0x360
[   21.933329]  blk_mq_end_request+0x18/0x30
[   21.933397]  blk_done_softirq+0x44/0x60
[   21.933464]  handle_softirqs+0xe8/0x240
[   21.933528]  run_ksoftirqd+0x21/0x30
[   21.933590]  smpboot_thread_fn+0xe7/0x140
[   21.933660]  kthread+0x115/0x130
[   21.933717]  ret_from_fork+0x34/0x40
[   21.933778]  ret_from_fork_asm+0x11/0x20
[   21.934421] wakewatch: story verdict=reused pfn=0xaefc refcount=3 at_ns=21856537906 cpu=0 pid=14 bit=PG_writeback clear_ns=21746463442 caller=ext4_finish_bio+0x19b/0x290 freed=2637367 freed_cpu=1 freed_pid=90 allocated=3250724 allocated_cpu=1 allocated_pid=90 started=14598857 started_cpu=1 started_pid=90 wake=110074464 victims=1 victim_pid=90
[   21.934860] ==================================================================
";

/// `make test`, suite `detector`: a read loses its page, which another task reads into.
pub const READ: &str = "\
[   16.553908] ==================================================================
[   16.556033] BUG: wakewatch: reused wake of PG_locked in __read_end_io
[   16.556223]
[   16.559822] page 00000000d5b6a737 pfn 0x8531 pages 1 refcount 2 mapcount 0
[   16.563400] flags 0x881(locked|waiters|owner_2|zone=0)
[   16.563756] file dev 7:0 ino 13 index 0
[   16.564453] report 0 at 16.505816 on CPU 0 in softirq, task ksoftirqd/0 pid 14
[   16.575963] story:
[   16.583108]  +0.000 ms clear on CPU 0 in softirq, task ksoftirqd/0 pid 14, by __read_end_io+0x8c/0x130
[   16.586531]  +2.029 ms freed on CPU 1 in task, task ww-repro pid 89
[   16.587201]       free_unref_folios+0xeb/0x790
[   16.587415]       folios_put_refs+0x128/0x160
[   16.587539]       mapping_try_invalidate+0x174/0x190
[   16.587670]       generic_fadvise+0x23d/0x270
[   16.587781]       __x64_sys_fadvise64+0x60/0x90
[   16.587963]  +7.780 ms allocated on CPU 1 in task, task ww-repro pid 88
[   16.588185]       __alloc_pages_noprof+0x1a0/0x260
[   16.588321]       __folio_alloc_noprof+0x14/0x60
[   16.590115]       page_cache_ra_unbounded+0x15e/0x220
[   16.594053]       page_cache_sync_ra+0xdc/0x240
[   16.594224]       filemap_get_pages+0x154/0x750
[   16.594491]  +12.505 ms wake on CPU 0 in softirq, task ksoftirqd/0 pid 14
[   16.594768] victim task ww-repro pid 88 waits for PG_locked
[   16.594994] stack:
[   16.595192]  folio_wake_bit+0x5/0xb0
[   16.595334]  __read_end_io+0x8c/0x130
[   16.595479]  blk_update_request+0x115/0x360
[   16.595582]  blk_mq_end_request+0x18/0x30
[   16.595688]  blk_done_softirq+0x44/0x60
[   16.597396]  handle_softirqs+0xe8/0x240
[   16.597520]  run_ksoftirqd+0x21/0x30
[   16.597620]  smpboot_thread_fn+0xe7/0x140
[   16.597722]  kthread+0x115/0x130
[   16.597812]  ret_from_fork+0x34/0x40
[   16.597905]  ret_from_fork_asm+0x11/0x20
[   16.598962] wakewatch: story verdict=reused pfn=0x8531 refcount=2 at_ns=16505816689 cpu=0 pid=14 bit=PG_locked clear_ns=16493311173 caller=__read_end_io+0x8c/0x130 freed=2029199 freed_cpu=1 freed_pid=89 allocated=7780513 allocated_cpu=1 allocated_pid=88 wake=12505516 victims=1 victim_pid=88
[   16.599565] ==================================================================
";

/// Later in the same guest: nobody has the page.
pub const ZERO_REF: &str = "\
[   35.239757] ==================================================================
[   35.240142] BUG: wakewatch: zero-ref wake of PG_locked in __read_end_io
[   35.240367]
[   35.240454] page 00000000e23970c5 pfn 0x76c1 pages 1 refcount 0 mapcount 0
[   35.245819] flags 0x0(zone=0)
[   35.246111] report 5 at 35.215669 on CPU 0 in softirq, task ksoftirqd/0 pid 14
[   35.246411] story:
[   35.246550]  +0.000 ms clear on CPU 0 in softirq, task ksoftirqd/0 pid 14, by __read_end_io+0x8c/0x130
[   35.246879]  +4.963 ms freed on CPU 1 in task, task ww-repro pid 176
[   35.247174]       free_unref_folios+0xeb/0x790
[   35.247358]       folios_put_refs+0x128/0x160
[   35.247560]       mapping_try_invalidate+0x174/0x190
[   35.247777]       generic_fadvise+0x23d/0x270
[   35.247941]       __x64_sys_fadvise64+0x60/0x90
[   35.248282]  +10.437 ms wake on CPU 0 in softirq, task ksoftirqd/0 pid 14
[   35.253172] stack:
[   35.253362]  folio_wake_bit+0x5/0xb0
[   35.253464]  __read_end_io+0x8c/0x130
[   35.253620]  blk_update_request+0x115/0x360
[   35.253820]  blk_mq_end_request+0x18/0x30
[   35.253998]  blk_done_softirq+0x44/0x60
[   35.254226]  handle_softirqs+0xe8/0x240
[   35.254414]  run_ksoftirqd+0x21/0x30
[   35.254596]  smpboot_thread_fn+0xe7/0x140
[   35.254824]  kthread+0x115/0x130
[   35.255005]  ret_from_fork+0x34/0x40
[   35.255201]  ret_from_fork_asm+0x11/0x20
[   35.255471] wakewatch: story verdict=zero-ref pfn=0x76c1 refcount=0 at_ns=35215669097 cpu=0 pid=14 bit=PG_locked clear_ns=35205231584 caller=__read_end_io+0x8c/0x130 freed=4963952 freed_cpu=1 freed_pid=176 wake=10437513 victims=0
[   35.256383] ==================================================================
";

/// Suite `drgn`: a module makes the events, one after the other.
pub const MODULE: &str = "\
[   14.102945] ==================================================================
[   14.103218] BUG: wakewatch: reused wake of PG_writeback in _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init [wakewatch_events]
[   14.103437]
[   14.103497] page 00000000d3c5df9d pfn 0x7ade pages 1 refcount 1 mapcount 0
[   14.106954] flags 0x0(zone=0)
[   14.107068] report 7 at 14.036283 on CPU 0 in task, task insmod pid 90
[   14.107290] story:
[   14.107808]  +0.000 ms clear on CPU 0 in task, task insmod pid 90, by do_one_initcall+0x12c/0x280
[   14.108236]  +0.023 ms freed on CPU 0 in task, task insmod pid 90
[   14.108547]       free_unref_page+0xa7/0x4d0
[   14.108795]       _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init+0x52b/0x890 [wakewatch_events]
[   14.108969]       do_one_initcall+0x12c/0x280
[   14.111219]       do_init_module+0x67/0x300
[   14.111342]       __x64_sys_finit_module+0x2ea/0x3b0
[   14.111586]  +0.134 ms allocated on CPU 0 in task, task insmod pid 90
[   14.111864]       __alloc_pages_noprof+0x1a0/0x260
[   14.115237]       _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init+0x5c1/0x890 [wakewatch_events]
[   14.115487]       do_one_initcall+0x12c/0x280
[   14.115710]       do_init_module+0x67/0x300
[   14.116038]       __x64_sys_finit_module+0x2ea/0x3b0
[   14.116364]  +0.576 ms wake on CPU 0 in task, task insmod pid 90
[   14.116526] stack:
[   14.116584]  folio_wake_bit+0x5/0xb0
[   14.116652]  _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init+0x7b9/0x890 [wakewatch_events]
[   14.116811]  do_one_initcall+0x12c/0x280
[   14.116877]  do_init_module+0x67/0x300
[   14.116942]  __x64_sys_finit_module+0x2ea/0x3b0
[   14.117026]  do_syscall_64+0x46/0xb0
[   14.117091]  entry_SYSCALL_64_after_hwframe+0x4b/0x53
[   14.117576] wakewatch: story verdict=reused pfn=0x7ade refcount=1 at_ns=14036283666 cpu=0 pid=90 bit=PG_writeback clear_ns=14035707160 caller=do_one_initcall+0x12c/0x280 freed=23604 freed_cpu=0 freed_pid=90 allocated=134543 allocated_cpu=0 allocated_pid=90 wake=576506 victims=0
[   14.117964] ==================================================================
";

/// The same, decoded.
pub const MODULE_DECODED: &str = "\
[   14.102945] ==================================================================
[   14.103218] BUG: wakewatch: reused wake of PG_writeback in _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init [wakewatch_events]
[   14.103437]
[   14.103497] page 00000000d3c5df9d pfn 0x7ade pages 1 refcount 1 mapcount 0
[   14.106954] flags 0x0(zone=0)
[   14.107068] report 7 at 14.036283 on CPU 0 in task, task insmod pid 90
[   14.107290] story:
[   14.107808]  +0.000 ms clear on CPU 0 in task, task insmod pid 90, by do_one_initcall+0x12c/0x280 (init/main.c:1240)
[   14.108236]  +0.023 ms freed on CPU 0 in task, task insmod pid 90
[   14.108547]       free_unref_page+0xa7/0x4d0 (include/trace/events/kmem.h:136 mm/page_alloc.c:1097 mm/page_alloc.c:2737)
[   14.108795]       _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init+0x52b/0x890 [wakewatch_events]
[   14.108969]       do_one_initcall+0x12c/0x280 (init/main.c:1240)
[   14.111219]       do_init_module+0x67/0x300 (kernel/module/main.c:2752)
[   14.111342]       __x64_sys_finit_module+0x2ea/0x3b0 (kernel/module/main.c:3410 kernel/module/main.c:3422 kernel/module/main.c:3449 kernel/module/main.c:3432 kernel/module/main.c:3432)
[   14.111586]  +0.134 ms allocated on CPU 0 in task, task insmod pid 90
[   14.111864]       __alloc_pages_noprof+0x1a0/0x260 (include/trace/events/kmem.h:177 mm/page_alloc.c:4878)
[   14.115237]       _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init+0x5c1/0x890 [wakewatch_events]
[   14.115487]       do_one_initcall+0x12c/0x280 (init/main.c:1240)
[   14.115710]       do_init_module+0x67/0x300 (kernel/module/main.c:2752)
[   14.116038]       __x64_sys_finit_module+0x2ea/0x3b0 (kernel/module/main.c:3410 kernel/module/main.c:3422 kernel/module/main.c:3449 kernel/module/main.c:3432 kernel/module/main.c:3432)
[   14.116364]  +0.576 ms wake on CPU 0 in task, task insmod pid 90
[   14.116526] stack:
[   14.116584]  folio_wake_bit+0x5/0xb0 (mm/filemap.c:1159)
[   14.116652]  _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init+0x7b9/0x890 [wakewatch_events]
[   14.116811]  do_one_initcall+0x12c/0x280 (init/main.c:1240)
[   14.116877]  do_init_module+0x67/0x300 (kernel/module/main.c:2752)
[   14.116942]  __x64_sys_finit_module+0x2ea/0x3b0 (kernel/module/main.c:3410 kernel/module/main.c:3422 kernel/module/main.c:3449 kernel/module/main.c:3432 kernel/module/main.c:3432)
[   14.117026]  do_syscall_64+0x46/0xb0 (arch/x86/entry/common.c:47 arch/x86/entry/common.c:78)
[   14.117091]  entry_SYSCALL_64_after_hwframe+0x4b/0x53 (arch/x86/entry/entry_64.S:121)
[   14.117576] wakewatch: story verdict=reused pfn=0x7ade refcount=1 at_ns=14036283666 cpu=0 pid=90 bit=PG_writeback clear_ns=14035707160 caller=do_one_initcall+0x12c/0x280 (init/main.c:1240) freed=23604 freed_cpu=0 freed_pid=90 allocated=134543 allocated_cpu=0 allocated_pid=90 wake=576506 victims=0
[   14.117964] ==================================================================
";

/// As well: a verdict that is not about a window.
pub const UNBALANCED: &str = "\
[   14.075207] ==================================================================
[   14.075503] BUG: wakewatch: unbalanced end of writeback in _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init [wakewatch_events]
[   14.076077]
[   14.076125] page 00000000d3c5df9d pfn 0x7ade pages 1 refcount 1 mapcount 0
[   14.076269] flags 0x0(zone=0)
[   14.076455] references 1: cache 0, mappings 0, private 0, spare 1
[   14.076593] report 3 at 14.028949 on CPU 0 in task, task insmod pid 90
[   14.076813] stack:
[   14.077328]  __folio_end_writeback+0x9/0x330
[   14.077452]  _RNvXCs5o5QbIblVmN_11events_mainNtB2_6EventsNtCsb5MLIFMWygY_6kernel6Module4init+0x456/0x890 [wakewatch_events]
[   14.077622]  do_one_initcall+0x12c/0x280
[   14.077692]  do_init_module+0x67/0x300
[   14.078070]  __x64_sys_finit_module+0x2ea/0x3b0
[   14.078550]  do_syscall_64+0x46/0xb0
[   14.078758]  entry_SYSCALL_64_after_hwframe+0x4b/0x53
[   14.079029] wakewatch: story verdict=unbalanced pfn=0x7ade refcount=1 at_ns=14028949585 cpu=0 pid=90 victims=0
[   14.079182] ==================================================================
";

/// Times of that story, in ms since its clear.
pub struct Times {
    pub freed: f64,
    pub allocated: f64,
    pub started: f64,
    pub wake: f64,
}

pub fn times() -> Times {
    Times {
        freed: 2.637,
        allocated: 3.250,
        started: 14.598,
        wake: 110.074,
    }
}

/// What would be a script or a picture, if a page had it as it stands.
pub const HOSTILE: &str = "\
[    9.000001] <script>document.title = 'taken'</script>
[    9.000002] <img src=x onerror=\"document.title = 'taken'\"> &lt; </div>\u{1b}[31m";

/// A folder that goes with the value.
pub struct Folder {
    top: PathBuf,
    run: PathBuf,
}

impl Folder {
    pub fn new(name: &str) -> Self {
        let top = std::env::temp_dir().join(format!("lab-page-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        fs::create_dir_all(&top).unwrap();
        Self {
            run: top.clone(),
            top,
        }
    }

    /// Of a run with one guest, which has reported a story and said what a page must not run.
    pub fn of_run(name: &str) -> Self {
        let mut folder = Self::new(name);
        folder.run = folder.top.join("20201124-171419-boot");
        folder.guest(
            "broken-order0",
            "panic",
            &format!("{ORDER0}{HOSTILE}\n"),
            "ok 1 <script>a</script>\n",
        );
        folder
    }

    pub fn path(&self) -> &Path {
        &self.run
    }

    /// One more guest of the run.
    pub fn guest(&self, name: &str, outcome: &str, console: &str, ktap: &str) {
        let dir = self.run.join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            dir.join("console.log"),
            format!("[    0.000000] Linux version 6.12.117 (x)\n# ww-lab: start\n{ktap}{console}"),
        )
        .unwrap();
        for file in ["script.log", "ktap"] {
            fs::write(dir.join(file), ktap).unwrap();
        }
        fs::write(dir.join("order0.windows"), WINDOWS).unwrap();
        let record = json!({
            "kernel": "broken", "build": "broken-0123", "release": "6.12.117", "scenario": name, "outcome": outcome, "why": "so",
            "tests": {"passed": 1, "failed": 0, "skipped": 0}, "exit_status": null, "verdicts": {"reused": 1}, "stats": {},
            "kernel_said": null, "kernel_said_at": null, "accel": "tcg", "qemu": "10.0.2", "memory": "2G", "append": [],
            "live": [], "retries": [], "seconds": 1.0, "files": {}
        });
        fs::write(dir.join("result.json"), record.to_string()).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

const WINDOWS: &str = "\
site=end_writeback caller=ext4_finish_bio+0x19b/0x290 n=9 16:7 18:2
table open=3 freed=0 room=1024
";
