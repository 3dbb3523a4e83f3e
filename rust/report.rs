// SPDX-License-Identifier: GPL-2.0

//! A finding, from the handler that makes it to the line that is read.
//!
//! The handler fills a [`Record`] in the ring and raises an irq_work, which is safe in any
//! context; that schedules a work item, which prints a moment later, when it is known who was woken.
//! If the kernel panics before that (on a broken kernel the next instruction may be a `BUG`), a
//! panic notifier prints what is left. How a finding is told is [`crate::story`]'s.

use crate::{
    bindings, compat,
    detect::{
        amplify::PageId,
        config::Config,
        holders::Holders,
        limit::Limiter,
        verdict::{Owner, Verdict},
        window::Window,
    },
    page::Page,
    percpu,
    ring::{Ring, Slot},
    stats::{Counter, Stats},
    text::{Console, Sink},
    windows,
};
use core::{
    marker::PhantomPinned,
    mem::MaybeUninit,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};
use kernel::{c_str, error::to_result, prelude::*, sync::Arc, types::Opaque};

/// How many reports are kept to be read again.
pub(crate) const KEPT: usize = 64;
/// Stack entries of a report. About ten of them are the probe's own and are not printed.
const DEPTH: usize = 32;
/// Woken tasks that a report has room for.
const VICTIMS: usize = 4;
/// How long a report waits for its victims before it is printed, in milliseconds. The wake goes on
/// right after the finding, and takes microseconds.
const PRINT_AFTER_MS: u32 = 20;

/// Where a finding was made. The representation is for debuggers, which read the discriminant.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Site {
    /// The entry of `__folio_end_writeback()`.
    EndOfWriteback,
    /// The return of `__folio_end_writeback()`.
    AfterClear,
    /// The entry of `folio_wake_bit()`, or of `__wake_up_locked_key()`, for this bit of the page flags.
    Wake(u32),
    /// The entry of `__folio_start_writeback()`.
    Start,
    /// The entry of a function that clears this bit of the page flags, and wakes.
    End(u32),
}

/// What is said once, and is no finding.
#[derive(Clone, Copy)]
pub(crate) enum Told {
    /// Wakes come past `folio_wake_bit()`.
    Past,
    /// Waiters come between the clear and the look for them.
    LateWaiters,
}

impl Told {
    const ALL: [(Told, &'static str); 2] = [
        (Told::Past, "some wakes don't come by folio_wake_bit(), which a compiler has made a part of its callers: they are looked at in __wake_up_locked_key(), and can't be delayed before"),
        (Told::LateWaiters, "a wake for writeback had no window, most likely because its waiter had come after the end had begun: from now on windows are opened where nobody waits, too (always=1 does so from the start)"),
    ];
}

const TO_BE_TOLD: u32 = 1;
const TOLD: u32 = 2;

/// A task that a leaked wake has woken.
#[derive(Clone, Copy, Default)]
pub(crate) struct Victim {
    pub(crate) pid: i32,
    pub(crate) comm: [u8; 16],
    /// The bit that it waited for, in the page flags.
    pub(crate) flag: u32,
}

/// An `Option` made of plain fields: hardly a debugger understands how DWARF describes the other.
#[derive(Clone, Copy, Default)]
pub(crate) struct Maybe<T> {
    there: bool,
    value: T,
}

impl<T: Copy> Maybe<T> {
    pub(crate) fn get(&self) -> Option<T> {
        self.there.then_some(self.value)
    }
}

impl<T: Default> From<Option<T>> for Maybe<T> {
    fn from(option: Option<T>) -> Self {
        Self {
            there: option.is_some(),
            value: option.unwrap_or_default(),
        }
    }
}

/// The words that a verdict was made of.
#[derive(Clone, Copy, Default)]
pub(crate) struct Judged {
    /// `page->flags`.
    pub(crate) flags: usize,
    /// `page->_refcount`, where it was looked at.
    pub(crate) refcount: Maybe<i32>,
    /// The refcount is 0, and flags are left that a free page doesn't have.
    pub(crate) flags_left: bool,
    /// Who was known to hold the page, where that was looked at.
    pub(crate) holders: Maybe<Holders>,
}

impl Judged {
    /// By its flags alone.
    pub(crate) fn flags(flags: usize) -> Self {
        Self {
            flags,
            ..Self::default()
        }
    }
}

impl From<Owner> for Judged {
    fn from(owner: Owner) -> Self {
        Self {
            flags: owner.flags,
            refcount: Some(owner.refcount).into(),
            flags_left: owner.flags_left,
            ..Self::default()
        }
    }
}

impl From<Holders> for Judged {
    fn from(holders: Holders) -> Self {
        Self {
            flags: holders.flags,
            refcount: Some(holders.refcount).into(),
            flags_left: false,
            holders: Some(holders).into(),
        }
    }
}

/// A finding, with the facts as they were.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) verdict: Verdict,
    pub(crate) site: Site,
    pub(crate) page: Page,
    pub(crate) pfn: usize,
    /// What was judged.
    pub(crate) judged: Judged,
    /// The page when the report was written, a moment later. Nobody need hold it: it may be another's.
    pub(crate) holders: Holders,
    pub(crate) id: Maybe<PageId>,
    pub(crate) when_ns: u64,
    pub(crate) cpu: u32,
    pub(crate) context: u32,
    pub(crate) pid: i32,
    pub(crate) comm: [u8; 16],
    /// The instruction pointer of the probe: the stack is shown from there.
    pub(crate) probe_ip: usize,
    pub(crate) depth: u32,
    pub(crate) stack: [usize; DEPTH],
    /// The window of a wake, if it is known.
    pub(crate) window: Maybe<Window>,
    /// Woken tasks, of which [`VICTIMS`] are told.
    pub(crate) victims: u32,
    pub(crate) victim: [Maybe<Victim>; VICTIMS],
}

