# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# For scripts that load and unload the module. Sourced after lib.sh.

# Progress: check() keeps what is said on the other two.
exec 3>&1

# The kernel log since the last mark().
mark() {
	mark=ww-mark-$RANDOM$RANDOM
	echo "$mark" >/dev/kmsg
}

since_mark() {
	# The first load of any out-of-tree module says so; that isn't about wakewatch.
	kernel_log | sed "1,/$mark/d" | grep -v 'taints kernel' || true
}

# Neither the module nor anything it registers is there.
nothing_left() {
	! grep -q '^wakewatch ' /proc/modules || { echo "module is loaded"; return 1; }
	[ ! -e "$WW_DEBUGFS" ] || { echo "$WW_DEBUGFS is there"; return 1; }
	[ ! -e /sys/kernel/tracing/events/wakewatch ] || { echo "its trace events are there"; return 1; }
	! grep -E 'folio|wake_page' /sys/kernel/debug/kprobes/list || return 1
	! grep -E 'ww_|folio|wake' /sys/kernel/debug/tracing/enabled_functions
}

no_splat() {
	! since_mark | grep -E 'BUG:|WARNING:|Oops|kernel BUG|stall|lockup'
}

write_load() {
	while :; do
		dd if=/dev/zero of="$WW_MNT/load.$1" bs=64k count=32 conv=fsync 2>/dev/null
		truncate -s 4096 "$WW_MNT/load.$1"
	done
}

# load_unload N: so many times.
load_unload() {
	local i
	for ((i = 0; i < $1; i++)); do
		# Every other time with a delay at each kind of probe, so that both are taken down
		# in use.
		case $((i % 4)) in
		1) set -- "$1" amplify=where=after-clear,us=100,every=3 ;;
		2) set -- "$1" amplify=where=after-wake,us=100,every=3 ;;
		3) set -- "$1" amplify=where=before-wake,us=100,every=3 ;;
		*) set -- "$1" enable=1 ;;
		esac
		insmod "$WW_KO" "$2" || return 1
		rmmod wakewatch || return 1
		[ "$(((i + 1) % 100))" -ne 0 ] || diag "$((i + 1)) of $1" >&3
	done
	nothing_left
}

delay_was_made() {
	[ "$(ww_stat delays)" -ge 1 ]
}

# unload_in_window PLACE: a delay of 2 s on one page, and rmmod in the middle of it.
unload_in_window() {
	local writer
	insmod "$WW_KO" "amplify=where=$1,us=2000000,dev=$(fs_dev)" || return 1
	dd if=/dev/zero of="$WW_MNT/window" bs=4k count=1 conv=fsync 2>/dev/null &
	writer=$!
	# The delay must be going on: this is what is unloaded under.
	wait_for delay_was_made || { echo "no delay was made"; rmmod wakewatch; return 1; }
	rmmod wakewatch || return 1
	wait "$writer"
	nothing_left
}
