// SPDX-License-Identifier: GPL-2.0

//! A finding, from the handler that makes it to the line that is read.
//!
//! The handler fills a [`Record`] in the ring and raises an irq_work, which is safe in any
//! context; that schedules a work item, which prints. If the kernel panics before that (on a
//! broken kernel the next instruction may be a `BUG`), a panic notifier prints what is left.

use crate::{
    bindings, compat,
    detect::{
        amplify::PageId,
        limit::Limiter,
        verdict::{Holders, Verdict},
    },
    page::Page,
    ring::{Ring, Slot},
    stats::{Counter, Stats},
    text::{Console, Line, Sink},
};
use core::{ffi::c_void, marker::PhantomPinned, mem::MaybeUninit};
use kernel::{c_str, error::to_result, prelude::*, sync::Arc, types::Opaque};

/// How many reports are kept to be read again.
pub(crate) const KEPT: usize = 64;
/// Stack entries of a report. About ten of them are the probe's own and are not printed.
const DEPTH: usize = 32;
/// How far from a function's entry the instruction pointer of a probe may be (an `endbr64` and a
/// call to ftrace come first).
const ENTRY_BYTES: usize = 32;

/// Where a finding was made.
#[derive(Clone, Copy)]
pub(crate) enum Site {
    /// The entry of `__folio_end_writeback()`.
    EndOfWriteback,
    /// The return of `__folio_end_writeback()`.
    AfterClear,
    /// The entry of `folio_wake_bit()`, for this bit of the page flags.
    Wake(u32),
}

/// A finding, with the facts as they were.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    verdict: Verdict,
    site: Site,
    page: Page,
    flags: usize,
    holders: Holders,
    id: Option<PageId>,
    when_ns: u64,
    cpu: u32,
    context: u32,
    pid: i32,
    comm: [u8; 16],
    probe_ip: usize,
    depth: u32,
    stack: [usize; DEPTH],
}

/// Takes findings, prints them, keeps the last ones.
#[pin_data]
pub(crate) struct Reporter {
    ring: Ring<Record, KVec<Slot<Record>>>,
    limits: [Limiter; Verdict::COUNT],
    stats: Arc<Stats>,
    raise: Opaque<bindings::irq_work>,
    print: Opaque<bindings::work_struct>,
    on_panic: Opaque<bindings::notifier_block>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The kernel's objects in it may be used from any thread, the rest is `Send`.
unsafe impl Send for Reporter {}
// SAFETY: As above; the kernel's objects are only used through its own functions.
unsafe impl Sync for Reporter {}

/// A reporter at work. When this is dropped, no function of its runs any more and everything it
/// was told has been printed. Drop it after whatever calls [`Reporter::report`]. May sleep.
pub(crate) struct Running(Arc<Reporter>);

impl Reporter {
    /// Starts a reporter that prints up to `limit` reports of each verdict per second.
    pub(crate) fn start(stats: Arc<Stats>, limit: u32) -> Result<(Arc<Self>, Running)> {
        let mut slots = KVec::with_capacity(KEPT, GFP_KERNEL)?;
        for _ in 0..KEPT {
            // SAFETY: All-zero bytes are a `Record`: integers, and enums with a first variant.
            let empty = unsafe { MaybeUninit::<Record>::zeroed().assume_init() };
            slots.push(Slot::new(empty), GFP_KERNEL)?;
        }
        let this = Arc::new(
            Self {
                ring: Ring::new(slots),
                limits: [const { Limiter::new(0) }; Verdict::COUNT].map(|_| Limiter::new(limit)),
                stats,
                raise: Opaque::uninit(),
                print: Opaque::uninit(),
                on_panic: Opaque::new(bindings::notifier_block {
                    notifier_call: Some(Self::panic_trampoline),
                    // SAFETY: All-zero is what a C initialiser leaves in the other fields.
                    ..unsafe { core::mem::zeroed() }
                }),
                _pin: PhantomPinned,
            },
            GFP_KERNEL,
        )?;
        // SAFETY: Both are in an `Arc`, which does not move them, and are initialised before use.
        unsafe {
            bindings::ww_init_irq_work(this.raise.get(), Some(Self::raise_trampoline));
            bindings::ww_init_work(this.print.get(), Some(Self::print_trampoline));
        }
        // SAFETY: `on_panic` stays where it is until `Running` unregisters it.
        to_result(unsafe {
            bindings::atomic_notifier_chain_register(
                core::ptr::addr_of_mut!(bindings::panic_notifier_list),
                this.on_panic.get(),
            )
        })?;
        Ok((this.clone(), Running(this)))
    }

