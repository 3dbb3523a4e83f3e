// SPDX-License-Identifier: GPL-2.0

//! A hook at the entry of a kernel function, in one of three ways: see [`Way`]. `hooks.c` has what calls the
//! handlers of the first two.

use super::{
    ftrace::{self, Callee},
    kprobe, symbol, Handler,
};
use crate::{bindings, compat, detect::symbol::Range};
use core::marker::PhantomData;
use kernel::{ffi::c_ulong, prelude::*};

/// How a function's entry is hooked. Each comes before what is dearer. The representation is for debuggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Way {
    /// The nop at the entry is a call of our trampoline.
    Direct,
    /// ftrace's trampoline calls ours.
    Ftrace,
    /// A kprobe, which is an `int3` where there is no ftrace. Whatever comes in the middle of another probe's
    /// handler on its CPU is missed, and counted.
    Kprobe,
}

impl Way {
    const ALL: [Way; 3] = [Way::Direct, Way::Ftrace, Way::Kprobe];

    /// The one that is called so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Ftrace => "ftrace",
            Way::Kprobe => "kprobe",
        }
    }

    /// Does this kernel have it?
    pub(crate) fn is_there(self) -> bool {
        match self {
            // SAFETY: They say what this module was built with.
            Way::Direct => unsafe { bindings::ww_have_direct() },
            // SAFETY: As above.
            Way::Ftrace => unsafe { bindings::ww_have_ftrace() },
            Way::Kprobe => true,
        }
    }
}

/// What of `hooks.c` is for one function, whose handler is a `T`.
pub(crate) struct Hook<T> {
    hook: *mut bindings::ww_hook,
    direct: unsafe extern "C" fn(),
    ftrace: bindings::ftrace_func_t,
    _handler: PhantomData<fn(&T)>,
}

// SAFETY: Addresses of static data and of code.
unsafe impl<T> Sync for Hook<T> {}

impl<T> Hook<T> {
    /// # Safety
    ///
    /// They must be one hook's, and what it calls must take its handler for a `T`.
    pub(crate) const unsafe fn new(
        hook: *mut bindings::ww_hook,
        direct: unsafe extern "C" fn(),
        ftrace: bindings::ftrace_func_t,
    ) -> Self {
        Self {
            hook,
            direct,
            ftrace,
            _handler: PhantomData,
        }
    }
}

/// A function that is hooked when it is asked for.
pub(crate) struct Registration<T: Handler + 'static> {
    symbol: &'static CStr,
    hook: &'static Hook<T>,
    /// The way that is tried first.
    first: Way,
    /// How it is hooked, if it is.
    way: Option<Way>,
    /// There if it is so in one of ftrace's ways.
    ftrace: Option<ftrace::Registration>,
    /// There in any case: it has found the function, and has the handler.
    kprobe: kprobe::Registration<T>,
}

impl<T: Handler> Registration<T> {
    /// For the entry of `symbol`, which is hooked when [`Self::on`] is called. May sleep.
    ///
    /// # Safety
    ///
    /// `symbol` must name the function that `hook` and `T` are made for, and no other registration of `hook` may
    /// live.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such symbol, `EINVAL` if it may not be probed; either is explained
    /// in the kernel log, and nothing stays registered.
    pub(crate) unsafe fn new(
        symbol: &'static CStr,
        hook: &'static Hook<T>,
        first: Way,
        handler: T,
    ) -> Result<Self> {
        let kprobe = kprobe::Registration::new(symbol, handler)?;
        // SAFETY: Static data; nobody reads it before something is hooked.
        unsafe {
            (*hook.hook).handler = core::ptr::from_ref(kprobe.handler()).cast();
            (*hook.hook).missed = 0;
        }
        Ok(Self {
            symbol,
            hook,
            first,
            way: None,
            ftrace: None,
            kprobe,
        })
    }

    /// The way it is hooked, if it is.
    pub(crate) fn way(&self) -> Option<Way> {
        self.way
    }

    /// Hooks the function, in the first way that can be had. May sleep. Why another one can't is said in the kernel
    /// log.
    pub(crate) fn on(&mut self) -> Result {
        for (way, callee) in [
            (Way::Direct, Callee::Direct(self.hook.direct)),
            (Way::Ftrace, Callee::Function(self.hook.ftrace)),
        ] {
            if (way as u8) < self.first as u8 || !way.is_there() {
                continue;
            }
            // SAFETY: By what `Hook::new` asks for, they are made for this function. The handler is there as long
            // as `self`, which takes the registration down first.
            match unsafe { ftrace::Registration::new(self.kprobe.address(), callee) } {
                Ok(registration) => {
                    self.ftrace = Some(registration);
                    self.way = Some(way);
                    return Ok(());
                }
                Err(err) if err == ENOMEM => return Err(err),
                Err(err) => self.explain(way, err),
            }
        }
        kprobe::are_on()?;
        self.kprobe.arm(true)?;
        self.way = Some(Way::Kprobe);
        Ok(())
    }

    /// Why one way can't be had, and the next one is tried.
    fn explain(&self, way: Way, err: Error) {
        let why = match (way, err) {
            (Way::Direct, err) if err == EBUSY => "somebody else (BPF) has a direct call there",
            (_, err) if err == EINVAL => "ftrace has no place there",
            _ => "refused",
        };
        pr_info!(
            "{}: no {} hook, {} (error {}); the next way is tried\n",
            compat::c_text(self.symbol),
            way.name(),
            why,
            err.to_errno()
        );
    }

    /// Takes the hook away. May sleep. When this returns nobody is called any more; a kprobe's handler that has begun
    /// may run for another grace period.
    pub(crate) fn off(&mut self) -> Result {
        self.ftrace = None;
        if self.way == Some(Way::Kprobe) {
            self.kprobe.arm(false)?;
        }
        self.way = None;
        Ok(())
    }

    /// How many hits had no handler: a kprobe's that came inside of another one's, and any that came inside of
    /// any of our handlers in the same context.
    pub(crate) fn missed(&self) -> u64 {
        // SAFETY: Static data; a statistic that is written without a lock.
        let stopped = unsafe { core::ptr::addr_of!((*self.hook.hook).missed).read_volatile() };
        self.kprobe.missed() + stopped as u64
    }

    /// The counter of those that count while it is hooked as it is now, for who has to look at it in a handler.
    /// Valid as long as the registration lives.
    pub(crate) fn missed_counter(&self) -> *const c_ulong {
        match self.ftrace {
            // SAFETY: Only an address is computed.
            Some(_) => unsafe { core::ptr::addr_of!((*self.hook.hook).missed) },
            None => self.kprobe.missed_counter(),
        }
    }

    /// Where the function's code is; nowhere, if that can't be told.
    pub(crate) fn range(&self) -> Range {
        symbol::range_of(self.kprobe.address()).unwrap_or_default()
    }
}
