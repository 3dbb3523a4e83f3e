// SPDX-License-Identifier: GPL-2.0
/*
 * Module parameters. In C because 6.12's `module!` has none, and because no
 * version's has strings. Permissions are 0: what can be changed later is a file
 * in debugfs, and a second, stale place to read it would mislead.
 */
#include <linux/moduleparam.h>

#include "bindings_helper.h"

bool ww_param_enable = true;
module_param_named(enable, ww_param_enable, bool, 0);
MODULE_PARM_DESC(enable, "detect from the start (default: 1)");

char *ww_param_amplify;
module_param_named(amplify, ww_param_amplify, charp, 0);
MODULE_PARM_DESC(amplify, "delay from the start, in the words of debugfs' amplify file (default: off)");

/* The knobs of debugfs' config file: detect/config.rs. */
bool ww_param_writeback = true;
module_param_named(writeback, ww_param_writeback, bool, 0);
MODULE_PARM_DESC(writeback, "open windows at the end of writeback (default: 1)");

bool ww_param_end_read = true;
module_param_named(end_read, ww_param_end_read, bool, 0);
MODULE_PARM_DESC(end_read, "open windows at folio_end_read() (default: 1)");

bool ww_param_private_2 = true;
module_param_named(private_2, ww_param_private_2, bool, 0);
MODULE_PARM_DESC(private_2, "open windows at folio_end_private_2() (default: 1)");

bool ww_param_unlock = false;
module_param_named(unlock, ww_param_unlock, bool, 0);
MODULE_PARM_DESC(unlock, "open windows at folio_unlock() (default: 0)");

bool ww_param_marks = true;
module_param_named(marks, ww_param_marks, bool, 0);
MODULE_PARM_DESC(marks, "mark pages that are freed and allocated: without it no `reused' (default: 1)");

bool ww_param_start = true;
module_param_named(start, ww_param_start, bool, 0);
MODULE_PARM_DESC(start, "look at the start of writeback: without it no `unlocked-start' (default: 1)");

bool ww_param_victims = true;
module_param_named(victims, ww_param_victims, bool, 0);
MODULE_PARM_DESC(victims, "look who is woken by a leaked wake (default: 1)");

bool ww_param_audit_read = false;
module_param_named(audit_read, ww_param_audit_read, bool, 0);
MODULE_PARM_DESC(audit_read, "count spare references at folio_end_read() too (default: 0)");

unsigned int ww_param_sample = 1;
module_param_named(sample, ww_param_sample, uint, 0);
MODULE_PARM_DESC(sample, "look at every n-th page, 1..1000000 (default: 1)");

unsigned int ww_param_report_limit = 10;
module_param_named(report_limit, ww_param_report_limit, uint, 0);
MODULE_PARM_DESC(report_limit, "reports per second and verdict, 1..1000; the rest is counted (default: 10)");

bool ww_param_panic_on_report = false;
module_param_named(panic_on_report, ww_param_panic_on_report, bool, 0);
MODULE_PARM_DESC(panic_on_report, "panic after printing a report (default: 0)");

char *ww_param_end_symbol = "__folio_end_writeback";
module_param_named(end_symbol, ww_param_end_symbol, charp, 0);
MODULE_PARM_DESC(end_symbol, "symbol that ends writeback, where a compiler has renamed it (default: __folio_end_writeback)");

char *ww_param_wake_symbol = "folio_wake_bit";
module_param_named(wake_symbol, ww_param_wake_symbol, charp, 0);
MODULE_PARM_DESC(wake_symbol, "symbol that wakes, where a compiler has renamed it (default: folio_wake_bit)");
