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

plan 2
WW_MKFS="-b 1024"
setup_loop
load_wakewatch

status=0
said=$("$WW_REPRO" read-eio "$WW_MNT" "$@") || status=$?
# shellcheck disable=SC2001  # each line
sed 's/^/# /' <<<"$said"
failed=$(sed -n 's/^ww-repro: \(.*\) said EIO to pid \(.*\);.*/\1, pid \2/p' <<<"$said")
wanted=6
[ "${WW_EIO:-}" != no ] || wanted=0
if [ "$status" -eq "$wanted" ]; then
	ok "pread() said EIO${WW_EIO:+: $WW_EIO} ($failed)"
else
	not_ok "pread() said EIO${WW_EIO:+: $WW_EIO} ($failed): ww-repro ended with status $status"
fi
right=$(grep -c 'every byte right' <<<"$said")
if [ "$right" -eq 2 ]; then
	ok "all of these pages are read well later, from the cache and from the device"
else
	not_ok "all of these pages are read well later, from the cache and from the device"
fi
diag "reused: $(ww_stat reused), zero_ref: $(ww_stat zero_ref), victims: $(ww_stat victims)"
finish
