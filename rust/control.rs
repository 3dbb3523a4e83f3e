// SPDX-License-Identifier: GPL-2.0

//! What is switched on: the probes there are, and whether they are armed.

use crate::{
    amplify::FreeWatch,
    bindings,
    detect::{
        amplify::{Place, Spec},
        callers::Function,
        config::Config,
        switch::{switch_off, switch_on, On, Switch, Wanted},
        symbol::Range,
    },
    hook::{
        entry::{Hook, Registration, Way},
        ftrace, kprobe, return_probe, symbol, tracepoint, Handler,
    },
    probes::{
        hooks, AfterWake, AroundClear, EndOfBit, EndOfPrivate2, EndOfRead, EndOfWriteback,
        PastWake, Shared, Start, Unlock, Victim, Wake,
    },
    stats::Counter,
    text::{Line, Sink},
    windows::{MarkAllocated, MarkFreed},
};
use kernel::{
    c_str,
    ffi::c_ulong,
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};

/// The names of the functions that are probed.
#[derive(Clone, Copy)]
pub(crate) struct Symbols {
    /// `__folio_end_writeback`.
    pub(crate) end: &'static CStr,
    /// `folio_wake_bit`.
    pub(crate) wake: &'static CStr,
}

/// The switches. All methods may sleep.
#[pin_data]
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    #[pin]
    probes: Mutex<Probes>,
}

impl<T: Handler> Switch<Error> for Registration<T> {
    fn is_on(&self) -> bool {
        self.way().is_some()
    }

    fn on(&mut self) -> Result {
        Registration::on(self)
    }

    /// One that is off costs nothing.
    fn off(&mut self) {
        // Nothing is wrong with what it looks at, and the next time it is tried again.
        if let Err(err) = Registration::off(self) {
            pr_err!("a probe stays armed: error {}\n", err.to_errno());
        }
    }
}

/// A hook of a function that this kernel may not have.
struct Optional<T: Handler>(Option<Registration<T>>);

impl<T: Handler> Optional<T> {
    /// Where there is no such function, that has been explained, and the hook is never on.
    ///
    /// # Safety
    ///
    /// As for [`Registration::new`].
    unsafe fn new(
        symbol: &'static CStr,
        hook: &'static Hook<T>,
        first: Way,
        handler: T,
    ) -> Result<Self> {
        // SAFETY: By the safety requirements.
        match unsafe { Registration::new(symbol, hook, first, handler) } {
            Ok(registration) => Ok(Self(Some(registration))),
            Err(err) if err == ENOENT || err == EINVAL => Ok(Self(None)),
            Err(err) => Err(err),
        }
    }
}

impl<T: Handler> Switch<Error> for Optional<T> {
    fn is_on(&self) -> bool {
        Hooked::way(self).is_some()
    }

    fn on(&mut self) -> Result {
        self.0.as_mut().map_or(Ok(()), Registration::on)
    }

    fn off(&mut self) {
        if let Some(registration) = &mut self.0 {
            Switch::off(registration);
        }
    }
}

/// What is to be told of a function's entry, whether this kernel has the function or not.
trait Hooked {
    fn way(&self) -> Option<Way>;
    fn missed(&self) -> u64;
    /// See [`Registration::missed_counter`]; there if the function is.
    fn missed_counter(&self) -> Option<*const c_ulong>;
    fn range(&self) -> Range;
}

impl<T: Handler> Hooked for Registration<T> {
    fn way(&self) -> Option<Way> {
        self.way()
    }

    fn missed(&self) -> u64 {
        self.missed()
    }

    fn missed_counter(&self) -> Option<*const c_ulong> {
        Some(self.missed_counter())
    }

    fn range(&self) -> Range {
        self.range()
    }
}

impl<T: Handler> Hooked for Optional<T> {
    fn way(&self) -> Option<Way> {
        self.0.as_ref().and_then(Registration::way)
    }

