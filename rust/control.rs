// SPDX-License-Identifier: GPL-2.0

//! What is switched on: the probes there are, and whether they are armed.

use crate::{
    amplify::{Amplify, FreeWatch},
    detect::{
        amplify::{Place, Spec},
        callers::Function,
        config::Config,
    },
    hook::{kprobe, return_probe, tracepoint},
    probes::{AfterWake, AroundClear, EndOfBit, EndOfWriteback, Shared, Start, Victim, Wake},
    stats::Counter,
    text::{Line, Sink},
    windows::{MarkAllocated, MarkFreed},
};
use core::sync::atomic::Ordering::Relaxed;
use kernel::{
    c_str, new_mutex,
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
    symbols: Symbols,
    #[pin]
    probes: Mutex<Probes>,
}

/// A registered kprobe that can be switched off.
struct Probe<T: kprobe::Handler> {
    registration: kprobe::Registration<T>,
    armed: bool,
}

impl<T: kprobe::Handler> Probe<T> {
    fn new(symbol: &'static CStr, handler: T) -> Result<Self> {
        Ok(Self {
            registration: kprobe::Registration::new(symbol, handler)?,
            armed: false,
        })
    }

    /// Switches it on or off. One that is off costs nothing.
    fn arm(&mut self, armed: bool) -> Result {
        if self.armed != armed {
            self.registration.arm(armed)?;
            self.armed = armed;
        }
        Ok(())
    }

    fn missed(&self) -> u64 {
        self.registration.missed()
    }
}

/// A probe of a function that this kernel may not have.
struct Optional<T: kprobe::Handler>(Option<Probe<T>>);

impl<T: kprobe::Handler> Optional<T> {
    /// Where there is no such function, that has been explained, and the probe is never on.
    fn new(symbol: &'static CStr, handler: T) -> Result<Self> {
        match Probe::new(symbol, handler) {
            Ok(probe) => Ok(Self(Some(probe))),
            Err(err) if err == ENOENT || err == EINVAL => Ok(Self(None)),
            Err(err) => Err(err),
        }
    }

    fn arm(&mut self, armed: bool) -> Result {
        match &mut self.0 {
            Some(probe) => probe.arm(armed),
            None => Ok(()),
        }
    }

    fn missed(&self) -> u64 {
        self.0.as_ref().map_or(0, Probe::missed)
    }
}

/// What is registered. Dropped in this order: who looks at the other probes' counters goes first.
struct Probes {
    victim: Optional<Victim>,
    wake: Probe<Wake>,
    start: Optional<Start>,
    end: Probe<EndOfWriteback>,
    end_read: Optional<EndOfBit>,
    private_2: Optional<EndOfBit>,
    unlock: Optional<EndOfBit>,
    /// Both, while detection is on and they are asked for.
    marks: Option<(
        tracepoint::Registration<MarkFreed>,
        tracepoint::Registration<MarkAllocated>,
    )>,
    /// Only while a delay is asked for before or after the clear.
    around_clear: Option<return_probe::Registration<AroundClear>>,
    /// Only while a delay is asked for after the wake.
    after_wake: Option<return_probe::Registration<AfterWake>>,
    /// Only while a delay is asked for.
    free_watch: Option<tracepoint::Registration<FreeWatch>>,
    spec: Option<Spec>,
    config: Config,
    /// What return probes that are gone have missed.
    missed_return: u64,
}

