#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Wakes that don't come by folio_wake_bit(): past.sh none|some. `some' is for a kernel whose folio_end_read()
# has it inlined (tests/mutants/6.12/wake-inlined). Then, on any kernel, as if there were no folio_wake_bit().
#
# kernel: any
# memory: 1G
# timeout: 120

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

SAYS="some wakes don't come by folio_wake_bit()"

# Reads, until somebody has had to wait for one.
read_and_wait() {
	for _ in {1..50}; do
		echo 1 >/proc/sys/vm/drop_caches
		cat "$WW_MNT"/file.* >/dev/null &
		cat "$WW_MNT"/file.* >/dev/null
		wait $!
		! grep -q ^site=end_read "$WW_DEBUGFS/windows" || return 0
	done
	echo "nobody had to wait"
}

# said N: the line is in the log that often.
said() {
	[ "$1" -eq 0 ] || wait_for in_log "$SAYS" || return 1
	[ "$(dmesg | grep -c "$SAYS")" -eq "$1" ] || { dmesg | grep "$SAYS"; return 1; }
}

shown() {
	grep -E '^(wake|wakes_past|windows_(opened|woken|foreign|doubted)|missed_past):' "$WW_DEBUGFS/stats" | paste -sd ' '
	grep ^site=end_read "$WW_DEBUGFS/windows"
}

some() {
	read_and_wait
	shown
	[ "$(ww_stat wakes_past)" -gt 0 ] && [ "$(ww_stat windows_doubted)" -eq 0 ] &&
		grep -q ^site=end_read "$WW_DEBUGFS/windows" && said 1
}

none() {
	read_and_wait
	shown
	[ "$(ww_stat wakes_past)" -eq 0 ] && grep -q ^site=end_read "$WW_DEBUGFS/windows" && said 0
}

all_past() {
	read_and_wait
	shown
	[ "$(ww_stat wakes_past)" -gt 0 ] && [ "$(ww_stat wake)" -eq "$(ww_stat wakes_past)" ] &&
		grep -q ^site=end_read "$WW_DEBUGFS/windows"
}

# As in events.sh, on a kernel with VM_BUG_ON()s.
all_are_judged() {
	if ! insmod "${WW_KO%.ko}_events.ko"; then
		return 1
	fi
	rmmod wakewatch_events
	shown
	grep -E '^(frozen_wake|zero_ref|reused):' "$WW_DEBUGFS/stats" | paste -sd ' '
	[ "$(ww_stat wake)" -eq "$(ww_stat wakes_past)" ] && [ "$(ww_stat frozen_wake)" -eq 3 ] &&
		[ "$(ww_found zero_ref)" -eq 3 ] && [ "$(ww_found reused)" -eq 1 ]
}

no_delay_before() {
	! echo "where=before-wake us=5" 2>/dev/null >"$WW_DEBUGFS/amplify" && dmesg | grep -q "no folio_wake_bit() to delay"
}

plan 5
setup_loop
for i in 1 2 3 4; do
	dd if=/dev/zero of="$WW_MNT/file.$i" bs=64k count=4 conv=fsync status=none
done
load_wakewatch
check "wakes past folio_wake_bit(): $1" "$1"
unload_wakewatch
load_wakewatch wake_symbol=folio_wake_bit.llvm.1
check "without folio_wake_bit() wakes end windows" all_past
check "and pages are judged" all_are_judged
check "which is not told as a surprise" said "$([ "$1" = some ] && echo 1 || echo 0)"
check "there is nothing to delay before" no_delay_before
finish
