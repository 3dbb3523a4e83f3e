// SPDX-License-Identifier: GPL-2.0

//! How a finding is told: a headline, the facts, the story of the page, stacks, and the same in one
//! line for machines. The form is documented in docs/reading-a-report.md; tests read it.

use crate::{
    bindings,
    detect::{
        holders::Holders,
        symbol::is_clone_of,
        verdict::Verdict,
        window::{Event, Mark, Trace, Window},
    },
    report::{Maybe, Record, Site},
    sync::STACK,
    text::{Line, Sink},
};
use core::ffi::c_void;
use kernel::c_str;

/// How far from a function's entry the instruction pointer of a probe may be (an `endbr64` and a
/// call to ftrace come first).
const ENTRY_BYTES: usize = 32;
/// Lines of stack for each event of the story: all of it must fit on a screen.
const STORY_DEPTH: usize = 5;

const RULE: &str = "==================================================================";

/// What happened to the page, as the story calls it and as the line for machines does.
const MARKS: [(Mark, &str, &str); Mark::COUNT] = [
    (Mark::Freed, "freed", "freed"),
    (Mark::Allocated, "allocated", "allocated"),
    (Mark::Started, "writeback started", "started"),
];

impl Record {
    /// Writes the report.
    pub(crate) fn show(&self, number: u64, sink: &mut dyn Sink) {
        let line = &mut Line::new();
        line.put(format_args!("{RULE}"));
        line.end(sink);
        self.put_headline(line);
        line.end(sink);
        line.end(sink);
        self.show_facts(number, line, sink);
        if let Some(window) = &self.window.get() {
            self.show_story(window, line, sink);
        }
        for victim in self.victim.iter().filter_map(Maybe::get) {
            line.put(format_args!(
                "victim task {} pid {} waits for ",
                text(&victim.comm),
                victim.pid
            ));
            put_flag(line, victim.flag);
            line.end(sink);
        }
        if self.victims as usize > self.victim.len() {
            line.put(format_args!("victims {}", self.victims));
            line.end(sink);
        }
        line.put(format_args!("stack:"));
        line.end(sink);
        for &addr in self.callers() {
            put_frame(line, " ", addr, sink);
        }
        self.put_machine(line);
        line.end(sink);
        line.put(format_args!("{RULE}"));
        line.end(sink);
    }

    /// `BUG: wakewatch: tail wake of PG_writeback in ext4_finish_bio`.
    fn put_headline(&self, line: &mut Line) {
        // First, because the line serves to look at names.
        let blamed = self.blamed(line);
        line.put(format_args!("BUG: wakewatch: {} ", self.verdict.name()));
        match self.site {
            Site::EndOfWriteback => line.put(format_args!("end of writeback")),
            Site::Start => line.put(format_args!("start of writeback")),
            Site::AfterClear => line.put(format_args!("wake of PG_writeback")),
            Site::Wake(flag) => {
                line.put(format_args!("wake of "));
                put_flag(line, flag);
            }
            Site::End(flag) => {
                line.put(format_args!("end of "));
                put_flag(line, flag);
            }
        }
        line.put(format_args!(" in "));
        // SAFETY: Printed as a symbol.
        unsafe { line.put_pointer(c_str!("%ps"), blamed as *const c_void) };
    }

    fn show_facts(&self, number: u64, line: &mut Line, sink: &mut dyn Sink) {
        let sum = self.sum();
        line.put(format_args!("page "));
        // SAFETY: Printed hashed.
        unsafe { line.put_pointer(c_str!("%p"), self.page.addr() as *const c_void) };
        line.put(format_args!(
            " pfn {:#x} pages {} refcount {} mapcount {}",
            self.pfn,
            sum.pages,
            self.refcount(),
            sum.mapcount
        ));
        line.end(sink);
        put_flags(line, "flags ", self.judged.flags);
        line.end(sink);
        if let Verdict::Unreferenced | Verdict::Unbalanced = self.verdict {
            put_references(line, &sum);
            line.end(sink);
        }
        self.show_changes(line, sink);
        if let Some(id) = self.id.get() {
            line.put(format_args!(
                "file dev {}:{} ino {} index {}",
                id.dev >> 20,
                id.dev & 0xf_ffff,
                id.ino,
                id.index
            ));
            line.end(sink);
        }
        line.put(format_args!(
            "report {} at {}.{:06} on CPU {} in {}, task {} pid {}",
            number,
            self.when_ns / 1_000_000_000,
            self.when_ns / 1_000 % 1_000_000,
            self.cpu,
            context(self.context),
            text(&self.comm),
            self.pid
        ));
        line.end(sink);
    }

    /// Who was known to hold the page: as it was judged, or, where the verdict is by something else, as
    /// it was a moment later.
    fn sum(&self) -> Holders {
        self.judged.holders.get().unwrap_or(self.holders)
    }

