#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What an end of a read costs on this kernel, in instructions, and what a page that is read cold does,
# with nothing hooked; all of it twice. Otherwise as price.sh.
#
# kernel: any
# memory: 1G
# timeout: 300
#
# WW_BENCH: where ww_driver.ko is
# WW_CALLS: how often each case is measured, 500 by default

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

DRIVER=/sys/kernel/debug/ww_driver/run

plan 3
setup_loop
dd if=/dev/zero of="$WW_MNT/file" bs=4k count=4 conv=fsync status=none || die "no file to measure with"
[ -d /sys/kernel/debug/tracing ] || mount -t debugfs debugfs /sys/kernel/debug
check "the driver" insmod "$WW_BENCH/ww_driver.ko" path="$WW_MNT/file" calls="${WW_CALLS:-500}" reads=1
for round in 1 2; do
	echo 1 >"$DRIVER" || die "measuring failed"
	sed "s/^/# count none $round /" "$DRIVER"
	ok "round $round"
done
rmmod ww_driver
finish
