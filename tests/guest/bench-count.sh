#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What an event costs, in instructions: ww_driver calls each hooked function again and again, and
# writes a file, with nothing hooked, with empty hooks of three kinds, with wakewatch, with the same in C and
# with BPF on kprobes and on direct calls; all of it twice.
# The lab boots this with one CPU under -icount, where the time stamp counter counts
# instructions (tests/bench/ww_driver.c).
#
# kernel: stock
# memory: 1G
# timeout: 900
#
# WW_BENCH: where ww_driver.ko, ww_peer.ko and ww_bench.bt are
# WW_CALLS: how often each case is measured, 500 by default

# Functions are called by their names, put together.
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

DRIVER=/sys/kernel/debug/ww_driver/run
PEER=/sys/kernel/debug/ww_peer

# result WHAT ROUND: calls and counts; the lab reads these lines.
result() {
	echo 1 >"$DRIVER" || die "measuring with $1 failed"
	sed "s/^/# count $1 $2 /" "$DRIVER"
}

# seen WHAT ROUND FILE: its counters above 0: the lab compares them.
seen() {
	sed -n "s/^\([a-z_]*\): \([1-9][0-9]*\)\$/# seen $1 $2 \1=\2/p" "$3"
}

with_nothing() {
	result none "$1"
}

# In KB, of all that the kernel says of itself; a module's code and data are vmalloc's.
memory() {
	awk '/^(Slab|Percpu|VmallocUsed):/ { print $2 }' /proc/meminfo | paste -sd ' '
}

with_wakewatch() {
	local before after
	read -r -a before < <(memory)
	load_wakewatch
	read -r -a after < <(memory)
	echo "# memory $1 slab_kb=$((after[0] - before[0])) vmalloc_kb=$((after[1] - before[1]))" \
		"percpu_kb=$((after[2] - before[2])) module_kb=$(($(cat /sys/module/wakewatch/coresize) / 1024))"
	result wakewatch "$1"
	seen wakewatch "$1" "$WW_DEBUGFS/stats"
	save_reports
	unload_wakewatch
}

# with_hooks KIND ROUND: the same hooks with nothing behind them.
with_hooks() {
	insmod "$WW_BENCH/ww_peer.ko" empty=1 hook="$1" || die "insmod ww_peer.ko failed"
	result "$1" "$2"
	rmmod ww_peer
}

with_kprobe() {
	with_hooks kprobe "$1"
}

with_ftrace() {
	with_hooks ftrace "$1"
}

with_direct() {
	with_hooks direct "$1"
}

with_peer() {
	insmod "$WW_BENCH/ww_peer.ko" || die "insmod ww_peer.ko failed"
	result c "$1"
	seen c "$1" "$PEER/stats"
	rmmod ww_peer
}

# with_program NAME ROUND FILE
with_program() {
	local out=$WW_OUT/$1.$2 pid map
	# The driver has said where the memory map is.
	read -r -a map < <(dmesg | sed -n 's/.*ww_driver: bpftrace //p' | tail -n 1)
	bpftrace "$3" "${map[@]}" >"$out" 2>&1 &
	pid=$!
	for _ in $(seq 240); do
		! grep -q '^Attaching' "$out" || break
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.5
	done
	# Said before it attaches; the last of its probes is the page allocator's.
	sleep 5
	kill -0 "$pid" 2>/dev/null || {
		head -n 20 "$out" | sed 's/^/# bpftrace: /'
		die "bpftrace did not start"
	}
	result "$1" "$2"
	kill -INT "$pid"
	wait "$pid"
	sed -n "s/^@\([a-z_]*\): \([1-9][0-9]*\)\$/# seen $1 $2 \1=\2/p" "$out"
}

with_bpftrace() {
	with_program bpftrace "$1" "$WW_BENCH/ww_bench.bt"
}

# The same on direct calls. There are no registers there: it does not look who has called. And the verifier has
# no arithmetic with what it knows for a folio: pages are told apart by their addresses.
# shellcheck disable=SC2016  # bpftrace has variables of its own
with_fentry() {
	sed -e 's/^kprobe:/kfunc:/' -e 's|\$pfn = arg0 / \$2 - \$1;|$pfn = (uint64)args->folio;|' \
		-e 's/\<arg0\>/(uint64)args->folio/' -e 's|args->pfn|(args->pfn + $1) * $2|' \
		-e 's/= \*(uint64 \*).*;/= (uint64)0;/' "$WW_BENCH/ww_bench.bt" >"$WW_OUT/ww_fentry.bt"
	with_program fentry "$1" "$WW_OUT/ww_fentry.bt"
}

plan 17
setup_loop
dd if=/dev/zero of="$WW_MNT/file" bs=4k count=4 conv=fsync status=none || die "no file to measure with"
[ -d /sys/kernel/debug/tracing ] || mount -t debugfs debugfs /sys/kernel/debug
# The measured task is to be alone: nothing may come in between but the timer.
check "the driver" insmod "$WW_BENCH/ww_driver.ko" path="$WW_MNT/file" calls="${WW_CALLS:-500}"
# An interpreted program would not be bpftrace at its best.
diag "bpf_jit_enable: $(cat /proc/sys/net/core/bpf_jit_enable)"
diag "$(bpftrace --version)"
for round in 1 2; do
	for what in nothing kprobe ftrace direct wakewatch peer bpftrace fentry; do
		"with_$what" "$round"
		ok "round $round with $what"
	done
done
rmmod ww_driver
finish
