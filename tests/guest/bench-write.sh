#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What wakewatch costs a writer: the same file on ext4 on a loop device is written and synced again
# and again, in pairs, without the module and with it; every other pair the other way round, so
# that a machine that gets slower or faster is no difference between the two.
#
# kernel: stock
# memory: 1G
# timeout: 400
#
# WW_PAIRS: how many, 24 by default
# WW_MB: megabytes a write, 64 by default

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

WW_PAIRS=${WW_PAIRS:-24}
WW_MB=${WW_MB:-64}

write_file() {
	dd if=/dev/zero of="$WW_MNT/file" bs=1M count="$WW_MB" conv=notrunc,fsync status=none ||
		die "the file cannot be written"
}

# write_once off|on PAIR: the lab reads these lines.
write_once() {
	local begin end
	[ "$1" = off ] || load_wakewatch
	# Not measured: without KVM, code that loading or unloading has patched is translated anew.
	write_file
	begin=${EPOCHREALTIME/./}
	write_file
	end=${EPOCHREALTIME/./}
	echo "# write $1 $2 us=$((end - begin)) mb=$WW_MB"
	if [ "$1" = on ]; then
		pages=$(ww_stat end_writeback)
		[ "$2" -lt "$WW_PAIRS" ] || save_reports
		unload_wakewatch
	fi
}

plan 2
setup_loop
# As a machine has it that isn't set up for a race.
echo 3 >/sys/devices/virtual/workqueue/cpumask
# Blocks and page cache are there before anything is measured.
write_file
write_file
pages=0
for pair in $(seq "$WW_PAIRS"); do
	if [ $((pair % 2)) = 1 ]; then
		write_once off "$pair"
		write_once on "$pair"
	else
		write_once on "$pair"
		write_once off "$pair"
	fi
done
ok "$WW_PAIRS pairs of $WW_MB MB were written"
if [ "$pages" -ge $((WW_MB * 512)) ]; then
	ok "wakewatch looked at every page written ($pages)"
else
	not_ok "wakewatch looked at $pages pages of two writes, not at $((WW_MB * 512))"
fi
finish