    fn missed(&self) -> u64 {
        self.0.as_ref().map_or(0, Registration::missed)
    }

    fn missed_counter(&self) -> Option<*const c_ulong> {
        self.0.as_ref().map(Registration::missed_counter)
    }

    fn range(&self) -> Range {
        self.0
            .as_ref()
            .map_or_else(Range::default, Registration::range)
    }
}

/// That ftrace stays on, while anything is that it calls.
struct Ftrace(Option<ftrace::StaysOn>);

impl Switch<Error> for Ftrace {
    fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn on(&mut self) -> Result {
        // Without it there are kprobes, which are made by int3 then.
        if Way::Ftrace.is_there() {
            self.0 = Some(ftrace::StaysOn::new()?);
        }
        Ok(())
    }

    fn off(&mut self) {
        self.0 = None;
    }
}

/// A return probe that is there only while it is on.
struct Return<T: return_probe::Handler + Clone> {
    symbol: &'static CStr,
    handler: T,
    registration: Option<return_probe::Registration<T>>,
    /// What those that are gone have missed.
    missed: u64,
}

impl<T: return_probe::Handler + Clone> Return<T> {
    fn new(symbol: &'static CStr, handler: T) -> Self {
        Self {
            symbol,
            handler,
            registration: None,
            missed: 0,
        }
    }

    fn missed(&self) -> u64 {
        self.missed
            + self
                .registration
                .as_ref()
                .map_or(0, return_probe::Registration::missed)
    }
}

impl<T: return_probe::Handler + Clone> Switch<Error> for Return<T> {
    fn is_on(&self) -> bool {
        self.registration.is_some()
    }

    fn on(&mut self) -> Result {
        let handler = self.handler.clone();
        self.registration = Some(return_probe::Registration::new(self.symbol, handler)?);
        Ok(())
    }

    fn off(&mut self) {
        self.missed = self.missed();
        self.registration = None;
    }
}

/// A tracepoint's probe that is there only while it is on.
struct Tracepoint<T: tracepoint::Handler + Clone> {
    handler: T,
    registration: Option<tracepoint::Registration<T>>,
}

impl<T: tracepoint::Handler + Clone> Tracepoint<T> {
    fn new(handler: T) -> Self {
        Self {
            handler,
            registration: None,
        }
    }
}

impl<T: tracepoint::Handler + Clone> Switch<Error> for Tracepoint<T> {
    fn is_on(&self) -> bool {
        self.registration.is_some()
    }

    fn on(&mut self) -> Result {
        self.registration = Some(tracepoint::Registration::new(self.handler.clone())?);
        Ok(())
    }

    fn off(&mut self) {
        self.registration = None;
    }
}

/// What is registered. Dropped in this order: who looks at the other probes' counters goes first.
struct Probes {
    victim: Optional<Victim>,
    wake: Optional<Wake>,
    past: Optional<PastWake>,
    start: Optional<Start>,
    end: Registration<EndOfWriteback>,
    end_read: Optional<EndOfRead>,
    private_2: Optional<EndOfPrivate2>,
    unlock: Optional<Unlock>,
    mark_freed: Tracepoint<MarkFreed>,
    mark_allocated: Tracepoint<MarkAllocated>,
    around_clear: Return<AroundClear>,
    after_wake: Return<AfterWake>,
    free_watch: Tracepoint<FreeWatch>,
    /// `folio_wait_table[]`.
    queues: Range,
    /// What is on.
    now: Wanted,
    /// The last to go.
    ftrace: Ftrace,
}

