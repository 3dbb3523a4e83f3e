// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, checked. `params.c` declares them.

use crate::{bindings, compat, control::Symbols, detect::amplify::Spec, text::Line};
use kernel::prelude::*;

/// What the module was loaded with.
pub(crate) struct Params {
    pub(crate) enable: bool,
    pub(crate) amplify: Option<Spec>,
    pub(crate) report_limit: u32,
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
        let (enable, amplify, report_limit, end, wake) = unsafe {
            (
                bindings::ww_param_enable,
                bindings::ww_param_amplify,
                bindings::ww_param_report_limit,
                bindings::ww_param_end_symbol,
                bindings::ww_param_wake_symbol,
            )
        };
        if !(1..=1000).contains(&report_limit) {
            pr_err!("report_limit={}: say 1 to 1000\n", report_limit);
            return Err(EINVAL);
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
            report_limit,
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
