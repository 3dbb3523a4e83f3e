#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Mixed writes, mapped and not, direct I/O, truncation, holes, dropped caches, memory
# pressure and swap, for a minute, with wakewatch loaded and no delay: a fixed kernel has
# nothing to say about the end of writeback, and wakewatch has nothing to say of it.
#
# kernel: fixed
# memory: 768M
# timeout: 180
#
# WW_SECONDS: how long, 60 by default

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

WW_SECONDS=${WW_SECONDS:-60}
WW_SWAP_MB=256
WW_SWAP=/run/ww-swap

# written DEVICE: megabytes written to a block device so far.
written() {
	awk '{ print int($7 / 2048) }' "/sys/block/${1#/dev/}/stat"
}

# mem NAME: megabytes, from /proc/meminfo.
mem() {
	awk -v name="$1:" '$1 == name { print int($2 / 1024) }' /proc/meminfo
}

# zero DESCRIPTION VALUE: ok if it is 0.
zero() {
	if [ "$2" = 0 ]; then
		ok "$1"
	else
		not_ok "$1: $2"
	fi
}

# more DESCRIPTION VALUE LIMIT: ok if it is above the limit.
more() {
	if [ "$2" -gt "$3" ]; then
		ok "$1 ($2)"
	else
		not_ok "$1: $2"
	fi
}

plan 9
WW_IMG_SIZE=96M
setup_loop

# Swap on a loop device of its own. Its file is allocated beforehand and never swapped out
# itself, so that swapping out never needs memory.
mkdir -p "$WW_SWAP"
mount -t tmpfs -o "noswap,size=$((WW_SWAP_MB + 1))M" ww-swap "$WW_SWAP" || die "no tmpfs for swap"
fallocate -l "${WW_SWAP_MB}M" "$WW_SWAP/swap"
chmod 600 "$WW_SWAP/swap"
swap=$(losetup -f --show "$WW_SWAP/swap") || die "no loop device for swap"
mkswap "$swap" >/dev/null
swapon "$swap" || die "no swap"

load_wakewatch
# Something has to go, but not all of it: a third of the swap more than there is.
hog=$(($(mem MemAvailable) + WW_SWAP_MB / 3))
diag "$(mem MemTotal) MB of memory, $(mem MemAvailable) available, $WW_SWAP_MB of swap, $hog wanted"
dmesg -C
check "the workload runs to its end" "$WW_REPRO" stress "$WW_MNT" --seconds "$WW_SECONDS" --hog "$hog"
check "the file system is written back" sync -f "$WW_MNT"
for stat in end_writeback wake frozen_wake unreferenced tail zero_ref not_writeback missed_end_writeback missed_wake; do
	diag "$stat: $(ww_stat "$stat")"
done
more "ends of writeback were seen" "$(ww_stat end_writeback)" 5000
more "pages were swapped out, in megabytes" "$(written "$swap")" 0
zero "no writeback ended unreferenced" "$(ww_stat unreferenced)"
zero "no tail page was woken" "$(ww_stat tail)"
zero "no writeback ended that had not begun" "$(ww_stat not_writeback)"
# A read that completes on a page that is dropped is another matter, which needs no patched
# kernel (read-race.sh): it may be seen here, of PG_locked.
zero "no free page was woken for PG_writeback" \
	"$(grep -c 'zero-ref wake of PG_writeback' "$WW_DEBUGFS/reports")"
findings=$(dmesg | grep -E 'BUG:|WARNING:|kernel BUG|Oops' | grep -v 'BUG: wakewatch: zero-ref wake of PG_locked')
if [ -z "$findings" ]; then
	ok "the kernel log has no finding"
else
	not_ok "the kernel log has findings"
	printf '%s\n' "$findings" | sed 's/^/# /'
fi
swapoff "$swap" && losetup -d "$swap" && umount "$WW_SWAP"
finish
