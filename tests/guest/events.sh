#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Every verdict that can be had without the kernel dying of it, for every wake bit: the real
# functions are called on a page that is made to look owned, frozen or freed (see
# rust/events_main.rs). The guest's writeback statistics are off afterwards.
#
# kernel: fixed
# memory: 512M
# timeout: 60
# expect: VM_WARN_ON_ONCE_FOLIO(folio_was_freed(folio))

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

# counts NAME=VALUE...: these counters are just that.
counts() {
	local want status=0
	for want in "$@"; do
		[ "$(ww_found "${want%=*}")" = "${want#*=}" ] || {
			echo "${want%=*} is $(ww_found "${want%=*}"), not ${want#*=}"
			status=1
		}
	done
	return "$status"
}

# reported N TEXT: that many reports with this in their headline, in `reports` and in the log.
reported() {
	local count
	count=$("$WW_REPRO" findings --rest <"$WW_DEBUGFS/reports" | grep -c "^BUG: wakewatch: $2 in ")
	[ "$count" -eq "$1" ] || { echo "$count in reports"; return 1; }
	reports_are_printed
	count=$(kernel_log | grep -c "BUG: wakewatch: $2 in ")
	[ "$count" -eq "$1" ] || { echo "$count in the log"; return 1; }
}

# The assertion of patches/6.12/fix says it of a freed page, once, and of no frozen one.
assertion() {
	[ "$(kernel_log | grep -c 'WARNING: .* folio_wake_bit')" -eq 1 ] || return 1
	kernel_log | grep -A 8 'page: refcount:0' | tee /dev/stderr | grep -q 'flags:' || return 1
	! kernel_log | grep -A 8 'page: refcount:0' | grep -E 'flags:.*(waiters|uptodate)'
}

# The report of the reused page tells the whole story: each of these lines, in this order.
story() {
	local report
	report=$(sed -n '/reused wake of PG_writeback/,/^====/p' "$WW_DEBUGFS/reports")
	printf '%s\n' "$report"
	printf '%s\n' "$report" | tr '\n' '|' | grep -qE \
		'story:\| \+0\.000 ms clear on CPU . in task, task insmod pid [0-9]+, by [^|]*\| \+[0-9.]+ ms freed on CPU . in task, task insmod pid [0-9]+\|( {6}[^|]*\|)+ \+[0-9.]+ ms allocated on CPU . in task, task insmod pid [0-9]+\|( {6}[^|]*\|)+ \+[0-9.]+ ms wake on CPU' ||
		{ echo "not told"; return 1; }
	printf '%s\n' "$report" | grep -qE '^wakewatch: story verdict=reused .* bit=PG_writeback clear_ns=[0-9]+ caller=.* freed=[0-9]+ freed_cpu=. freed_pid=[0-9]+ allocated=[0-9]+ .* wake=[0-9]+ victims=0$' ||
		{ echo "no line for machines"; return 1; }
}

# Later kernels assert by themselves that a page whose writeback starts is locked, and it is: events_main.rs.
unlocked=2
[ "$(uname -r | cut -d. -f1)" -lt 7 ] || unlocked=0

plan 13
load_wakewatch
check "nothing is found before anything is raised" counts unbalanced=0 unreferenced=0 \
	zero_ref=0 tail=0 reused=0 unlocked_start=0 frozen_wake=0
rearm_assertions
check "events are raised" insmod "${WW_KO%.ko}_events.ko"
check "they are counted" counts frozen_wake=3 zero_ref=3 unbalanced=1 unreferenced=1 \
	tail=0 reused=1 unlocked_start=$unlocked reports_dropped=0 reports_suppressed=0
for bit in locked writeback private_2; do
	check "a wake of PG_$bit on a freed page is reported" reported 1 "zero-ref wake of PG_$bit"
done
check "a frozen refcount isn't" reported 3 "zero-ref wake of PG_.*"
check "the end of no writeback is reported" reported 1 "unbalanced end of writeback"
check "the end of one that nobody holds is reported" reported 1 "unreferenced end of writeback"
if [ "$unlocked" -gt 0 ]; then
	check "the start of writeback of an unlocked page is reported" reported 2 "unlocked-start start of writeback"
else
	skip_test "the start of writeback of an unlocked page is reported" "it is a BUG of this kernel's own"
fi
check "a page that was freed and allocated again is reported" reported 1 "reused wake of PG_writeback"
check "and its story is told" story
check "the kernel's own assertion fires for the freed page, not for the frozen one" assertion
rmmod wakewatch_events
finish
