#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A page is freed in its window, and the allocator refuses it as bad: it has a refcount of 0 and its flags,
# nobody has it, and the wake of it is `zero-ref', not `reused' (see rust/refused_main.rs).
#
# kernel: fixed
# memory: 512M
# timeout: 60
# expect: Bad page state

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

counts() {
	grep -E '^(zero_ref|reused|frozen_wake|marks_freed):' "$WW_DEBUGFS/stats"
	[ "$(ww_found zero_ref)" -eq 1 ] && [ "$(ww_found reused)" -eq 0 ] && [ "$(ww_stat frozen_wake)" -eq 0 ]
}

story() {
	cat "$WW_DEBUGFS/reports"
	tr '\n' '|' <"$WW_DEBUGFS/reports" | grep -qE \
		'zero-ref wake of PG_writeback .* ms freed on CPU . in task, task insmod [^|]*\|( {6}[^ |][^|]*\|)+ +not given back at the wake: [^|]*\| \+[0-9.]+ ms wake on'
}

plan 4
load_wakewatch
check "a page is freed that the allocator refuses" insmod "${WW_KO%.ko}_refused.ko"
check "the kernel says so" eval 'dmesg | grep "Bad page state"'
check "the wake is one of a page that nobody has" counts
check "and its story says that it was not given back" story
rmmod wakewatch_refused
finish