/// Takes findings, prints them, keeps the last ones.
#[pin_data]
pub(crate) struct Reporter {
    ring: Ring<Record, KVec<Slot<Record>>>,
    limits: [Limiter; Verdict::COUNT],
    stats: Arc<Stats>,
    panic_on_report: AtomicBool,
    /// By [`Told`]: 0, [`TO_BE_TOLD`], [`TOLD`].
    told: [AtomicU32; Told::ALL.len()],
    raise: Opaque<bindings::irq_work>,
    print: Opaque<bindings::delayed_work>,
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
    /// Starts a reporter.
    pub(crate) fn start(stats: Arc<Stats>, config: &Config) -> Result<(Arc<Self>, Running)> {
        let limit = config.report_limit;
        let mut slots = KVec::with_capacity(KEPT, GFP_KERNEL)?;
        for _ in 0..KEPT {
            // SAFETY: All-zero bytes are valid for every field: integers, bools, a raw pointer, and enums whose first
            // variant is 0. The null `Page` is never looked at: the slot is empty.
            let empty = unsafe { MaybeUninit::<Record>::zeroed().assume_init() };
            slots.push(Slot::new(empty), GFP_KERNEL)?;
        }
        let this = Arc::new(
            Self {
                ring: Ring::new(slots),
                limits: [const { Limiter::new(0) }; Verdict::COUNT].map(|_| Limiter::new(limit)),
                stats,
                panic_on_report: AtomicBool::new(config.panic_on_report),
                told: [const { AtomicU32::new(0) }; Told::ALL.len()],
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
            bindings::ww_init_delayed_work(this.print.get(), Some(Self::print_trampoline));
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

    /// Takes over what `config` says about reports.
    pub(crate) fn configure(&self, config: &Config) {
        for limit in &self.limits {
            limit.set(config.report_limit);
        }
        self.panic_on_report.store(config.panic_on_report, Relaxed);
    }

    /// Takes a finding. For probe handlers: any context, preemption disabled; doesn't wait.
    ///
    /// `probe_ip` is the instruction pointer of the probe: the stack is shown from there.
    #[cold]
    pub(crate) fn report(
        &self,
        verdict: Verdict,
        site: Site,
        page: Page,
        judged: Judged,
        probe_ip: usize,
    ) {
        self.report_leak(verdict, site, page, judged, probe_ip, None);
    }

    /// As [`Self::report`], for a wake or a delay, whose window is `window`. Its number, for
    /// [`Self::add_victim`], if it was written.
    #[cold]
    pub(crate) fn report_leak(
        &self,
        verdict: Verdict,
        site: Site,
        page: Page,
        judged: Judged,
        probe_ip: usize,
        window: Option<&Window>,
    ) -> Option<u64> {
        self.stats.count(verdict.into());
        let when_ns = windows::now();
        // `get` and not an index: nothing in a handler may even seem to panic.
        let limit = self.limits.get(verdict as usize);
        if !limit.is_some_and(|limit| limit.pass(when_ns)) {
            self.stats.count(Counter::ReportsSuppressed);
            return None;
        }
        let number = self.ring.push(|record| {
            // SAFETY: There is always a current task, which stays while it runs. `comm` may be written meanwhile:
            // any bytes are a value.
            let (pid, comm) = unsafe {
                let task = percpu::current();
                ((*task).pid, (*task).comm)
            };
            *record = Record {
                verdict,
                site,
                page,
                pfn: page.pfn(),
                judged,
                holders: match verdict {
                    // A tail page's words are the head's business.
                    Verdict::Tail => Holders {
                        refcount: page.refcount(),
                        flags: page.flags(),
                        pages: 1,
                        ..Holders::default()
                    },
                    _ => page.holders(),
                },
                id: match verdict {
                    Verdict::Tail | Verdict::ZeroRef => None,
                    _ => page.id(),
                }
                .into(),
                when_ns,
                cpu: percpu::cpu(),
                // SAFETY: Reads the CPU's state.
                context: unsafe { bindings::ww_context() },
                pid,
                comm: comm.map(compat::byte),
                probe_ip,
                depth: 0,
                stack: [0; DEPTH],
                window: window.copied().into(),
                victims: 0,
                victim: [Maybe::default(); VICTIMS],
            };
            // SAFETY: `stack` has room for that many. Any context (kernel/stacktrace.c, 6.12).
            record.depth = unsafe {
                bindings::stack_trace_save(record.stack.as_mut_ptr().cast(), DEPTH as u32, 0)
            };
        });
        if number.is_some() {
            // SAFETY: Initialised by `start`. Any context.
            unsafe { bindings::irq_work_queue(self.raise.get()) };
        } else {
            self.stats.count(Counter::ReportsDropped);
        }
        number
    }

    /// Adds a task that was woken to report `number`. As [`Self::report`]. `false` if that one can't
    /// take it any more.
    pub(crate) fn add_victim(&self, number: u64, victim: Victim) -> bool {
        let mut told = false;
        let there = self.ring.amend(number, |record| {
            if let Some(place) = record.victim.get_mut(record.victims as usize) {
                *place = Some(victim).into();
                told = true;
            }
            record.victims = record.victims.wrapping_add(1);
        });
        there && told
    }

    /// Forgets the reports that were printed.
    pub(crate) fn forget(&self) {
        self.ring.forget();
    }

    /// Shows the reports that are kept. May sleep.
    pub(crate) fn read(&self, sink: &mut dyn Sink) {
        self.ring.read(|number, record| record.show(number, sink));
        // What was being read here could not be printed meanwhile.
        // SAFETY: Initialised by `start`.
        unsafe { bindings::irq_work_queue(self.raise.get()) };
    }

    /// Says something once. As [`Self::report`].
    #[cold]
    pub(crate) fn tell(&self, what: Told) {
        let told = &self.told[what as usize];
        if told.load(Relaxed) == 0 && told.swap(TO_BE_TOLD, Relaxed) == 0 {
            // SAFETY: Initialised by `start`. Any context.
            unsafe { bindings::irq_work_queue(self.raise.get()) };
        }
    }

    /// Prints what nobody has seen. May sleep.
    fn print(&self) {
        for (what, text) in Told::ALL {
            let told = &self.told[what as usize];
            if told.load(Relaxed) == TO_BE_TOLD {
                told.store(TOLD, Relaxed);
                pr_info!("{}\n", text);
            }
        }
        let mut any = false;
        self.ring.print(|number, record| {
            any = true;
            // Refused in a panic: then it is the panic notifier's to print.
            let mut console = Console::default();
            record.show(number, &mut console);
            console.took_all()
        });
        if !any {
            return;
        }
        // SAFETY: Sets a bit for everybody to see.
        unsafe { bindings::ww_taint() };
        if self.panic_on_report.load(Relaxed) {
            // SAFETY: The format takes nothing. Does not return.
            unsafe {
                bindings::panic(c_str!("wakewatch: panic_on_report is set").as_char_ptr());
            }
        }
    }

    /// # Safety
    ///
    /// Called by the kernel only, with the `raise` of a `Reporter`; in hardirq context.
    unsafe extern "C" fn raise_trampoline(work: *mut bindings::irq_work) {
        // SAFETY: `Running` lives until no irq_work of its reporter runs.
        let this = unsafe { &*kernel::container_of!(compat::opaque(work), Self, raise) };
        // SAFETY: Initialised by `start`. Hardirq context is fine.
        unsafe { bindings::ww_schedule_delayed_work(this.print.get(), PRINT_AFTER_MS) };
    }

    /// # Safety
    ///
    /// Called by the kernel only, with the work of the `print` of a `Reporter`; in a kworker.
    unsafe extern "C" fn print_trampoline(work: *mut bindings::work_struct) {
        // SAFETY: It is the `work` of a `delayed_work`.
        let work = unsafe { kernel::container_of!(work, bindings::delayed_work, work) };
        // SAFETY: `Running` lives until no work of its reporter runs.
        unsafe { &*kernel::container_of!(compat::opaque(work), Self, print) }.print();
    }

    /// # Safety
    ///
    /// Called by the kernel only, with the `on_panic` of a `Reporter`; in a panic, when the other CPUs have
    /// been told to stop. Nearly always they have (`panic_other_cpus_shutdown()`, kernel/panic.c, 6.12).
    unsafe extern "C" fn panic_trampoline(
        block: *mut bindings::notifier_block,
        _action: kernel::ffi::c_ulong,
        _data: *mut kernel::ffi::c_void,
    ) -> kernel::ffi::c_int {
        // SAFETY: `Running` lives until the notifier is unregistered.
        unsafe { &*kernel::container_of!(compat::opaque(block), Self, on_panic) }
            .ring
            .print_last(|number, record| record.show(number, &mut Console::default()));
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
            bindings::cancel_delayed_work_sync(self.0.print.get());
        }
        self.0.print();
    }
}
