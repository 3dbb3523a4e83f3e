// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, checked. `params.c` declares them.

use crate::{
    bindings, compat,
    control::Symbols,
    detect::{
        amplify::Spec,
        config::{Config, MAX_REPORTS, MAX_SAMPLE},
    },
    text::Line,
};
use kernel::prelude::*;

/// What the module was loaded with.
pub(crate) struct Params {
    pub(crate) enable: bool,
    pub(crate) amplify: Option<Spec>,
    pub(crate) config: Config,
    pub(crate) symbols: Symbols,
}

impl Params {
    /// Reads and checks them.
    ///
    /// # Errors
    ///
    /// `EINVAL`, explained in the kernel log.
    pub(crate) fn get() -> Result<Self> {
        // SAFETY: The kernel has set them before the module's init, and nobody changes them.
        let (enable, amplify, end, wake, config) = unsafe {
            (
                bindings::ww_param_enable,
                bindings::ww_param_amplify,
                bindings::ww_param_end_symbol,
                bindings::ww_param_wake_symbol,
                Config {
                    writeback: bindings::ww_param_writeback,
                    end_read: bindings::ww_param_end_read,
                    private_2: bindings::ww_param_private_2,
                    unlock: bindings::ww_param_unlock,
                    marks: bindings::ww_param_marks,
                    start: bindings::ww_param_start,
                    victims: bindings::ww_param_victims,
                    audit_read: bindings::ww_param_audit_read,
                    sample: bindings::ww_param_sample,
                    report_limit: bindings::ww_param_report_limit,
                    panic_on_report: bindings::ww_param_panic_on_report,
                },
            )
        };
        for (name, value, most) in [
            ("report_limit", config.report_limit, MAX_REPORTS),
            ("sample", config.sample, MAX_SAMPLE),
        ] {
            if !(1..=most).contains(&value) {
                pr_err!("{}={}: say 1 to {}\n", name, value, most);
                return Err(EINVAL);
            }
        }
        let amplify = if amplify.is_null() {
            None
        } else {
            // SAFETY: A parameter is a C string that lives as long as the module.
            let text = compat::c_bytes(unsafe { CStr::from_char_ptr(amplify) });
            let text = core::str::from_utf8(text).unwrap_or("(not text)");
            Spec::parse(text).map_err(|err| {
                pr_err!("amplify: {}\n", Line::of(format_args!("{err}")));
                EINVAL
            })?
        };
        Ok(Self {
            enable,
            amplify,
            config,
            // SAFETY: As above.
            symbols: unsafe {
                Symbols {
                    end: CStr::from_char_ptr(end),
                    wake: CStr::from_char_ptr(wake),
                }
            },
        })
    }
}
