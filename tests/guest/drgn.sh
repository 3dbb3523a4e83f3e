#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# scripts/wakewatch.drgn.py, run on the kernel that it runs on, says what wakewatch's files say. With
# WW_DUMP=1 the lab dumps the guest's memory when asked for it, and has the same files to compare
# the dump with.
#
# From the lab: WW_DRGN, WW_VMLINUX, WW_ROOT.
#
# kernel: stock
# memory: 512M
# timeout: 300 (drgn reads all of vmlinux' debugging information, through 9p)

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

FILES="stats reports callers windows"

[ -x "${WW_DRGN:-}" ] || skip_all "no drgn (make setup installs it)"
[ -r "${WW_VMLINUX:-}" ] || skip_all "no vmlinux with debugging information"
[ -r /proc/kcore ] || skip_all "this kernel has no /proc/kcore"

# snapshot NAME: the files as they are now.
snapshot() {
	local file
	mkdir -p "$WW_OUT/$1"
	for file in $FILES; do cat "$WW_DEBUGFS/$file" >"$WW_OUT/$1/$file" || return 1; done
}

# Each verdict, with a story, and ends of writeback with a caller of their own.
something_to_tell() {
	setup_loop
	dd if=/dev/zero of="$WW_MNT/file" bs=1M count=4 conv=fsync status=none || return 1
	# A file system has its own ideas of when to write.
	teardown_loop
	insmod "${WW_KO%.ko}_events.ko" || return 1
	# Printed, and who was woken is known.
	reports_are_printed
	grep -q '^story:' "$WW_DEBUGFS/reports" && grep -q 'caller=' "$WW_DEBUGFS/callers" &&
		grep -q 'caller=' "$WW_DEBUGFS/windows" && grep -q 'open=[1-9]' "$WW_DEBUGFS/windows"
}

# The lab answers by a file: empty, or with what went wrong.
dump() {
	snapshot before-dump
	: >"$WW_OUT/dump.wanted"
	for _ in $(seq 3000); do
		if [ -e "$WW_OUT/dump.done" ]; then
			cat "$WW_OUT/dump.done"
			snapshot after-dump
			[ ! -s "$WW_OUT/dump.done" ]
			return
		fi
		sleep 0.1
	done
	echo "no answer from the lab"
	return 1
}

live() {
	local file
	mkdir -p "$WW_OUT/live"
	snapshot before
	"$WW_DRGN" -s "$WW_VMLINUX" -s "$WW_KO" -s "${WW_KO%.ko}_events.ko" \
		"$WW_ROOT/scripts/wakewatch.drgn.py" >"$WW_OUT/live/all" || return 1
	snapshot after
	for file in $FILES open; do
		sed -n "/^==> $file <==\$/,/^==> /{/^==> /!p}" "$WW_OUT/live/all" >"$WW_OUT/live/$file"
	done
}

# Counters go on: none is less than before, or more than after.
stats() {
	paste -d ' ' "$WW_OUT/before/stats" "$WW_OUT/live/stats" "$WW_OUT/after/stats" |
		awk '{ n++ } $1 != $3 || $3 != $5 || $4 < $2 || $4 > $6 { print; bad = 1 } END { exit bad || n < 30 }'
}

# same FILE: as it was before, or as it was after.
same() {
	cmp -s "$WW_OUT/before/$1" "$WW_OUT/live/$1" || diff -u "$WW_OUT/after/$1" "$WW_OUT/live/$1"
}

# There is a line for each open window, and between two looks at the table few come or go.
open_windows() {
	local listed counted
	listed=$(grep -c '^window of PG_' "$WW_OUT/live/open")
	counted=$(sed -n 's/^table open=\([0-9]*\) .*/\1/p' "$WW_OUT/live/windows")
	echo "$listed listed, $counted counted"
	[ "$listed" -ge 1 ] && [ "$listed" -ge $((counted - 2)) ] && [ "$listed" -le $((counted + 2)) ]
}

# Calls while it is on, and nops while it is off.
costs_nothing() {
	"$WW_DRGN" -s "$WW_VMLINUX" "$(dirname "$(readlink -f "$0")")/sites.drgn.py"
}

plan $((8 + ${WW_DUMP:-0}))
# One end of writeback leaves a window open then, whether somebody waits for it or not.
load_wakewatch always=1
check "there is something to tell" something_to_tell
[ "${WW_DUMP:-0}" -eq 0 ] || check "the lab dumps the memory" dump
check "drgn reads the running kernel" live
check "stats: what the file has" stats
for file in reports callers windows; do
	check "$file: what the file has" same "$file"
done
check "every open window is listed" open_windows
check "while it is off, nothing is at the functions and tracepoints" costs_nothing
finish