impl Control {
    /// Registers the probes, all of them off. On an error, which is explained in the kernel log,
    /// none stays.
    ///
    /// # Safety
    ///
    /// There may be one at a time, of the whole module.
    pub(crate) unsafe fn new(
        shared: Arc<Shared>,
        symbols: Symbols,
        first: Way,
        config: Config,
    ) -> Result<Arc<Self>> {
        // SAFETY: Here and below, the symbol is of what hook and handler are made for (of `symbols` it has been
        // checked), and there is no other registration of the hook: by the safety requirements.
        let wake =
            unsafe { Optional::new(symbols.wake, &hooks::WAKE, first, Wake(shared.clone()))? };
        let queues = symbol::range(c_str!("folio_wait_table")).unwrap_or_default();
        let past = if queues.size == 0 {
            pr_info!("no symbol folio_wait_table (CONFIG_KALLSYMS_ALL): wakes that come past folio_wake_bit() are not seen\n");
            Optional(None)
        } else {
            // SAFETY: See above.
            unsafe {
                Optional::new(
                    c_str!("__wake_up_locked_key"),
                    &hooks::PAST,
                    first,
                    PastWake {
                        shared: shared.clone(),
                        wake: wake.range(),
                        queues,
                    },
                )
            }?
        };
        if wake.0.is_none() {
            if past.0.is_none() {
                return Err(ENOENT);
            }
            pr_info!("wakes are looked at in __wake_up_locked_key() instead, and can't be delayed before\n");
        }
        let mut probes = Probes {
            // SAFETY: See above.
            end: unsafe {
                Registration::new(
                    symbols.end,
                    &hooks::END_WRITEBACK,
                    first,
                    EndOfWriteback(shared.clone()),
                )
            }?,
            // SAFETY: See above.
            start: unsafe {
                Optional::new(
                    c_str!("__folio_start_writeback"),
                    &hooks::START,
                    first,
                    Start(shared.clone()),
                )
            }?,
            // SAFETY: See above.
            end_read: unsafe {
                Optional::new(
                    c_str!("folio_end_read"),
                    &hooks::END_READ,
                    first,
                    EndOfBit(shared.clone()),
                )
            }?,
            // SAFETY: See above.
            private_2: unsafe {
                Optional::new(
                    c_str!("folio_end_private_2"),
                    &hooks::PRIVATE_2,
                    first,
                    EndOfBit(shared.clone()),
                )
            }?,
            // SAFETY: See above.
            unlock: unsafe {
                Optional::new(
                    c_str!("folio_unlock"),
                    &hooks::UNLOCK,
                    first,
                    EndOfBit(shared.clone()),
                )
            }?,
            // SAFETY: See above.
            victim: unsafe {
                Optional::new(
                    c_str!("wake_page_function"),
                    &hooks::VICTIM,
                    first,
                    Victim(shared.clone()),
                )
            }?,
            mark_freed: Tracepoint::new(MarkFreed(shared.windows.clone())),
            mark_allocated: Tracepoint::new(MarkAllocated(shared.windows.clone())),
            around_clear: Return::new(symbols.end, AroundClear(shared.clone())),
            after_wake: Return::new(
                c_str!("__wake_up_locked_key"),
                AfterWake {
                    shared: shared.clone(),
                    queues,
                },
            ),
            free_watch: Tracepoint::new(FreeWatch(shared.amplify.clone())),
            wake,
            past,
            queues,
            now: Wanted {
                config,
                ..Wanted::default()
            },
            ftrace: Ftrace(None),
        };
        if let Some(range) = probes.victim.0.as_ref().map(Registration::range) {
            if range.size != 0 {
                // SAFETY: There begins what the hook is of, `wake_page_function()`.
                unsafe { shared.victims.ask(range.start)? };
            }
        }
        // What this kernel has no function for is off, and says so.
        for (name, there) in probes.there() {
            if !there {
                probes.now.config.switch_off(name);
            }
        }
        for (function, hook) in probes.openers() {
            shared.knobs.set_range(function, hook.range());
        }
        Arc::pin_init(
            pin_init!(Self {
                shared,
                probes <- new_mutex!(probes),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn detecting(&self) -> bool {
        self.shared.knobs.now().detects()
    }

    /// Switches detection. On an error, explained in the kernel log, all is as before.
    pub(crate) fn detect(&self, on: bool) -> Result {
        let mut probes = self.probes.lock();
        let wanted = Wanted {
            detect: on,
            ..probes.now
        };
        probes.change(&self.shared, wanted)
    }

    pub(crate) fn config(&self) -> Config {
        self.probes.lock().now.config
    }

    /// Changes knobs: `change` makes the new ones out of the old ones.
    ///
    /// # Errors
    ///
    /// Those of `change`, and `ENOENT` for a probe that this kernel has no function for; explained in
    /// the kernel log. Then all is as before.
    pub(crate) fn configure(&self, change: impl FnOnce(Config) -> Result<Config>) -> Result {
        let mut probes = self.probes.lock();
        let config = change(probes.now.config)?;
        probes.check(&config)?;
        let wanted = Wanted {
            config,
            ..probes.now
        };
        probes.change(&self.shared, wanted)
    }

    /// Forgets what was counted and found.
    pub(crate) fn reset(&self) {
        // One at a time, and none while something is switched.
        let _probes = self.probes.lock();
        self.shared.callers.reset(|| self.shared.windows.clear());
        self.shared.stats.reset();
        self.shared.reporter.forget();
    }

    /// The `windows` file: lengths by call site, then what is in the table.
    pub(crate) fn show_windows(&self, sink: &mut dyn Sink) {
        self.shared.callers.show_lengths(sink);
        let (open, freed, room) = self.shared.windows.occupancy();
        sink.line(&Line::of(format_args!(
            "table open={open} freed={freed} room={room}"
        )));
    }

    /// The delay that is asked for.
    pub(crate) fn amplify(&self) -> Option<Spec> {
        self.probes.lock().now.delay
    }

    /// Asks for a delay, or for none. On an error, explained in the kernel log, all is as before.
    pub(crate) fn set_amplify(&self, delay: Option<Spec>) -> Result {
        let mut probes = self.probes.lock();
        let wanted = Wanted {
            delay,
            ..probes.now
        };
        probes.change(&self.shared, wanted)
    }

    /// The `stats` file: a line for each counter, those of the kernel's probes last.
    pub(crate) fn show_stats(&self, sink: &mut dyn Sink) {
        for &(counter, name) in Counter::ALL {
            let value = self.shared.stats.sum(counter);
            sink.line(&Line::of(format_args!("{name}: {value}")));
        }
        sink.line(&Line::of(format_args!(
            "windows_always: {}",
            u32::from(self.shared.knobs.now().always())
        )));
        let probes = self.probes.lock();
        for (name, hook) in probes.entries() {
            let way = hook.way().map_or("off", Way::name);
            sink.line(&Line::of(format_args!("hook_{name}: {way}")));
        }
        for (name, hook) in probes.entries() {
            let missed = hook.missed();
            sink.line(&Line::of(format_args!("missed_{name}: {missed}")));
        }
        let missed = probes.around_clear.missed() + probes.after_wake.missed();
        sink.line(&Line::of(format_args!("missed_return: {missed}")));
        // What comes meanwhile is counted nowhere.
        let by_kprobe = probes
            .entries()
            .iter()
            .any(|(_, hook)| hook.way() == Some(Way::Kprobe));
        let off = by_kprobe && kprobe::are_off().unwrap_or(false);
        sink.line(&Line::of(format_args!("kprobes_off: {}", u32::from(off))));
    }
}

impl Probes {
    /// The knobs that need a function which a kernel may not have, and whether this one has it.
    fn there(&self) -> [(&'static str, bool); 7] {
        let end_read = self.end_read.0.is_some();
        [
            ("end_read", end_read),
            ("audit_read", end_read),
            ("private_2", self.private_2.0.is_some()),
            ("unlock", self.unlock.0.is_some()),
            ("start", self.start.0.is_some()),
            ("victims", self.victim.0.is_some()),
            ("past", self.past.0.is_some()),
        ]
    }

    /// Can what is on in `config` be had on this kernel?
    fn check(&self, config: &Config) -> Result {
        for (name, there) in self.there() {
            if config.value(name) != 0 && !there {
                pr_err!("{}=1: this kernel has no function to probe for it\n", name);
                return Err(ENOENT);
            }
        }
        Ok(())
    }

    /// The functions whose entry is hooked.
    fn entries(&self) -> [(&'static str, &dyn Hooked); 8] {
        [
            ("end_writeback", &self.end),
            ("wake", &self.wake),
            ("past", &self.past),
            ("end_read", &self.end_read),
            ("private_2", &self.private_2),
            ("unlock", &self.unlock),
            ("start", &self.start),
            ("victim", &self.victim),
        ]
    }

    /// Those that open windows.
    fn openers(&self) -> [(Function, &dyn Hooked); 4] {
        [
            (Function::EndWriteback, &self.end),
            (Function::EndRead, &self.end_read),
            (Function::Private2, &self.private_2),
            (Function::Unlock, &self.unlock),
        ]
    }

    /// Has handlers look at the counters of what their hooks miss now.
    fn tell_missed(&self, shared: &Shared) {
        for (function, hook) in self.openers() {
            if let Some(counter) = hook.missed_counter() {
                // SAFETY: It lives as long as the registration, which goes when no handler runs any more.
                unsafe { shared.knobs.set_missed(function, counter) };
            }
        }
    }

    /// All that can be switched, and whether it is to be on.
    fn switches(&mut self, on: &On) -> [(&mut dyn Switch<Error>, bool); 14] {
        [
            (&mut self.ftrace, on.any()),
            (&mut self.end, on.end),
            (&mut self.wake, on.wake),
            (&mut self.past, on.past),
            (&mut self.start, on.start),
            (&mut self.end_read, on.end_read),
            (&mut self.private_2, on.private_2),
            (&mut self.unlock, on.unlock),
            (&mut self.victim, on.victim),
            (&mut self.mark_freed, on.marks),
            (&mut self.mark_allocated, on.marks),
            (&mut self.around_clear, on.around_clear),
            (&mut self.after_wake, on.after_wake),
            (&mut self.free_watch, on.free_watch),
        ]
    }

    /// Makes `wanted` what is on, or, on an error, leaves all as it was.
    fn change(&mut self, shared: &Arc<Shared>, wanted: Wanted) -> Result {
        if wanted == self.now {
            return Ok(());
        }
        let mut on = On::from(&wanted);
        if self.wake.0.is_none() {
            // Then these are all the wakes there are.
            on.past = wanted.detect;
            on.wake = false;
            if wanted
                .delay
                .is_some_and(|spec| spec.place == Place::BeforeWake)
            {
                pr_err!("where=before-wake: this kernel has no folio_wake_bit() to delay\n");
                return Err(ENOENT);
            }
        }
        if on.after_wake && self.queues.size == 0 {
            pr_err!("where=after-wake: this kernel does not say where folio_wait_table is (CONFIG_KALLSYMS_ALL)\n");
            return Err(ENOENT);
        }
        switch_on(&mut self.switches(&on))?;
        self.tell_missed(shared);
        // From here on nothing fails. Probes that have nothing to do any more still run, and are told so.
        shared
            .knobs
            .set(&wanted.config, on.around_clear, wanted.detect);
        shared.reporter.configure(&wanted.config);
        if wanted.delay != self.now.delay {
            // SAFETY: Nobody else can, as we have `&mut self`, which is one and behind a lock.
            unsafe { shared.amplify.set(wanted.delay) };
        }
        switch_off(&mut self.switches(&on));
        self.now = wanted;
        // Windows from before may lack marks, or be of pages that aren't looked at any more. A handler that
        // has begun before may be about to open one: they run with preemption disabled.
        // SAFETY: May sleep, and does so.
        unsafe { bindings::synchronize_rcu() };
        shared.windows.clear();
        Ok(())
    }
}