    /// The refcount, likewise.
    fn refcount(&self) -> i32 {
        self.judged.refcount.get().unwrap_or(self.holders.refcount)
    }

    /// What was not the same any more when the report was written.
    fn show_changes(&self, line: &mut Line, sink: &mut dyn Sink) {
        let now = &self.holders;
        if self
            .judged
            .holders
            .get()
            .is_some_and(|judged| judged.spare() != now.spare())
        {
            line.put(format_args!("a moment later "));
            put_references(line, now);
            line.end(sink);
        } else if self.refcount() != now.refcount {
            line.put(format_args!("a moment later refcount {}", now.refcount));
            line.end(sink);
        }
        if self.judged.flags != now.flags {
            put_flags(line, "a moment later flags ", now.flags);
            line.end(sink);
        }
    }

    /// From the clear to the wake, with the time since the clear.
    fn show_story(&self, window: &Window, line: &mut Line, sink: &mut dyn Sink) {
        let from = window.opened.when_ns;
        line.put(format_args!("story:"));
        line.end(sink);
        // Who clears is who wakes, though perhaps from another CPU.
        let who = Event {
            when_ns: self.when_ns,
            pid: self.pid,
            cpu: self.cpu as u16,
            context: self.context as u16,
            comm: self.comm,
            stack: [0; STACK],
        };
        let clear = Event {
            when_ns: from,
            cpu: window.opened.cpu,
            ..who
        };
        put_event(line, &clear, from, "clear");
        line.put(format_args!(", by "));
        // SAFETY: Printed as a symbol.
        unsafe {
            line.put_pointer(
                c_str!("%pS"),
                window.opened.caller as usize as *const c_void,
            )
        };
        line.end(sink);
        for (mark, name, _) in MARKS {
            match window.mark(mark) {
                Trace::None => {}
                Trace::Unknown => {
                    line.put(format_args!(
                        "            {name}, and who did it is not known"
                    ));
                    line.end(sink);
                }
                Trace::Known(event) => {
                    put_event(line, &event, from, name);
                    line.end(sink);
                    show_stack(&event, line, sink);
                }
            }
        }
        if self.is_refused(window) {
            line.put(format_args!(
                "            not given back at the wake: the allocator was still at it, or refuses the page as bad"
            ));
            line.end(sink);
        }
        put_event(line, &who, from, "wake");
        line.end(sink);
    }

    /// Was the page freed, but not taken by the allocator? `mm_page_free` comes first.
    fn is_refused(&self, window: &Window) -> bool {
        self.verdict == Verdict::ZeroRef
            && self.judged.flags_left
            && window.mark(Mark::Freed) != Trace::None
    }

    /// All of it as `key=value`. Times are ns since the clear.
    fn put_machine(&self, line: &mut Line) {
        line.put(format_args!(
            "wakewatch: story verdict={} pfn={:#x} refcount={} at_ns={} cpu={} pid={}",
            self.verdict.name(),
            self.pfn,
            self.refcount(),
            self.when_ns,
            self.cpu,
            self.pid
        ));
        if let Site::Wake(flag) | Site::End(flag) = self.site {
            line.put(format_args!(" bit="));
            put_flag(line, flag);
        }
        let Some(window) = &self.window.get() else {
            line.put(format_args!(" victims={}", self.victims));
            return;
        };
        let from = window.opened.when_ns;
        line.put(format_args!(" clear_ns={from} caller="));
        // SAFETY: Printed as a symbol.
        unsafe {
            line.put_pointer(
                c_str!("%pS"),
                window.opened.caller as usize as *const c_void,
            )
        };
        for (mark, _, key) in MARKS {
            match window.mark(mark) {
                Trace::None => {}
                Trace::Unknown => line.put(format_args!(" {key}=?")),
                Trace::Known(event) => line.put(format_args!(
                    " {key}={} {key}_cpu={} {key}_pid={}",
                    event.when_ns.saturating_sub(from),
                    event.cpu,
                    event.pid
                )),
            }
        }
        line.put(format_args!(
            " wake={} victims={}",
            self.when_ns.saturating_sub(from),
            self.victims
        ));
        for victim in self.victim.iter().filter_map(Maybe::get) {
            line.put(format_args!(" victim_pid={}", victim.pid));
        }
    }

    /// The stack without the probe's own part.
    fn callers(&self) -> &[usize] {
        let stack = self.stack.get(..self.depth as usize).unwrap_or_default();
        let first = stack
            .iter()
            .position(|addr| addr.wrapping_sub(self.probe_ip) < ENTRY_BYTES)
            .unwrap_or(0);
        &stack[first..]
    }