    /// Takes a finding. For probe handlers: any context, preemption disabled; doesn't wait.
    ///
    /// `probe_ip` is the instruction pointer of the probe: the stack is shown from there.
    #[cold]
    pub(crate) fn report(&self, verdict: Verdict, site: Site, page: Page, probe_ip: usize) {
        self.stats.count(verdict.into());
        // SAFETY: Reads a clock. Any context.
        let when_ns = unsafe { bindings::ww_local_clock() };
        // `get` and not an index: nothing in a handler may even seem to panic.
        let limit = self.limits.get(verdict as usize);
        if !limit.is_some_and(|limit| limit.pass(when_ns)) {
            self.stats.count(Counter::ReportsSuppressed);
            return;
        }
        let written = self.ring.push(|record| {
            // SAFETY: There is always a current task, which stays while it runs.
            let (pid, comm) = unsafe {
                let task = bindings::get_current();
                ((*task).pid, (*task).comm)
            };
            *record = Record {
                verdict,
                site,
                page,
                flags: page.flags(),
                holders: match verdict {
                    // A tail page's words are the head's business.
                    Verdict::Tail => Holders::default(),
                    _ => page.holders(),
                },
                id: match verdict {
                    Verdict::Tail | Verdict::ZeroRef => None,
                    _ => page.id(),
                },
                when_ns,
                // SAFETY: Reads a per-CPU variable.
                cpu: unsafe { bindings::ww_smp_processor_id() },
                // SAFETY: As above.
                context: unsafe { bindings::ww_context() },
                pid,
                comm: comm.map(compat::byte),
                probe_ip,
                depth: 0,
                stack: [0; DEPTH],
            };
            // SAFETY: `stack` has room for that many. Any context (kernel/stacktrace.c, 6.12).
            record.depth = unsafe {
                bindings::stack_trace_save(record.stack.as_mut_ptr().cast(), DEPTH as u32, 0)
            };
        });
        if written {
            // SAFETY: Initialised by `start`. Any context.
            unsafe { bindings::irq_work_queue(self.raise.get()) };
        } else {
            self.stats.count(Counter::ReportsDropped);
        }
    }

    /// Shows the reports that are kept. May sleep.
    pub(crate) fn read(&self, sink: &mut dyn Sink) {
        self.ring.read(|number, record| record.show(number, sink));
        // What was being read here could not be printed meanwhile.
        // SAFETY: Initialised by `start`.
        unsafe { bindings::irq_work_queue(self.raise.get()) };
    }

    fn print(&self) {
        self.ring
            .print(|number, record| record.show(number, &mut Console));
    }

    /// # Safety
    ///
    /// Called by the kernel only, with the `raise` of a `Reporter`; in hardirq context.
    unsafe extern "C" fn raise_trampoline(work: *mut bindings::irq_work) {
        // SAFETY: `Running` lives until no irq_work of its reporter runs.
        let this = unsafe { &*kernel::container_of!(work, Self, raise) };
        // SAFETY: Initialised by `start`. Hardirq context is fine.
        unsafe { bindings::ww_schedule_work(this.print.get()) };
    }

    /// # Safety
    ///
    /// Called by the kernel only, with the `print` of a `Reporter`; in a kworker.
    unsafe extern "C" fn print_trampoline(work: *mut bindings::work_struct) {
        // SAFETY: `Running` lives until no work of its reporter runs.
        unsafe { &*kernel::container_of!(work, Self, print) }.print();
    }

