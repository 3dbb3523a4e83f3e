#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the module tells of a healthy kernel: call sites, window lengths, samples, and trace events
# in the three programs that people read them with.
#
# kernel: stock
# memory: 1G
# timeout: 150

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

# Writes that somebody waits for: their wakes end windows.
write_and_wait() {
	local i
	for i in 1 2 3 4 5 6; do
		dd if=/dev/zero of="$WW_MNT/file.$i" bs=64k count=16 conv=fsync status=none || return 1
	done
}

# ext4, which may be a module, ends its writeback in ext4_finish_bio(), and folio_end_writeback() holds a
# reference.
callers_are_told() {
	write_and_wait || return 1
	cat "$WW_DEBUGFS/callers"
	grep -qE '^site=end_writeback calls=[1-9][0-9]* none=0 spare_min=[12] spare_max=[0-9]+ verdict=held caller=ext4_finish_bio\+0x[0-9a-f]+/0x[0-9a-f]+( \[ext4\])?$' "$WW_DEBUGFS/callers"
}

# A line of `callers` counts each call: together they are all that was looked at.
callers_add_up() {
	local calls seen
	calls=$(sed -n 's/^site=end_writeback calls=\([0-9]*\).*/\1/p' "$WW_DEBUGFS/callers" | paste -sd+ | bc)
	seen=$(ww_stat end_writeback)
	[ "$calls" -eq "$seen" ] || { echo "$calls calls, $seen ends of writeback"; return 1; }
}

# The histogram's counts add up to its n, and to the windows that were woken.
lengths_add_up() {
	local woken all=0 line count n
	cat "$WW_DEBUGFS/windows"
	while read -r line; do
		n=$(sed -n 's/.* n=\([0-9]*\).*/\1/p' <<<"$line")
		count=$(grep -oE ' [0-9]+:[0-9]+' <<<"$line" | sed 's/.*://' | paste -sd+ | bc)
		[ "$n" -eq "$count" ] || { echo "n is not the sum: $line"; return 1; }
		all=$((all + n))
	done < <(grep '^site=' "$WW_DEBUGFS/windows")
	woken=$(ww_stat windows_woken)
	if [ "$all" -eq 0 ] || [ "$all" -ne "$woken" ]; then
		echo "$all in the file, $woken woken"
		return 1
	fi
	grep -qE '^table open=[0-9]+ freed=[0-9]+ room=1024$' "$WW_DEBUGFS/windows"
}

quiet() {
	echo 0 >"$WW_DEBUGFS/enable"
}

# Readahead gives its reference away before the read has ended: nobody's keeps the page until its wake. That
# is so on any kernel, and said without a report.
# Of ext4; a compiler may have made the inner one a part of the other.
open_reads_are_told() {
	local file open
	sync
	echo 3 >/proc/sys/vm/drop_caches
	for file in "$WW_MNT"/file.*; do cat "$file" >/dev/null; done
	cat "$WW_DEBUGFS/callers"
	open=$(ww_stat unreferenced_reads)
	echo "$open ends of reads without a reference, unreferenced: $(ww_stat unreferenced)"
	grep -qE '^site=end_read calls=[1-9][0-9]* none=[1-9][0-9]* spare_min=0 spare_max=[0-9]+ verdict=unreferenced caller=(__read_end_io|mpage_end_io)\+' "$WW_DEBUGFS/callers" || return 1
	[ "$open" -gt 0 ] && [ "$(ww_stat unreferenced)" -eq 0 ]
}

# What is not asked for costs nothing.
reading_is_not_audited() {
	echo audit_read=0 >"$WW_DEBUGFS/config"
	echo 1 >"$WW_DEBUGFS/reset"
	echo 3 >/proc/sys/vm/drop_caches
	cat "$WW_MNT"/file.* >/dev/null
	cat "$WW_DEBUGFS/callers"
	! grep -q '^site=end_read' "$WW_DEBUGFS/callers" && [ "$(ww_stat unreferenced_reads)" -eq 0 ]
	local status=$?
	echo audit_read=1 >"$WW_DEBUGFS/config"
	return "$status"
}

# One page in four. Two events a page are counted where it isn't looked at, the start and the end of
# its writeback, so there are about six for each end that is.
samples() {
	local in out
	echo sample=4 >"$WW_DEBUGFS/config"
	echo 1 >"$WW_DEBUGFS/reset"
	dd if=/dev/zero of="$WW_MNT/sample" bs=64k count=256 conv=fsync status=none || return 1
	in=$(ww_stat end_writeback)
	out=$(ww_stat sampled_out)
	echo sample=1 >"$WW_DEBUGFS/config"
	echo "$in ends of writeback, $out events not looked at"
	[ "$out" -gt $((in * 4)) ] && [ "$out" -lt $((in * 9)) ]
}

