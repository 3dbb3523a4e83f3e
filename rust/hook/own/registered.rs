// SPDX-License-Identifier: GPL-2.0

//! What a kprobe and an fprobe have in common: the kernel keeps a pointer to them, finds their
//! handler by it, and has let go of both when it is taken back.

use crate::{compat::opaque, hook::explain};
use core::{
    marker::PhantomPinned,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use kernel::{error::to_result, prelude::*, types::Opaque};

/// A C struct that is registered with the kernel by its address.
///
/// # Safety
///
/// If `register` returns 0, the kernel may use the object, from any CPU, until `unregister` has
/// returned; and not at all otherwise.
pub(super) unsafe trait Object: Sized {
    /// May sleep. 0 or an error number.
    ///
    /// # Safety
    ///
    /// `object` must be initialised, and stay where it is until it is unregistered.
    unsafe fn register(object: *mut Self) -> kernel::ffi::c_int;

    /// May sleep. When it returns no handler runs any more.
    ///
    /// # Safety
    ///
    /// `object` must be registered.
    unsafe fn unregister(object: *mut Self);
}

/// An object that is registered, and its handler.
///
/// # Invariants
///
/// `object` does not move, and the kernel holds it if and only if `registered`, which is true from
/// the end of [`Registered::new`] to `drop`.
pub(super) struct Registered<O: Object, T> {
    object: Opaque<O>,
    registered: AtomicBool,
    handler: T,
    _pin: PhantomPinned,
}

// SAFETY: The kernel serialises access to a registered object; `T` is `Send`.
unsafe impl<O: Object, T: Send> Send for Registered<O, T> {}
// SAFETY: All methods on `&self` may be called from any thread; `T` is `Sync`.
unsafe impl<O: Object, T: Sync> Sync for Registered<O, T> {}

impl<O: Object, T> Registered<O, T> {
    /// Registers `object`, which is for `symbol`. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such symbol, `EINVAL` if it may not be probed; either is explained
    /// in the kernel log, and nothing stays registered.
    pub(super) fn new(symbol: &CStr, object: O, handler: T) -> Result<Pin<KBox<Self>>> {
        let this = KBox::pin(
            Self {
                object: Opaque::new(object),
                registered: AtomicBool::new(false),
                handler,
                _pin: PhantomPinned,
            },
            GFP_KERNEL,
        )?;
        // SAFETY: `object` is initialised, and pinned until it is unregistered. Handlers may run from
        // here on, beside shared references to `this` alone.
        to_result(unsafe { O::register(this.object.get()) })
            .inspect_err(|&err| explain(symbol, err))?;
        // INVARIANT: The kernel holds it from here on.
        this.registered.store(true, Relaxed);
        Ok(this)
    }

    /// The object. Registered, unless `self` is still being made.
    pub(super) fn get(&self) -> *mut O {
        self.object.get()
    }

    /// The handler that was registered with `object`.
    ///
    /// # Safety
    ///
    /// `object` must be that of a live `Registered<O, T>`, as it is in its handlers.
    #[inline(always)]
    pub(super) unsafe fn handler<'a>(object: *mut O) -> &'a T {
        // SAFETY: By the safety requirements.
        let this = unsafe { &*kernel::container_of!(opaque(object), Self, object) };
        &this.handler
    }
}

impl<O: Object, T> Drop for Registered<O, T> {
    fn drop(&mut self) {
        if self.registered.load(Relaxed) {
            // SAFETY: By the type invariant it is registered.
            unsafe { O::unregister(self.object.get()) };
        }
    }
}
