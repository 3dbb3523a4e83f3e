#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A healthy file, and read() says EIO: the late wake-up of a page that was another file's comes to who reads
# what is in it now. On blocks of 1024 bytes, on any kernel with the live read race.
#
# kernel: stock
# memory: 1G
# timeout: 90
# provokes: the live read race
#
# WW_EIO: `no` where no call may fail; otherwise one has to

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/victim.sh"

plan 2
WW_MKFS="-b 1024"
setup_loop
load_wakewatch
wanted=6
[ "${WW_EIO:-}" != no ] || wanted=0
victim read-eio "$WW_MNT" "$@"
# The lab reads the numbers.
what="pread() said EIO${WW_EIO:+: $WW_EIO} ($victim_wrong of $victim_calls, pid $victim_pid)"
if [ "$victim_status" -eq "$wanted" ]; then
	ok "$what"
else
	not_ok "$what: ww-repro ended with status $victim_status"
fi
case $victim_afterwards in
*"every byte right"*) ok "these pages are read well later, from the cache and from the device" ;;
*) not_ok "these pages are read well later, from the cache and from the device" ;;
esac
finish
