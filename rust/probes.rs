// SPDX-License-Identifier: GPL-2.0

//! The probes: what is looked at, and when. What it means is [`crate::detect`]'s to say.
//!
//! ```text
//! __folio_start_writeback()          <- Start: is the folio locked?
//!
//! folio_end_writeback()              folio_end_read(), folio_end_private_2(), folio_unlock()
//!   __folio_end_writeback()          <- EndOfWriteback       <- EndOfBit
//!                                    <- AroundClear, only while a delay is asked for
//!                                       does anybody hold the folio? A window opens
//!     clears PG_writeback               clears the bit
//!                                    <- AroundClear, again
//!   folio_wake_bit()                 <- Wake: does anybody own the page? The window closes
//!     __wake_up_locked_key()         <- PastWake: the same, if a compiler has left folio_wake_bit() out
//!       wake_page_function()         <- Victim, for each waiter: who is woken by a leaked wake?
//!                                    <- AfterWake, only while a delay is asked for
//!
//! mm_page_free, mm_page_alloc        <- windows::MarkFreed, MarkAllocated
//! ```

mod delays;
mod ends;
mod wake;

pub(crate) use delays::{AfterWake, AroundClear};
pub(crate) use ends::{EndOfBit, EndOfPrivate2, EndOfRead, EndOfWriteback, Start, Unlock};
pub(crate) use wake::{PastWake, Victim, Wake};

use crate::{
    amplify::Amplify,
    callers::Callers,
    detect::{callers::Function, config::Config, symbol::Range},
    hook::Handler,
    page::Page,
    report::Reporter,
    stats::{Counter, Stats},
    victims::Victims,
    windows::Windows,
};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};
use kernel::{ffi::c_ulong, sync::Arc};

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) knobs: Knobs,
    pub(crate) stats: Arc<Stats>,
    pub(crate) amplify: Arc<Amplify>,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) windows: Arc<Windows>,
    pub(crate) callers: Callers,
    pub(crate) victims: Victims,
}

/// Where a probe's `nmissed` is, as long as there is no probe.
static NONE_MISSED: AtomicUsize = AtomicUsize::new(0);

/// What handlers read of [`Config`]; which probes run at all says the rest of it.
pub(crate) struct Knobs {
    /// What is [`Now`].
    now: AtomicU32,
    /// A page is in the sample if its hash is at most this.
    sample: AtomicU32,
    /// `nmissed` of the probes that open windows, by [`Function`]; `NONE_MISSED` while there is none.
    missed: [AtomicPtr<c_ulong>; Function::ALL.len()],
    /// Where the code of the functions that open windows is, by [`Function`].
    ranges: [(AtomicUsize, AtomicUsize); Function::ALL.len()],
}

impl Knobs {
    /// Those of `config`.
    pub(crate) fn new(config: &Config) -> Self {
        let knobs = Self {
            now: AtomicU32::new(Now::OFF),
            sample: AtomicU32::new(u32::MAX),
            missed: [const { AtomicPtr::new(NONE_MISSED.as_ptr().cast()) }; Function::ALL.len()],
            ranges: [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; Function::ALL.len()],
        };
        knobs.set(config, false, false);
        knobs
    }

    /// Takes over `config`. Windows that are open don't fit any more: clear them.
    ///
    /// `held` says that windows are held open between the clear and the look for waiters. Without `detect`
    /// nothing is looked at: handlers may run for a delay's sake alone.
    pub(crate) fn set(&self, config: &Config, held: bool, detect: bool) {
        self.sample.store(u32::MAX / config.sample.max(1), Relaxed);
        let now = [
            (!detect, Now::OFF),
            (config.sample > 1, Now::SAMPLED),
            (config.writeback, Now::WRITEBACK),
            (config.always || held, Now::ALWAYS),
            (config.audit_read, Now::AUDIT_READ),
        ];
        let now = now
            .iter()
            .fold(0, |all, &(is, bit)| if is { all | bit } else { all });
        // Nobody else writes but who learns.
        let _ = self
            .now
            .fetch_update(Relaxed, Relaxed, |old| Some(now | old & Now::LATE_WAITERS));
    }

    #[inline(always)]
    pub(crate) fn now(&self) -> Now {
        Now(self.now.load(Relaxed))
    }

    /// Says where to look up how many hits were missed by the hook that opens the windows of `function`.
    ///
    /// # Safety
    ///
    /// `counter` must be readable until another one is set, or no handler runs any more.
    pub(crate) unsafe fn set_missed(&self, function: Function, counter: *const c_ulong) {
        self.missed[function as usize].store(counter.cast_mut(), Relaxed);
    }

    /// Says where the code of `function` is.
    pub(crate) fn set_range(&self, function: Function, range: Range) {
        self.ranges[function as usize].0.store(range.start, Relaxed);
        self.ranges[function as usize].1.store(range.size, Relaxed);
    }