impl Control {
    /// Registers the probes, all of them off. On an error, which is explained in the kernel log,
    /// none stays.
    pub(crate) fn new(shared: Arc<Shared>, symbols: Symbols, config: Config) -> Result<Arc<Self>> {
        let end_of = |function| EndOfBit {
            shared: shared.clone(),
            function,
        };
        let mut probes = Probes {
            end: Probe::new(symbols.end, EndOfWriteback(shared.clone()))?,
            wake: Probe::new(symbols.wake, Wake(shared.clone()))?,
            start: Optional::new(c_str!("__folio_start_writeback"), Start(shared.clone()))?,
            end_read: Optional::new(c_str!("folio_end_read"), end_of(Function::EndRead))?,
            private_2: Optional::new(c_str!("folio_end_private_2"), end_of(Function::Private2))?,
            unlock: Optional::new(c_str!("folio_unlock"), end_of(Function::Unlock))?,
            victim: Optional::new(c_str!("wake_page_function"), Victim(shared.clone()))?,
            marks: None,
            around_clear: None,
            after_wake: None,
            free_watch: None,
            spec: None,
            config,
            missed_return: 0,
        };
        // What this kernel has no function for is off, and says so.
        let config = &mut probes.config;
        config.end_read &= probes.end_read.0.is_some();
        config.audit_read &= probes.end_read.0.is_some();
        config.private_2 &= probes.private_2.0.is_some();
        config.unlock &= probes.unlock.0.is_some();
        config.start &= probes.start.0.is_some();
        config.victims &= probes.victim.0.is_some();
        let knobs = &shared.knobs;
        knobs.set_probe(Function::EndWriteback, &probes.end.registration);
        for (function, probe) in [
            (Function::EndRead, &probes.end_read),
            (Function::Private2, &probes.private_2),
            (Function::Unlock, &probes.unlock),
        ] {
            if let Some(probe) = &probe.0 {
                knobs.set_probe(function, &probe.registration);
            }
        }
        Arc::pin_init(
            pin_init!(Self {
                shared,
                symbols,
                probes <- new_mutex!(probes),
            }),
            GFP_KERNEL,
        )
    }

    /// Is detection on?
    pub(crate) fn detecting(&self) -> bool {
        self.shared.detecting.load(Relaxed)
    }

    /// Switches detection.
    pub(crate) fn detect(&self, on: bool) -> Result {
        let mut probes = self.probes.lock();
        self.shared.detecting.store(on, Relaxed);
        probes.arm(&self.shared, on)
    }

    /// The knobs.
    pub(crate) fn config(&self) -> Config {
        self.probes.lock().config
    }

    /// Changes knobs: `change` makes the new ones out of the old ones.
    ///
    /// # Errors
    ///
    /// Those of `change`, and `ENOENT` for a probe that this kernel has no function for; explained in
    /// the kernel log. Then all is as before.
    pub(crate) fn configure(&self, change: impl FnOnce(Config) -> Result<Config>) -> Result {
        let mut probes = self.probes.lock();
        let before = probes.config;
        let config = change(before)?;
        probes.check(&config)?;
        probes.config = config;
        let armed = probes.arm(&self.shared, self.detecting());
        if armed.is_err() {
            probes.config = before;
            // Going back can't need more than there was.
            let _ = probes.arm(&self.shared, self.detecting());
        }
        armed
    }

    /// Forgets what was counted and found.
    pub(crate) fn reset(&self) {
        self.shared.stats.reset();
        self.shared.callers.reset();
        self.shared.windows.clear();
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
        self.probes.lock().spec
    }

    /// Asks for a delay, or for none. On an error there is none.
    pub(crate) fn set_amplify(&self, spec: Option<Spec>) -> Result {
        let mut guard = self.probes.lock();
        let probes = &mut *guard;
        let amplify: &Arc<Amplify> = &self.shared.amplify;
        // SAFETY: Under the lock.
        unsafe { amplify.set(None) };
        probes.spec = None;

        let place = spec.map(|spec| spec.place);
        if !matches!(place, Some(Place::BeforeClear | Place::AfterClear)) {
            if let Some(probe) = probes.around_clear.take() {
                probes.missed_return += probe.missed();
            }
        } else if probes.around_clear.is_none() {
            probes.around_clear = Some(return_probe::Registration::new(
                self.symbols.end,
                AroundClear(self.shared.clone()),
            )?);
        }
        if place != Some(Place::AfterWake) {
            if let Some(probe) = probes.after_wake.take() {
                probes.missed_return += probe.missed();
            }
        } else if probes.after_wake.is_none() {
            probes.after_wake = Some(return_probe::Registration::new(
                c_str!("__wake_up_locked_key"),
                AfterWake {
                    shared: self.shared.clone(),
                    wake: probes.wake.registration.range(),
                },
            )?);
        }
        if spec.is_none() {
            probes.free_watch = None;
        } else if probes.free_watch.is_none() {
            probes.free_watch = Some(tracepoint::Registration::new(FreeWatch(amplify.clone()))?);
        }

        probes.spec = spec;
        probes.arm(&self.shared, self.detecting())?;
        // SAFETY: Under the lock.
        unsafe { amplify.set(spec) };
        Ok(())
    }

