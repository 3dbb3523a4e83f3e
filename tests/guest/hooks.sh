#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The ways to hook a function: each says what it is, nothing is missed by the first two, whatever runs, and what
# is off leaves nothing behind. What somebody else has counted is the measure: the kernel's own function
# tracer, at the same place.
#
# kernel: any
# memory: 1G
# timeout: 300

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/counts.sh"

# Pages written and read back by several at once, for interrupts to come in the middle.
work() {
	local i pids=()
	for i in 1 2 3 4; do
		dd if=/dev/zero of="$WW_MNT/$i" bs=64k count=64 conv=fsync status=none &
		pids+=($!)
	done
	wait "${pids[@]}"
	sync
	echo 1 >/proc/sys/vm/drop_caches
	pids=()
	for i in 1 2 3 4; do
		cat "$WW_MNT/$i" >/dev/null &
		pids+=($!)
		cat "$WW_MNT/$i" >/dev/null &
		pids+=($!)
	done
	wait "${pids[@]}"
	# The last completions.
	sync
}

# Reads of a file that is not cached.
work_reads() {
	dd if="$WW_MNT/read" of=/dev/null bs=64k status=none
	dd if="$WW_MNT/read" iflag=nocache count=0 status=none
}

agrees() { # WAY
	local status=0
	load_wakewatch "hook=$1" || return 1
	grep ^hook_ "$WW_DEBUGFS/stats" | paste -sd ' '
	! grep ^hook_ "$WW_DEBUGFS/stats" | grep -vE ": (off|$1)\$" || status=1
	sync
	counts_begin || status=1
	work
	work
	counts_agree || status=1
	counts_end
	nothing_missed || status=1
	unload_wakewatch
	return "$status"
}

# Long delays in a handler, with interrupts that come to handlers meanwhile: a kprobe misses those.
nested() { # WAY
	local missed=0 reader tries=4 i
	load_wakewatch "hook=$1" || return 1
	# Reads end in softirqs, and what was preallocated is written by tasks.
	(while work_reads; do :; done) &
	reader=$!
	# A kprobe's miss is waited for: with a busy host interrupts come when they can.
	[ "$1" != kprobe ] || tries=40
	for ((i = 0; i < tries; i++)); do
		# In the handler of a hook, of which there are few, and in that of a function's return, which is no kprobe's.
		case $((i % 2)) in
		0) amplify where=before-wake us=20000 ;;
		1) amplify where=after-clear us=20000 every=20 ;;
		esac
		work
		missed=$(awk '/^missed_/ { n += $2 } END { print n }' "$WW_DEBUGFS/stats")
		[ "$1" != kprobe ] || [ "$missed" -eq 0 ] || break
	done
	kill "$reader"
	wait "$reader" 2>/dev/null
	amplify off
	echo "delays: $(ww_stat delays)"
	grep ^missed_ "$WW_DEBUGFS/stats" | paste -sd ' '
	[ "$(ww_stat delays)" -gt 0 ] || { echo "nothing was delayed"; return 1; }
	unload_wakewatch
	if [ "$1" = kprobe ]; then
		[ "$missed" -gt 0 ]
	else
		[ "$missed" -eq 0 ]
	fi
}

# at FUNCTION: what is called at its entry, as ftrace has it.
at_entry() {
	grep -E "^$1 " "$tracefs/enabled_functions"
}

# While it is off, its functions' entries are what they are without it.
leaves_nothing() { # WAY
	local status=0 function
	load_wakewatch "hook=$1" || return 1
	for function in "${FUNCTIONS[@]}"; do
		at_entry "$function" || { echo "$function: nothing is called"; status=1; }
	done
	echo 0 >"$WW_DEBUGFS/enable"
	for function in "${FUNCTIONS[@]}"; do
		! at_entry "$function" || status=1
	done
	! grep ^hook_ "$WW_DEBUGFS/stats" | grep -v ': off$' || status=1
	unload_wakewatch
	return "$status"
}

# What is called directly: 7.3 takes an odd address for something else, and never says so.
aligned() {
	local status=0
	load_wakewatch || return 1
	! grep -E '^[0-9a-f]*[1-9a-f] . ww_direct_' /proc/kallsyms || status=1
	grep -q ' ww_direct_wake' /proc/kallsyms || { echo "no trampoline"; status=1; }
	unload_wakewatch
	return "$status"
}

plan 10
setup_loop
# Requests end in a softirq of the CPU that they came from, and so in the middle of what that one does.
echo 2 >"/sys/block/${ww_loop#/dev/}/queue/rq_affinity"
# And workers are on any CPU, as on a machine that isn't set up for a race.
echo 3 >/sys/devices/virtual/workqueue/cpumask
mount -t tracefs tracefs "$tracefs" 2>/dev/null
dd if=/dev/zero of="$WW_MNT/read" bs=64k count=64 conv=fsync status=none
check "trampolines are aligned" aligned
for way in ${WAYS:-direct ftrace kprobe}; do
	check "hook=$way: as many calls as somebody else has counted" agrees "$way"
	check "hook=$way: off, and nothing is called" leaves_nothing "$way"
done
check "hook=direct: nothing is missed while handlers take long" nested direct
check "hook=ftrace: nothing is missed while handlers take long" nested ftrace
check "hook=kprobe: what is missed is counted" nested kprobe
finish