    #[inline]
    fn sampled(&self, page: Page) -> bool {
        // The golden ratio, as hash_32() has it: pages next to each other are far apart.
        let hash = (page.key() as u32).wrapping_mul(0x61c8_8647);
        hash <= self.sample.load(Relaxed)
    }

    /// Hits missed so far by the probe that opens the windows of `function`.
    #[inline]
    fn missed(&self, function: Function) -> u64 {
        self.missed_of(function as u8)
    }

    #[inline(always)]
    fn missed_of(&self, function: u8) -> u64 {
        let at = self.missed[function as usize % Function::ALL.len()].load(Relaxed);
        // SAFETY: By what `set_missed` asks for. A statistic that the kernel writes without a lock.
        unsafe { at.read_volatile() as u64 }
    }

    /// Where the code of `function` is, which opens windows; nowhere if it has no probe.
    fn range(&self, function: Function) -> Range {
        let range = &self.ranges[function as usize % Function::ALL.len()];
        Range {
            start: range.0.load(Relaxed),
            size: range.1.load(Relaxed),
        }
    }
}

/// What is on: of a [`Config`], and what was learned. One word, since each handler begins with it.
#[derive(Clone, Copy)]
pub(crate) struct Now(u32);

impl Now {
    /// Nothing is looked at.
    const OFF: u32 = 1 << 0;
    /// Not every page is.
    const SAMPLED: u32 = 1 << 1;
    const WRITEBACK: u32 = 1 << 2;
    const ALWAYS: u32 = 1 << 3;
    /// A wake has been seen that nobody could have known of at the entry of what clears the bit: see
    /// [`Shared::learn`].
    const LATE_WAITERS: u32 = 1 << 4;
    const AUDIT_READ: u32 = 1 << 5;

    /// Are findings looked for?
    pub(crate) fn detects(self) -> bool {
        self.0 & Self::OFF == 0
    }

    /// Are windows opened at ends of writeback?
    #[inline(always)]
    fn writeback(self) -> bool {
        self.0 & Self::WRITEBACK != 0
    }

    /// At those that nobody waits for, too?
    #[inline(always)]
    pub(crate) fn always(self) -> bool {
        self.0 & (Self::ALWAYS | Self::LATE_WAITERS) != 0
    }

    #[inline(always)]
    fn audits_reads(self) -> bool {
        self.0 & Self::AUDIT_READ != 0
    }
}

impl Shared {
    /// What is on, if something is to be looked at on this page.
    #[inline(always)]
    fn looks_at(&self, page: Page) -> Option<Now> {
        let now = self.knobs.now();
        if now.0 & (Now::OFF | Now::SAMPLED) == 0 {
            Some(now)
        } else {
            self.samples(page, now)
        }
    }

    #[inline(never)]
    fn samples(&self, page: Page, now: Now) -> Option<Now> {
        if !now.detects() {
            return None;
        }
        if !self.knobs.sampled(page) {
            self.stats.count(Counter::SampledOut);
            return None;
        }
        Some(now)
    }
}

/// The hooks of `hooks.c`, and whose handlers they call.
pub(crate) mod hooks {
    use super::*;
    use crate::{
        bindings,
        hook::{entry::Hook, Entry},
    };
    use core::{ffi::c_void, ptr::addr_of_mut};
    use kernel::macros::paste;

    macro_rules! hooks {
        ($($NAME:ident: $Handler:ty = $name:ident;)*) => {
            paste! {$(
                // SAFETY: All of that name, whose handler `ww_on_...` takes for one.
                pub(crate) static $NAME: Hook<$Handler> = unsafe {
                    Hook::new(
                        addr_of_mut!(bindings::[<ww_hook_ $name>]),
                        bindings::[<ww_direct_ $name>],
                        Some(bindings::[<ww_ftrace_ $name>]),
                    )
                };

                /// # Safety
                ///
                /// Called by `hooks.c` alone, at the entry of the function that was hooked, with the handler that
                /// was registered and lives.
                #[no_mangle]
                unsafe extern "C" fn [<ww_on_ $name>](
                    handler: *const c_void,
                    entry: *const bindings::ww_entry,
                    context: u32,
                ) {
                    // SAFETY: By the safety requirements.
                    let (handler, at) = unsafe {
                        (&*handler.cast::<$Handler>(), Entry::from_raw(entry, context))
                    };
                    handler.entered(at);
                }
            )*}
        };
    }
    hooks! {
        END_WRITEBACK: EndOfWriteback = end_writeback;
        WAKE: Wake = wake;
        PAST: PastWake = past;
        START: Start = start;
        END_READ: EndOfRead = end_read;
        PRIVATE_2: EndOfPrivate2 = private_2;
        UNLOCK: Unlock = unlock;
        VICTIM: Victim = victim;
    }
}
