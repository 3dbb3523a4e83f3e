#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The states in which a folio can be under writeback (rust/detect/holders.rs has the table): on a kernel
# that takes no reference for the end, wakewatch counts none to spare in each of them, with the sum that is
# that state's; on one that does it is silent. What is printed is what was judged.
#
# kernel: any
# memory: 1G
# timeout: 300
#
# WW_STATES: `deficit' or `silent', what is to be found

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

want=${WW_STATES:?}
run=/run/ww-states
thp=/sys/kernel/mm/transparent_hugepage

# sums: of the reports of unreferenced ends there are, on a line each.
sums() {
	sed -n '/^BUG: wakewatch: unreferenced/,/^====/{/^references /p}' "$WW_DEBUGFS/reports"
}

# has_sum CONDITION: one of the sums is of this state; in awk, with the names of its parts.
has_sum() {
	sums | tr -cd '0-9 \n' | awk "{ references = \$1; cache = \$2; mappings = \$3; private = \$4; spare = \$5 }
		references == cache + mappings + private && spare == 0 && $1 { found = 1 }
		END { exit !found }"
}

# How many more of these events there are in /proc/vmstat than at the start.
vm() {
	echo $(($(sed -n "s/^$1 //p" /proc/vmstat) - $(sed -n "s/^$1 //p" "$run/vmstat")))
}

# Pages, and not folios: how many of those there are is the file system's affair. ext4's have one page each in 6.12,
# and as many as fit in 7.3.
have_ended() {
	[ "$(vm nr_written)" -ge "$1" ] && [ "$(ww_stat end_writeback)" -gt 0 ]
}

# state CONDITION PAGES COMMAND...: that writes at least so many pages back.
state() {
	local condition=$1 ended found status=0 enough
	# Reports of the state before don't stand in the way.
	reports_are_printed
	echo 1 >"$WW_DEBUGFS/reset"
	enough=$(($(vm nr_written) + $2))
	shift 2
	"$@" || return 1
	# Those that were begun: on a busy host, some end later.
	wait_for have_ended "$enough" || status=1
	ended=$(ww_stat end_writeback)
	found=$(ww_stat unreferenced)
	echo "$found of $ended without a reference to spare"
	sums | sort | uniq -c
	cat "$WW_DEBUGFS/callers"
	[ "$status" -eq 0 ] || return 1
	if [ "$want" = silent ]; then
		[ "$found" -eq 0 ]
	else
		# Who isolates pages for reclaim holds most of them until they are written.
		[ "$found" -ge $((ended / 100)) ] && [ "$found" -gt 0 ] && has_sum "$condition"
	fi
}

# ww-repro's, by its name for it.
repro_state() { # NAME DIRECTORY CONDITION [PAGES]
	state "$3" "${4:-500}" "$WW_REPRO" states "$2" "$1"
}

# Without a file system: its pages are written by way of buffer heads. Who writes back holds a batch of folios until he
# has begun them all: a few large ones would all be his.
write_device() {
	local device status=0
	truncate -s 32M "$run/device"
	device=$(losetup -f --show "$run/device") || return 1
	dd if=/dev/urandom of="$device" bs=4k count=4096 status=none && sync "$device" || status=1
	losetup -d "$device"
	return "$status"
}

# Beside a reader. The trace event comes between the judging and the report: with a stack, it takes a while.
looked_up() {
	local event=/sys/kernel/tracing/events/wakewatch/end_unreferenced status=0
	echo stacktrace >"$event/trigger" && echo 1 >"$event/enable" || return 1
	repro_state read "$WW_MNT" 'mappings == 0 && private == 1' 200 || status=1
	# Else the module could not go.
	echo 0 >"$event/enable" && echo '!stacktrace' >"$event/trigger" || status=1
	return "$status"
}

# No report says that nobody holds a page, and then who does. Whoever looks a page up holds it for a moment.
sums_are_what_was_judged() {
	local told
	reports_are_printed
	told=$(dmesg | sed -n '/BUG: wakewatch: unreferenced/,/======/{/\] references /p}' | sed 's/^.*\] //' | sort | uniq -c)
	echo "$told"
	dmesg | grep -c 'a moment later references'
	[ "$want" = silent ] || [ -n "$told" ] || return 1
	! grep -q 'spare [1-9]' <<<"$told"
}

huge_pages_are_swapped_out() {
	grep thp_swpout /proc/vmstat
	[ "$(vm thp_swpout)" -gt 0 ]
}

# The page that is looked at may have become anything: an assertion about it would be a BUG of wakewatch's own.
asserts_nothing() {
	! nm -u "$WW_KO" | grep -w dump_page
}

plan 11
setup_loop
mkdir -p "$run"
# Not to be swapped out itself, and allocated beforehand.
mount -t tmpfs -o noswap,size=90% ww-states "$run" || die "no tmpfs at $run"
cp /proc/vmstat "$run/vmstat"
fallocate -l 200M "$run/swap" || die "no memory for swap"
chmod 600 "$run/swap"
swap=$(losetup -f --show "$run/swap") || die "no loop device for swap"
mkswap "$swap" >/dev/null
swapon "$swap" || die "no swap"
for size in small huge; do
	mkdir "$run/$size"
	mount -t tmpfs -o "huge=$([ $size = small ] && echo never || echo always)" ww-states "$run/$size" ||
		die "no tmpfs at $run/$size"
done
echo madvise >"$thp/enabled"
sync
load_wakewatch report_limit=100

check "the module asserts nothing about pages" asserts_nothing
check "a file's pages" repro_state file "$WW_MNT" 'mappings == 0 && private == 1'
check "a file's pages, mapped" repro_state mapped "$WW_MNT" 'mappings == cache && private == 1'
check "anonymous pages in the swap cache" repro_state anonymous "$run" 'cache == 1 && mappings == 0 && private == 0'
check "huge anonymous pages in the swap cache" repro_state anonymous-huge "$run" 'cache == 512 && mappings == 0 && private == 0' 4096
check "pages of shmem in the swap cache" repro_state shmem "$run/small" 'cache == 1 && mappings == 0 && private == 0'
check "huge pages of shmem in the swap cache" repro_state shmem "$run/huge" 'cache == 512 && mappings == 0 && private == 0' 4096
check "huge pages were swapped out whole" huge_pages_are_swapped_out
check "pages of a block device" state 'cache == 1 && mappings == 0 && private == 1' 500 write_device
check "a file's pages that are looked up all the time" looked_up
check "their sums are those that were judged" sums_are_what_was_judged

umount "$run/small" "$run/huge"
swapoff "$swap" && losetup -d "$swap"
umount "$run"
finish