    /// # Safety
    ///
    /// Called by the kernel only, with the `on_panic` of a `Reporter`; in a panic, where only this
    /// CPU runs.
    unsafe extern "C" fn panic_trampoline(
        block: *mut bindings::notifier_block,
        _action: kernel::ffi::c_ulong,
        _data: *mut kernel::ffi::c_void,
    ) -> kernel::ffi::c_int {
        // SAFETY: `Running` lives until the notifier is unregistered.
        unsafe { &*kernel::container_of!(block, Self, on_panic) }
            .ring
            .print_last(|number, record| record.show(number, &mut Console));
        0 // NOTIFY_DONE
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: All three were set up by `start`. In this order nothing can queue anew what has
        // been waited for: nobody reports any more, so no irq_work comes, so no work.
        unsafe {
            bindings::atomic_notifier_chain_unregister(
                core::ptr::addr_of_mut!(bindings::panic_notifier_list),
                self.0.on_panic.get(),
            );
            bindings::irq_work_sync(self.0.raise.get());
            bindings::cancel_work_sync(self.0.print.get());
        }
        self.0.print();
    }
}

impl Record {
    /// The report. The form is documented in README.md; tests read it.
    fn show(&self, number: u64, sink: &mut dyn Sink) {
        let rule = "==================================================================";
        let line = &mut Line::new();
        line.put(format_args!("{rule}"));
        line.end(sink);
        self.put_headline(line);
        line.end(sink);
        line.end(sink);

        line.put(format_args!("page "));
        // SAFETY: Printed hashed.
        unsafe { line.put_pointer(c_str!("%p"), self.page.addr() as *const c_void) };
        line.put(format_args!(
            " pfn {:#x} pages {} refcount {} mapcount {}",
            self.page.pfn(),
            self.id
                .map_or(1, |id| id.pages)
                .max(self.holders.cache as u64),
            self.holders.refcount,
            self.holders.mapcount
        ));
        line.end(sink);
        let flags = self.flags as kernel::ffi::c_ulong;
        line.put(format_args!("flags "));
        // SAFETY: `%pGp` takes the address of an `unsigned long`.
        unsafe { line.put_pointer(c_str!("%pGp"), core::ptr::addr_of!(flags).cast()) };
        line.end(sink);
        if let Verdict::Unreferenced | Verdict::NotWriteback = self.verdict {
            line.put(format_args!(
                "references {}: cache {}, mappings {}, private {}, spare {}",
                self.holders.refcount,
                self.holders.cache,
                self.holders.mapcount,
                u32::from(self.holders.private),
                self.holders.spare()
            ));
            line.end(sink);
        }
        if let Some(id) = self.id {
            line.put(format_args!(
                "file dev {}:{} ino {} index {}",
                id.dev >> 20,
                id.dev & 0xf_ffff,
                id.ino,
                id.index
            ));
            line.end(sink);
        }
        let comm = self.comm.split(|&c| c == 0).next().unwrap_or_default();
        line.put(format_args!(
            "report {} at {}.{:06} on CPU {} in {}, task {} pid {}",
            number,
            self.when_ns / 1_000_000_000,
            self.when_ns / 1_000 % 1_000_000,
            self.cpu,
            match self.context {
                bindings::WW_CONTEXT_TASK => "task",
                bindings::WW_CONTEXT_SOFTIRQ => "softirq",
                bindings::WW_CONTEXT_HARDIRQ => "hardirq",
                _ => "nmi",
            },
            core::str::from_utf8(comm).unwrap_or("?"),
            self.pid
        ));
        line.end(sink);
        line.put(format_args!("stack:"));
        line.end(sink);
        for &addr in self.callers() {
            line.put(format_args!(" "));
            // SAFETY: Printed as a symbol.
            unsafe { line.put_pointer(c_str!("%pS"), addr as *const c_void) };
            line.end(sink);
        }
        line.put(format_args!("{rule}"));
        line.end(sink);
    }

    /// `BUG: wakewatch: tail wake of PG_writeback in ext4_finish_bio`.
    fn put_headline(&self, line: &mut Line) {
        // First, because the line serves to look at names.
        let blamed = self.blamed(line);
        line.put(format_args!("BUG: wakewatch: {} ", self.verdict.name()));
        match self.site {
            Site::EndOfWriteback => line.put(format_args!("end of writeback")),
            Site::AfterClear => line.put(format_args!("wake of PG_writeback")),
            Site::Wake(bit) => match bit {
                bindings::pageflags_PG_locked => line.put(format_args!("wake of PG_locked")),
                bindings::pageflags_PG_writeback => line.put(format_args!("wake of PG_writeback")),
                bindings::pageflags_PG_private_2 => line.put(format_args!("wake of PG_private_2")),
                bit => line.put(format_args!("wake of flag {bit}")),
            },
        }
        line.put(format_args!(" in "));
        // SAFETY: Printed as a symbol.
        unsafe { line.put_pointer(c_str!("%ps"), blamed as *const c_void) };
    }

    /// The stack without the probe's own part.
    fn callers(&self) -> &[usize] {
        let stack = &self.stack[..self.depth as usize];
        let first = stack
            .iter()
            .position(|addr| addr.wrapping_sub(self.probe_ip) < ENTRY_BYTES)
            .unwrap_or(0);
        &stack[first..]
    }

    /// The first caller that is not itself a part of ending writeback or of waking. Leaves
    /// `scratch` empty.
    fn blamed(&self, scratch: &mut Line) -> usize {
        const PLUMBING: [&[u8]; 8] = [
            b"__folio_end_writeback",
            b"folio_end_writeback",
            b"folio_end_writeback_no_dropbehind",
            b"folio_wake_bit",
            b"folio_unlock",
            b"folio_end_read",
            b"folio_end_private_2",
            b"unlock_page",
        ];
        let callers = self.callers();
        for &addr in callers {
            scratch.clear();
            // SAFETY: Printed as a symbol.
            unsafe { scratch.put_pointer(c_str!("%ps"), addr as *const c_void) };
            let plumbing = PLUMBING.contains(&scratch.as_bytes());
            scratch.clear();
            if !plumbing {
                return addr;
            }
        }
        callers.first().copied().unwrap_or(0)
    }
}
