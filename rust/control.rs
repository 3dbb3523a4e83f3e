// SPDX-License-Identifier: GPL-2.0

//! What is switched on: the probes there are, and whether they are armed.

use crate::{
    amplify::{Amplify, FreeWatch},
    detect::amplify::{Place, Spec},
    hook::{kprobe, return_probe, tracepoint},
    probes::{AfterClear, EndOfWriteback, Shared, Wake},
    stats::Counter,
    text::{Line, Sink},
};
use core::sync::atomic::Ordering::Relaxed;
use kernel::{
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
    symbols: Symbols,
    #[pin]
    probes: Mutex<Probes>,
}

/// What is registered.
struct Probes {
    end: Pin<KBox<kprobe::Registration<EndOfWriteback>>>,
    wake: Pin<KBox<kprobe::Registration<Wake>>>,
    /// Only while a delay is asked for after the clear.
    after_clear: Option<Pin<KBox<return_probe::Registration<AfterClear>>>>,
    /// Only while a delay is asked for.
    free_watch: Option<tracepoint::Registration<FreeWatch>>,
    spec: Option<Spec>,
    end_armed: bool,
    wake_armed: bool,
    /// What return probes that are gone have missed.
    missed_return: u64,
}

impl Control {
    /// Registers the probes. On an error, which is explained in the kernel log, none stays.
    pub(crate) fn new(shared: Arc<Shared>, symbols: Symbols) -> Result<Arc<Self>> {
        let end = kprobe::Registration::new(symbols.end, EndOfWriteback(shared.clone()))?;
        let wake = kprobe::Registration::new(symbols.wake, Wake(shared.clone()))?;
        Arc::pin_init(
            pin_init!(Self {
                shared,
                symbols,
                probes <- new_mutex!(Probes {
                    end,
                    wake,
                    after_clear: None,
                    free_watch: None,
                    spec: None,
                    end_armed: true,
                    wake_armed: true,
                    missed_return: 0,
                }),
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
        probes.arm(on)
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

        let after_clear = matches!(
            spec,
            Some(Spec {
                place: Place::AfterClear,
                ..
            })
        );
        if !after_clear {
            if let Some(probe) = probes.after_clear.take() {
                probes.missed_return += probe.missed();
            }
        } else if probes.after_clear.is_none() {
            probes.after_clear = Some(return_probe::Registration::new(
                self.symbols.end,
                AfterClear(self.shared.clone()),
            )?);
        }
        if spec.is_none() {
            probes.free_watch = None;
        } else if probes.free_watch.is_none() {
            probes.free_watch = Some(tracepoint::Registration::new(FreeWatch(amplify.clone()))?);
        }

        probes.spec = spec;
        probes.arm(self.detecting())?;
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
                .after_clear
                .as_ref()
                .map_or(0, |probe| probe.missed());
        for (name, value) in [
            ("missed_end_writeback", probes.end.missed()),
            ("missed_wake", probes.wake.missed()),
            ("missed_return", missed_return),
        ] {
            sink.line(&Line::of(format_args!("{name}: {value}")));
        }
    }
}

impl Probes {
    /// Arms the probes that have something to do. One that is disarmed costs nothing.
    fn arm(&mut self, detecting: bool) -> Result {
        let delay_before_wake = matches!(
            self.spec,
            Some(Spec {
                place: Place::BeforeWake,
                ..
            })
        );
        if self.end_armed != detecting {
            self.end.arm(detecting)?;
            self.end_armed = detecting;
        }
        let wake = detecting || delay_before_wake;
        if self.wake_armed != wake {
            self.wake.arm(wake)?;
            self.wake_armed = wake;
        }
        Ok(())
    }
}
