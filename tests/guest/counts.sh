# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced where wakewatch's counts are held against somebody else's: those of the kernel's own function
# tracer, at the entries of the same functions. For as long as that is on, ftrace calls both from one
# trampoline.

tracefs=/sys/kernel/tracing
FUNCTIONS=(__folio_end_writeback folio_wake_bit folio_end_read)
COUNTERS=(end_writeback wake end_read)

# traced INSTANCE: events written to its buffer, those that are not in it any more, too. Those of a FUNCTION
# are its calls since counts_begin.
traced() {
	cat "$tracefs/instances/$1"/per_cpu/cpu*/stats |
		awk '/^(entries|overrun|dropped events):/ { n += $NF } END { print n + 0 }'
}

# looked_at COUNTER: what wakewatch makes of it since it was loaded. Ends of reads are counted by call site.
looked_at() {
	if [ "$1" = end_read ]; then
		awk '/^site=end_read / { sub("calls=", "", $2); n += $2 } END { print n + 0 }' "$WW_DEBUGFS/callers"
	else
		ww_stat "$1"
	fi
}

all_counted() {
	local counter
	for counter in "${COUNTERS[@]}"; do
		looked_at "$counter"
	done
}

all_traced() {
	local function
	for function in "${FUNCTIONS[@]}"; do
		traced "$function"
	done
}

# What both had counted at the beginning. In a file: check() runs what it checks in a shell of its own.
counts_base=/run/ww-counts

# What both make of it from here on. Waits until nothing is called for a moment: nobody may be at work.
counts_begin() {
	local function now last='' try
	for function in "${FUNCTIONS[@]}"; do
		mkdir "$tracefs/instances/$function" || return 1
		# Calls are counted, what is kept of them is of no use.
		echo 64 >"$tracefs/instances/$function/buffer_size_kb"
		echo "$function" >"$tracefs/instances/$function/set_ftrace_filter" || return 1
		echo function >"$tracefs/instances/$function/current_tracer" || return 1
	done
	for ((try = 0; try < 600; try++)); do
		now=$(paste -d ' ' <(all_counted) <(all_traced))
		echo "$now" >"$counts_base"
		[ "$now" != "$last" ] || return 0
		last=$now
		sleep 0.5
	done
	echo "something is called all the time"
	return 1
}

# Have both counted the same? What is at work at this moment may be in one count and not yet in the other:
# it is asked again, and what was missed stays missed.
counts_agree() {
	local try now
	for ((try = 0; try < 60; try++)); do
		now=$(paste -d ' ' <(printf '%s\n' "${FUNCTIONS[@]}") "$counts_base" <(all_counted) <(all_traced) |
			awk '{ printf "%s: called %d times, %d counted\n", $1, $5 - $3, $4 - $2 }')
		! awk '$3 <= 0 || $3 != $5 { bad = 1 } END { exit bad }' <<<"$now" || break
		sleep 0.5
	done
	echo "$now"
	[ "$try" -lt 60 ]
}

counts_end() {
	local function
	for function in "${FUNCTIONS[@]}"; do
		echo nop >"$tracefs/instances/$function/current_tracer"
		rmdir "$tracefs/instances/$function"
	done
}

# No hook has missed an event.
nothing_missed() {
	grep ^missed_ "$WW_DEBUGFS/stats" | paste -sd ' '
	! grep ^missed_ "$WW_DEBUGFS/stats" | grep -v ': 0$'
}
