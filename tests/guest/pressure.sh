# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# For scripts that let memory run short, and judge by the kernel's own counters and its log what
# came of it. Sourced after lib.sh.

# What follows lives here, on memory that is not swapped out.
run=/run/ww-pressure
# Of the swap device.
swap_mb=256
# Left to the work, of however much memory the guest has.
room_mb=192

# mem NAME: megabytes, from /proc/meminfo.
mem() {
	awk -v name="$1:" '$1 == name { print int($2 / 1024) }' /proc/meminfo
}

# vm NAME...: how much these counters of /proc/vmstat have grown since fill_memory().
vm() {
	local name sum=0
	for name in "$@"; do
		sum=$((sum + $(sed -n "s/^$name //p" /proc/vmstat) - $(sed -n "s/^$name //p" "$run/vmstat")))
	done
	echo "$sum"
}

# zero DESCRIPTION VALUE: ok if it is 0.
zero() {
	if [ "$2" = 0 ]; then
		ok "$1"
	else
		not_ok "$1: $2"
	fi
}

# happened DESCRIPTION VALUE [LIMIT]: ok if it is above the limit, 0 by default.
happened() {
	if [ "${2:-0}" -gt "${3:-0}" ]; then
		ok "$1 ($2)"
	else
		not_ok "$1: ${2:-nothing counted}"
	fi
}

# Swap on a loop device, which ends writeback of its own.
setup_swap() {
	mkdir -p "$run"
	mount -t tmpfs -o "noswap,size=90%" ww-pressure "$run" || die "no tmpfs at $run"
	# Allocated beforehand, so that swapping out never needs memory.
	fallocate -l "${swap_mb}M" "$run/swap" || die "no memory for $swap_mb MB of swap"
	chmod 600 "$run/swap"
	swap=$(losetup -f --show "$run/swap") || die "no loop device for swap"
	mkswap "$swap" >/dev/null
	swapon "$swap" || die "no swap"
}

teardown_swap() {
	# What is swapped out needs room.
	rm -f "$run/ballast"
	swapoff "$swap" && losetup -d "$swap"
}

# Takes all memory but $room_mb, and sets $hog: of what one touches so much, something has to go, but
# not all of it. The log is kept from here on: its buffer is too small for all of it.
fill_memory() {
	local ballast
	dmesg -C
	dmesg --follow >"$run/dmesg" &
	dmesg_pid=$!
	cp /proc/vmstat "$run/vmstat"
	ballast=$(($(mem MemAvailable) - room_mb))
	[ "$ballast" -lt 1 ] || fallocate -l "${ballast}M" "$run/ballast"
	hog=$((room_mb + swap_mb / 4))
	diag "$(mem MemTotal) MB of memory, $(mem MemAvailable) available, $swap_mb of swap, $hog wanted"
}

# The log is whole in $run/dmesg.
end_log() {
	kill "$dmesg_pid"
	wait "$dmesg_pid" 2>/dev/null
}

# ended NAME PID: it came to a good end; what it said as diagnostics, and the last of it with the result.
ended() {
	local status=0
	wait "$2" || status=$?
	sed 's/^/# /' "$run/$1.log"
	if [ "$status" -eq 0 ]; then
		ok "$1 ran to its end ($(tail -n 1 "$run/$1.log"))"
	else
		not_ok "$1 ran to its end: status $status"
	fi
}

# What the kernel has found, in $run/dmesg, as one result.
no_findings() {
	local findings races ours waker assertion
	findings=$(grep -E 'BUG:|WARNING:|kernel BUG|Oops|INFO: .*(blocked|stall)' "$run/dmesg" | grep -v 'BUG: wakewatch: ')
	# With CONFIG_VARIANT=kcsan the kernel's own races are told as well. A race of wakewatch's has a line
	# of its code in one of the two stacks.
	races=$(printf '%s\n' "$findings" | grep -c 'BUG: KCSAN: ')
	if [ "$races" -gt 0 ]; then
		ours=$(awk '/BUG: KCSAN: / { title = $0 } title && /\[wakewatch\]/ { print title; title = "" } /={20}/ { title = "" }' "$run/dmesg")
		diag "$races data races reported by KCSAN, $(printf '%s' "$ours" | grep -c .) of them with wakewatch in a stack"
		findings=$(printf '%s\n' "$findings" | grep -v 'BUG: KCSAN: '; [ -z "$ours" ] || printf '%s\n' "$ours")
	fi
	# A read that completes on a page dropped meanwhile is a late wake that needs no fault of the end of
	# writeback (read-race.sh). The fixed kernel's own assertion speaks of it too, once. wakewatch has it as
	# well unless the page went after its probe and before the assertion, which come one after the other.
	# What makes the assertion right is its caller: from any other it is a finding.
	assertion='WARNING: .* folio_wake_bit+'
	waker=$(awk '/WARNING: .* folio_wake_bit\+/ { fired = 1 }
		fired && /(<TASK>|<IRQ>|Call Trace:)$/ { calls = 1; next }
		calls { sub(/^\[[^]]*\](\[[^]]*\])? */, ""); if ($1 != "?") { sub(/\+.*/, ""); print; exit } }' "$run/dmesg")
	case $waker in
	# Of ext4, of a block device, and of btrfs and XFS, whose folio_end_read() and folio_unlock() jump.
	__read_end_io | mpage_read_end_io | folio_end_read | end_bbio_data_read | iomap_read_end_io)
		diag "the kernel's assertion in folio_wake_bit() has fired in $waker();" \
			"wakewatch has $(grep -c 'BUG: wakewatch: zero-ref wake of PG_locked' "$run/dmesg") late wakes of PG_locked"
		findings=$(printf '%s\n' "$findings" | grep -v "$assertion")
		;;
	'') ;;
	*) diag "the kernel's assertion in folio_wake_bit() has fired in $waker()" ;;
	esac
	if [ -z "$findings" ]; then
		ok "the kernel log has no finding"
	else
		not_ok "the kernel log has findings"
		printf '%s\n' "$findings" | sed 's/^/# /'
	fi
}