    /// The `stats` file: a line for each counter, those of the kernel's probes last.
    pub(crate) fn show_stats(&self, sink: &mut dyn Sink) {
        for &(counter, name) in Counter::ALL {
            let value = self.shared.stats.sum(counter);
            sink.line(&Line::of(format_args!("{name}: {value}")));
        }
        let probes = self.probes.lock();
        let missed_return = probes.missed_return
            + probes
                .around_clear
                .as_ref()
                .map_or(0, |probe| probe.missed())
            + probes.after_wake.as_ref().map_or(0, |probe| probe.missed());
        for (name, value) in [
            ("missed_end_writeback", probes.end.missed()),
            ("missed_wake", probes.wake.missed()),
            ("missed_end_read", probes.end_read.missed()),
            ("missed_private_2", probes.private_2.missed()),
            ("missed_unlock", probes.unlock.missed()),
            ("missed_start", probes.start.missed()),
            ("missed_victim", probes.victim.missed()),
            ("missed_return", missed_return),
        ] {
            sink.line(&Line::of(format_args!("{name}: {value}")));
        }
    }
}

impl Probes {
    /// Can what is on in `config` be had on this kernel?
    fn check(&self, config: &Config) -> Result {
        for (wanted, there, name) in [
            (config.end_read, self.end_read.0.is_some(), "end_read"),
            (config.audit_read, self.end_read.0.is_some(), "audit_read"),
            (config.private_2, self.private_2.0.is_some(), "private_2"),
            (config.unlock, self.unlock.0.is_some(), "unlock"),
            (config.start, self.start.0.is_some(), "start"),
            (config.victims, self.victim.0.is_some(), "victims"),
        ] {
            if wanted && !there {
                pr_err!("{}=1: this kernel has no function to probe for it\n", name);
                return Err(ENOENT);
            }
        }
        Ok(())
    }

    /// Arms the probes that have something to do.
    fn arm(&mut self, shared: &Arc<Shared>, detecting: bool) -> Result {
        let config = &self.config;
        let delay_before_wake = matches!(
            self.spec,
            Some(Spec {
                place: Place::BeforeWake,
                ..
            })
        );
        shared.reporter.configure(config);
        self.end.arm(detecting)?;
        self.wake.arm(detecting || delay_before_wake)?;
        self.start.arm(detecting && config.start)?;
        self.end_read
            .arm(detecting && (config.end_read || config.audit_read))?;
        self.private_2.arm(detecting && config.private_2)?;
        self.unlock.arm(detecting && config.unlock)?;
        self.victim.arm(detecting && config.victims)?;
        if detecting && config.marks {
            if self.marks.is_none() {
                self.marks = Some((
                    tracepoint::Registration::new(MarkFreed(shared.windows.clone()))?,
                    tracepoint::Registration::new(MarkAllocated(shared.windows.clone()))?,
                ));
            }
        } else {
            self.marks = None;
        }
        shared.knobs.set(config);
        // Windows from before may lack marks, or be of pages that aren't looked at any more.
        shared.windows.clear();
        Ok(())
    }
}
