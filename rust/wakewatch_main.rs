// SPDX-License-Identifier: GPL-2.0

//! wakewatch: catches page wake-ups delivered to a page that nobody owns any more.
//!
//! Where to look: [`probes`] says what is hooked, [`detect`] what an event means, [`report`] how
//! it is told. `docs/how-it-works.md` has the rest.

mod amplify;
mod bindings;
mod callers;
mod compat;
mod control;
mod debugfs;
mod detect;
mod hook;
mod page;
mod params;
mod percpu;
mod probes;
mod report;
mod ring;
mod stats;
mod story;
mod sync;
mod text;
mod victims;
mod windows;

use core::{
    ptr::{from_ref, null_mut},
    sync::atomic::{AtomicPtr, Ordering::Release},
};
use kernel::{prelude::*, sync::Arc};

module! {
    type: WakeWatch,
    name: "wakewatch",
    description: "Catches page wake-ups delivered to a page that nobody owns",
    license: "GPL",
}

/// For debuggers, who find everything from here, by a name that isn't mangled
/// (scripts/wakewatch.drgn.py). Null while there is nothing to be found.
#[no_mangle]
pub(crate) static WW_CONTROL: AtomicPtr<control::Control> = AtomicPtr::new(null_mut());

/// The module. The order of the fields is the order in which it is taken down: first nobody can
/// switch any more, then no probe runs, then what was reported is printed.
struct WakeWatch {
    _debugfs: debugfs::Directory,
    _control: Arc<control::Control>,
    _reporter: report::Running,
}

impl kernel::Module for WakeWatch {
    fn init(module: &'static ThisModule) -> Result<Self> {
        if cfg!(CONFIG_PREEMPT_RT) {
            pr_err!(
                "refused: with PREEMPT_RT softirqs run as tasks, and it was never tried there\n"
            );
            return Err(EINVAL);
        }
        let params = params::Params::get()?;
        let stats = Arc::new(stats::Stats::new()?, GFP_KERNEL)?;
        let config = params.config;
        let (reporter, running) = report::Reporter::start(stats.clone(), &config)?;
        let shared = Arc::new(
            probes::Shared {
                knobs: probes::Knobs::new(&config),
                stats: stats.clone(),
                amplify: Arc::new(amplify::Amplify::new(stats.clone()), GFP_KERNEL)?,
                reporter,
                windows: Arc::new(windows::Windows::new(stats.clone())?, GFP_KERNEL)?,
                callers: callers::Callers::new(stats)?,
                victims: victims::Victims::new()?,
            },
            GFP_KERNEL,
        )?;
        // SAFETY: A module is loaded once at a time, and this is its only one.
        let control =
            unsafe { control::Control::new(shared, params.symbols, params.hook, config)? };
        control.detect(params.enable)?;
        control.set_amplify(params.amplify)?;
        let debugfs = debugfs::Directory::new(control.clone(), module)?;
        pr_info!(
            "watching {} and {}, detection {}\n",
            params.symbols.end,
            params.symbols.wake,
            if params.enable { "on" } else { "off" }
        );
        WW_CONTROL.store(from_ref(&*control).cast_mut(), Release);
        Ok(Self {
            _debugfs: debugfs,
            _control: control,
            _reporter: running,
        })
    }
}

impl Drop for WakeWatch {
    fn drop(&mut self) {
        WW_CONTROL.store(null_mut(), Release);
    }
}