    /// The first caller that is not itself a part of ending writeback or of waking. Leaves
    /// `scratch` empty.
    fn blamed(&self, scratch: &mut Line) -> usize {
        const PLUMBING: [&str; 12] = [
            "__wake_up_locked_key",
            "__folio_end_writeback",
            "__folio_start_writeback",
            "folio_end_writeback",
            "folio_end_writeback_no_dropbehind",
            "folio_wake_bit",
            "folio_unlock",
            "folio_end_read",
            "folio_end_private_2",
            "unlock_page",
            // Of patches/*/read-...
            "folio_unlock_io",
            "folio_clear_locked_and_wake",
        ];
        let callers = self.callers();
        for &addr in callers {
            // SAFETY: Printed as a symbol.
            unsafe { scratch.put_pointer(c_str!("%ps"), addr as *const c_void) };
            let plumbing = PLUMBING
                .iter()
                .any(|name| is_clone_of(scratch.text(), name));
            scratch.clear();
            if !plumbing {
                return addr;
            }
        }
        callers.first().copied().unwrap_or(0)
    }
}

/// ` +12.345 ms freed on CPU 1 in task, task dd pid 99`: when, since the clear, what, and who.
fn put_event(line: &mut Line, event: &Event, from_ns: u64, what: &str) {
    line.put(format_args!(" "));
    put_ms(line, event.when_ns, from_ns);
    line.put(format_args!(
        " {what} on CPU {} in {}, task {} pid {}",
        event.cpu,
        context(event.context.into()),
        text(&event.comm),
        event.pid
    ));
}

/// A time since the clear. What was before it has a minus.
fn put_ms(line: &mut Line, when_ns: u64, from_ns: u64) {
    let us = when_ns.abs_diff(from_ns) / 1000;
    let sign = if when_ns < from_ns { '-' } else { '+' };
    line.put(format_args!("{sign}{}.{:03} ms", us / 1000, us % 1000));
}

/// The stack of an event, from where the kernel calls the tracepoint or probe.
fn show_stack(event: &Event, line: &mut Line, sink: &mut dyn Sink) {
    // Our own handler, and what calls it: a tracepoint's iterator, or ftrace and kprobes.
    let mut own = true;
    let mut shown = 0;
    for addr in event.stack.into_iter().take_while(|&addr| addr != 0) {
        if own {
            // SAFETY: Printed as a symbol.
            unsafe { line.put_pointer(c_str!("%ps"), addr as *const c_void) };
            own = is_plumbing(line.as_bytes());
            line.clear();
            if own {
                continue;
            }
        }
        if shown == STORY_DEPTH {
            break;
        }
        put_frame(line, "      ", addr, sink);
        shown += 1;
    }
}

fn is_plumbing(symbol: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [
        b"kprobe_ftrace_handler",
        b"ftrace_ops_list_func",
        b"arch_ftrace_ops_list_func",
        b"ftrace_regs_call",
        b"ftrace_regs_caller",
    ];
    // Symbols of modules are followed by their module's name.
    symbol.ends_with(b"[wakewatch]")
        || symbol.starts_with(b"__traceiter_")
        || symbol.starts_with(b"0x")
        || NAMES.contains(&symbol)
}

fn put_frame(line: &mut Line, indent: &str, addr: usize, sink: &mut dyn Sink) {
    line.put(format_args!("{indent}"));
    // SAFETY: Printed as a symbol.
    unsafe { line.put_pointer(c_str!("%pS"), addr as *const c_void) };
    line.end(sink);
}

/// Page flags by their names.
fn put_flags(line: &mut Line, what: &str, flags: usize) {
    let flags = flags as kernel::ffi::c_ulong;
    line.put(format_args!("{what}"));
    // SAFETY: `%pGp` takes the address of an `unsigned long`.
    unsafe { line.put_pointer(c_str!("%pGp"), core::ptr::addr_of!(flags).cast()) };
}

/// The refcount, and whose references those are.
fn put_references(line: &mut Line, holders: &Holders) {
    line.put(format_args!(
        "references {}: cache {}, mappings {}, private {}, spare {}",
        holders.refcount,
        holders.cache(),
        holders.mapcount,
        u32::from(holders.private),
        holders.spare()
    ));
}

fn put_flag(line: &mut Line, flag: u32) {
    match flag {
        bindings::pageflags_PG_locked => line.put(format_args!("PG_locked")),
        bindings::pageflags_PG_writeback => line.put(format_args!("PG_writeback")),
        bindings::pageflags_PG_private_2 => line.put(format_args!("PG_private_2")),
        flag => line.put(format_args!("flag {flag}")),
    }
}

fn context(context: u32) -> &'static str {
    match context {
        bindings::WW_CONTEXT_TASK => "task",
        bindings::WW_CONTEXT_SOFTIRQ => "softirq",
        _ => "hardirq",
    }
}

/// A task's name.
fn text(comm: &[u8; 16]) -> &str {
    let comm = comm.split(|&c| c == 0).next().unwrap_or_default();
    core::str::from_utf8(comm).unwrap_or("?")
}
