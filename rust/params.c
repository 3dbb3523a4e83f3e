// SPDX-License-Identifier: GPL-2.0
/*
 * The module parameters that are no knobs; params.rs makes those. In C because
 * 6.12's `module!` has none, and because no version's has strings. Permissions
 * are 0: what can be changed later is a file in debugfs, and a second, stale
 * place to read it would mislead.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "bindings_helper.h"

/* In C because `author` of `module!` has become a list (6.15). */
MODULE_AUTHOR("wakewatch contributors");

bool ww_param_enable = true;
module_param_named(enable, ww_param_enable, bool, 0);
MODULE_PARM_DESC(enable, "detect from the start (default: 1)");

char *ww_param_amplify;
module_param_named(amplify, ww_param_amplify, charp, 0);
MODULE_PARM_DESC(amplify, "delay from the start, in the words of debugfs' amplify file (default: off)");

char *ww_param_hook = "direct";
module_param_named(hook, ww_param_hook, charp, 0);
MODULE_PARM_DESC(hook, "how functions are hooked: direct, ftrace, kprobe, or what comes after it there (default: direct)");

char *ww_param_end_symbol = "__folio_end_writeback";
module_param_named(end_symbol, ww_param_end_symbol, charp, 0);
MODULE_PARM_DESC(end_symbol, "symbol that ends writeback, where a compiler has renamed it (default: __folio_end_writeback)");

char *ww_param_wake_symbol = "folio_wake_bit";
module_param_named(wake_symbol, ww_param_wake_symbol, charp, 0);
MODULE_PARM_DESC(wake_symbol, "symbol that wakes, where a compiler has renamed it (default: folio_wake_bit)");