is_reset() {
	local name
	quiet
	echo 1 >"$WW_DEBUGFS/reset"
	for name in end_writeback wake windows_opened windows_woken sampled_out; do
		[ "$(ww_stat "$name")" -eq 0 ] || { echo "$name is $(ww_stat "$name")"; return 1; }
	done
	[ ! -s "$WW_DEBUGFS/callers" ] && ! grep -q ^site= "$WW_DEBUGFS/windows"
	echo 1 >"$WW_DEBUGFS/enable"
}

raise_events() {
	insmod "${WW_KO%.ko}_events.ko" && rmmod wakewatch_events
}

# all_three FILE: each of the events is there, and they say what they are to say.
all_three() {
	cat "$1"
	grep -qE 'wake_leak:.*verdict=reused bit=writeback pfn=0x[0-9a-f]+ refcount=1 since_clear_ns=[0-9]+ caller=' "$1" &&
		grep -qE 'wake_leak:.*verdict=zero-ref bit=locked ' "$1" &&
		grep -qE 'end_unreferenced:.*pfn=0x[0-9a-f]+ refcount=1 spare=0 caller=' "$1" &&
		grep -qE 'window:.*bit=writeback length_ns=[0-9]+ caller=' "$1"
}

by_trace_cmd() {
	command -v trace-cmd >/dev/null || return 4
	(cd "$WW_OUT" && trace-cmd record -q -e wakewatch -o /tmp/trace.dat \
		bash -c "insmod '${WW_KO%.ko}_events.ko'" >/dev/null) || return 1
	rmmod wakewatch_events
	trace-cmd report -i /tmp/trace.dat >/tmp/trace.txt 2>/dev/null
	all_three /tmp/trace.txt
}

by_perf() {
	command -v perf >/dev/null || return 4
	perf record -q -a -e 'wakewatch:*' -o /tmp/perf.data \
		bash -c "insmod '${WW_KO%.ko}_events.ko'" >/dev/null 2>&1 || return 1
	rmmod wakewatch_events
	perf script -i /tmp/perf.data >/tmp/perf.txt 2>/dev/null
	all_three /tmp/perf.txt
}

by_bpftrace() {
	local program pid
	program='BEGIN { printf("ready\n"); }
		tracepoint:wakewatch:wake_leak { @leak[args->verdict, args->bit] = count(); }
		tracepoint:wakewatch:end_unreferenced { @unreferenced[args->spare] = count(); }
		tracepoint:wakewatch:window { @length_ns = hist(args->length_ns); }'
	bpftrace -e "$program" >/tmp/bpftrace.txt 2>&1 &
	pid=$!
	wait_for grep -q ready /tmp/bpftrace.txt
	raise_events
	# Of one that comes before bpftrace's handler is there nothing is left: the shell has it ignored.
	for _ in $(seq 240); do
		kill -INT "$pid" 2>/dev/null || break
		sleep 0.5
	done
	! kill -KILL "$pid" 2>/dev/null || { echo "bpftrace does not end"; return 1; }
	wait "$pid"
	cat /tmp/bpftrace.txt
	grep -q '^@leak\[2, ' /tmp/bpftrace.txt && grep -q '^@leak\[0, ' /tmp/bpftrace.txt &&
		grep -q '^@unreferenced\[0\]: 1' /tmp/bpftrace.txt && grep -q '^@length_ns' /tmp/bpftrace.txt
}

tainted() {
	[ $((($(cat /proc/sys/kernel/tainted) >> 9) & 1)) -eq "$1" ]
}

# By a finding alone: the live read race may have made one.
tainted_by_findings() {
	reports_are_printed
	if [ -s "$WW_DEBUGFS/reports" ]; then tainted 1; else tainted 0; fi
}

# with PROGRAM DESCRIPTION FUNCTION: skipped where the program isn't.
with() {
	if command -v "$1" >/dev/null; then
		check "$2" "$3"
	else
		skip_test "$2" "no $1 here; make setup installs it"
	fi
}

plan 12
setup_loop
load_wakewatch
check "call sites are told, with the references they had" callers_are_told
quiet
check "and are all there are" callers_add_up
check "lengths of windows are told by call site" lengths_add_up
echo 1 >"$WW_DEBUGFS/enable"
check "ends of reads that nobody's reference keeps are told by call site" open_reads_are_told
check "and not where that is not asked for" reading_is_not_audited
check "a sample of pages is looked at when asked for" samples
check "reset empties counters, call sites and windows" is_reset
check "a kernel without a finding isn't tainted" tainted_by_findings
with trace-cmd "trace events: trace-cmd" by_trace_cmd
with perf "trace events: perf" by_perf
with bpftrace "trace events: bpftrace" by_bpftrace
reports_are_printed
check "a report taints the kernel as a warning does" wait_for tainted 1
finish
