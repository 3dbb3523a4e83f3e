// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, checked. Those that aren't knobs are declared in `params.c`.

use crate::{
    bindings, compat,
    control::Symbols,
    detect::{
        amplify::Spec,
        config::{knob_type, knobs, Config},
        symbol::is_clone_of,
    },
    hook::entry::Way,
    text::Line,
};
use core::{
    cell::UnsafeCell,
    ptr::{addr_of, addr_of_mut},
};
use kernel::prelude::*;

/// What the module was loaded with.
pub(crate) struct Params {
    pub(crate) enable: bool,
    pub(crate) amplify: Option<Spec>,
    pub(crate) config: Config,
    pub(crate) symbols: Symbols,
    /// How functions are hooked, if it can be had.
    pub(crate) hook: Way,
}

impl Params {
    /// Reads and checks them.
    ///
    /// # Errors
    ///
    /// `EINVAL`, explained in the kernel log.
    pub(crate) fn get() -> Result<Self> {
        let config = given();
        if let Some((name, most)) = config.out_of_range() {
            pr_err!("{}={}: say 1 to {}\n", name, config.value(name), most);
            return Err(EINVAL);
        }
        // SAFETY: The kernel has set them before the module's init, and nobody writes them any more.
        let (enable, hook, amplify, end, wake) = unsafe {
            (
                bindings::ww_param_enable,
                bindings::ww_param_hook,
                bindings::ww_param_amplify,
                bindings::ww_param_end_symbol,
                bindings::ww_param_wake_symbol,
            )
        };
        // SAFETY: A parameter is a C string that lives as long as the module.
        let symbols = unsafe {
            Symbols {
                end: CStr::from_char_ptr(end),
                wake: CStr::from_char_ptr(wake),
            }
        };
        // SAFETY: As above.
        let hook = compat::c_text(unsafe { CStr::from_char_ptr(hook) });
        let hook = Way::named(hook).ok_or_else(|| {
            pr_err!("hook={}: say direct, ftrace or kprobe\n", hook);
            EINVAL
        })?;
        function("end_symbol", symbols.end, "__folio_end_writeback")?;
        function("wake_symbol", symbols.wake, "folio_wake_bit")?;
        let amplify = if amplify.is_null() {
            None
        } else {
            // SAFETY: A parameter is a C string that lives as long as the module.
            let text = compat::c_text(unsafe { CStr::from_char_ptr(amplify) });
            Spec::parse(text).map_err(|err| {
                pr_err!("amplify: {}\n", Line::of(format_args!("{err}")).text());
                EINVAL
            })?
        };
        Ok(Self {
            enable,
            amplify,
            config,
            symbols,
            hook,
        })
    }
}

/// Is the function that parameter `name` says the one that is meant? What its arguments are is known of that
/// one alone.
fn function(name: &str, symbol: &CStr, meant: &str) -> Result {
    let symbol = compat::c_text(symbol);
    if is_clone_of(symbol, meant) {
        return Ok(());
    }
    pr_err!(
        "{}={}: say {}, or a copy of it that has the same arguments ({}.llvm.N, {}.lto_priv.N)\n",
        name,
        symbol,
        meant,
        meant,
        meant
    );
    Err(EINVAL)
}

/// Where the kernel puts a parameter's value before the module's init; nobody writes it afterwards.
#[repr(transparent)]
struct Value<T>(UnsafeCell<T>);

// SAFETY: Written before anybody reads it.
unsafe impl<T: Sync> Sync for Value<T> {}

/// `struct kernel_param`, as `module_param()` (include/linux/moduleparam.h) makes it.
#[repr(transparent)]
struct Param(bindings::kernel_param);

// SAFETY: The kernel's, and constant.
unsafe impl Sync for Param {}

/// The `kernel_param_ops` for a kind of knob, and its type as `modinfo` has it.
macro_rules! ops {
    (switch) => {
        addr_of!(bindings::param_ops_bool)
    };
    (number) => {
        addr_of!(bindings::param_ops_uint)
    };
}
macro_rules! type_name {
    (switch) => {
        "bool"
    };
    (number) => {
        "uint"
    };
}
/// A default, as text.
macro_rules! default_text {
    (true) => {
        "1"
    };
    (false) => {
        "0"
    };
    ($number:literal) => {
        stringify!($number)
    };
}

/// A line of the module's `.modinfo` section.
macro_rules! modinfo {
    ($($text:expr),*) => {
        const _: () = {
            const TEXT: &str = concat!($($text,)* "\0");
            #[link_section = ".modinfo"]
            #[used]
            static LINE: [u8; TEXT.len()] = {
                let mut line = [0; TEXT.len()];
                let mut i = 0;
                while i < line.len() {
                    line[i] = TEXT.as_bytes()[i];
                    i += 1;
                }
                line
            };
        };
    };
}

macro_rules! params {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $(($most:expr))? = $default:tt, $text:literal;)*) => {
        /// What each knob was set to.
        #[allow(non_upper_case_globals)]
        mod value {
            use super::*;

            $(pub(super) static $name: Value<knob_type!($kind)> = Value(UnsafeCell::new($default));)*
        }

        // Permissions are 0: what can be changed later is a file in debugfs, and a second, stale place
        // to read it would mislead.
        $(const _: () = {
            #[link_section = "__param"]
            #[used]
            // Compilers before 1.82 want it.
            #[allow(unused_unsafe)]
            static PARAM: Param = Param(bindings::kernel_param {
                name: concat!(stringify!($name), "\0").as_ptr().cast(),
                // SAFETY: Here and below only an address is taken.
                mod_: unsafe { addr_of_mut!(bindings::__this_module) },
                // SAFETY: See above.
                ops: unsafe { ops!($kind) },
                perm: 0,
                level: -1,
                flags: 0,
                __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
                    arg: value::$name.0.get().cast(),
                },
            });
        };)*
        $(modinfo!("parmtype=", stringify!($name), ":", type_name!($kind));)*
        $(modinfo!("parm=", stringify!($name), ":", $text, " (default: ", default_text!($default), ")");)*

        /// What the kernel has set.
        fn given() -> Config {
            Config {
                // SAFETY: Nobody writes them any more.
                $($name: unsafe { *value::$name.0.get() },)*
            }
        }
    };
}
knobs!(params);
