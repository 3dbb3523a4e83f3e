#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Switching that fails half-way: what the files say is what is on. Kprobes are switched off as a whole, so
# that none can be armed, or ftrace, without which nothing can be hooked.
#
# kernel: any
# memory: 512M
# timeout: 60

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

KPROBES=/sys/kernel/debug/kprobes

kprobes() {
	echo "$1" >"$KPROBES/enabled"
}

# Tracepoints and probes of ours, armed or not, by a name each.
probes() {
	grep -E 'folio|wake' "$KPROBES/list" | sed 's/^[0-9a-f]* *//;s/ \[FTRACE\]//' | sort
}

# refused FILE TEXT: and the file and the probes are as they were.
refused() {
	local before after list
	list=$(probes)
	before=$(cat "$WW_DEBUGFS/$1")
	! echo "$2" 2>/dev/null >"$WW_DEBUGFS/$1" || { echo "was taken"; return 1; }
	after=$(cat "$WW_DEBUGFS/$1")
	[ "$after" = "$before" ] || { echo "$1 was $before, is $after"; return 1; }
	diff <(echo "$list") <(probes)
}

refused_without_ftrace() {
	local status=0
	echo 0 >/proc/sys/kernel/ftrace_enabled
	refused "$@" || status=1
	echo 1 >/proc/sys/kernel/ftrace_enabled
	return "$status"
}

works() {
	local before
	before=$(ww_stat end_writeback)
	dd if=/dev/zero of="$WW_MNT/file" bs=64k count=4 conv=fsync status=none
	[ "$(ww_stat end_writeback)" -gt "$before" ] || { echo "sees nothing"; return 1; }
	[ "$(ww_stat windows_opened)" -gt 0 ]
}

delays() {
	local before
	before=$(ww_stat delays)
	dd if=/dev/zero of="$WW_MNT/file" bs=64k count=4 conv=fsync status=none
	[ "$(ww_stat delays)" -gt "$before" ] || { echo "delays nothing"; return 1; }
}

plan 12
setup_loop
load_wakewatch hook=kprobe always=1
echo 0 >"$WW_DEBUGFS/enable"
kprobes 0
check "enable=1 can't be had: it stays 0" refused enable 1
check "nor a delay before-wake: there is none" refused amplify "where=before-wake us=10"
for place in before-clear after-clear after-wake; do
	check_ftrace_off "nor, without ftrace, a delay $place: there is none" \
		refused_without_ftrace amplify "where=$place us=10"
done
echo "where=after-clear us=10" >"$WW_DEBUGFS/amplify"
check "a delay at a return needs no kprobe" delays
check "another delay can't be had: that one stays" refused amplify "where=before-wake us=20"
check "nor enable=1: it stays 0" refused enable 1
check "and it still delays" delays
kprobes 1
echo 1 >"$WW_DEBUGFS/enable"
check "afterwards it can" works
kprobes 0
check "a knob can't be had: it stays" refused config "unlock=1"
kprobes 1
check "and it delays, all the time" delays
finish
