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

# What must have happened before the work may end, however long a busy host takes for it: a description, how
# it is counted, and what the count must be above (0 if it isn't said), with bars between.
happenings=()

# The count of a happening, and its limit.
counted() { # HAPPENING
	local how limit
	IFS='|' read -r _ how limit <<<"$1"
	# shellcheck disable=SC2086  # words
	echo "$($how) ${limit:-0}"
}

all_happened() {
	local happening count limit
	for happening in "${happenings[@]}"; do
		read -r count limit <<<"$(counted "$happening")"
		[ "$count" -gt "$limit" ] || return 1
	done
}

# One result for each.
judge_happenings() {
	local happening count limit
	for happening in "${happenings[@]}"; do
		read -r count limit <<<"$(counted "$happening")"
		happened "${happening%%|*}" "$count" "$limit"
	done
}

over() {
	[ -e "$run/over" ]
}

# work_until_all_happened SECONDS PID...: for so long, and for as long as something has not happened that must
# have, but half an hour; or until one of these is gone. Then it is over().
work_until_all_happened() {
	local end=$((SECONDS + $1)) pid
	shift
	while [ "$SECONDS" -lt "$end" ] || { [ "$SECONDS" -lt $((end + 1800)) ] && ! all_happened; }; do
		for pid; do
			kill -0 "$pid" 2>/dev/null || break 2
		done
		sleep 1
	done
	touch "$run/over"
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
	local findings races ours
	# Without what a kernel may say by itself, of the live read race and of a busy host (tests/findings).
	findings=$("$WW_REPRO" findings --rest <"$run/dmesg" |
		grep -E 'BUG:|WARNING:|kernel BUG|Oops|INFO: .*(blocked|stall)' | grep -v 'BUG: wakewatch: ')
	# With CONFIG_VARIANT=kcsan the kernel's own races are told as well. A race of wakewatch's has a line
	# of its code in one of the two stacks.
	races=$(printf '%s\n' "$findings" | grep -c 'BUG: KCSAN: ')
	if [ "$races" -gt 0 ]; then
		ours=$(awk '/BUG: KCSAN: / { title = $0 } title && /\[wakewatch\]/ { print title; title = "" } /={20}/ { title = "" }' "$run/dmesg")
		diag "$races data races reported by KCSAN, $(printf '%s' "$ours" | grep -c .) of them with wakewatch in a stack"
		findings=$(printf '%s\n' "$findings" | grep -v 'BUG: KCSAN: '; [ -z "$ours" ] || printf '%s\n' "$ours")
	fi
	"$WW_REPRO" findings <"$run/dmesg" | sed -n \
		-e 's/^live /# the live read race, told by /p' \
		-e 's/^late kernel /# the host hardly ran this guest: /p'
	if [ -z "$findings" ]; then
		ok "the kernel log has no finding"
	else
		not_ok "the kernel log has findings"
		printf '%s\n' "$findings" | sed 's/^/# /'
	fi
}
