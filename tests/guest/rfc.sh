#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The reproducer of patches/6.12/rfc-end-read: a kprobe and a program, and no wakewatch.
#
# kernel: stock
# memory: 1G
# timeout: 120
# provokes: the live read race
#
# WW_RFC: where delay.ko and eio are; started by scripts/rfc.sh
# WW_EIO: `no` where no read may fail; otherwise one has to

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

plan 1
WW_MKFS="-b 1024"
setup_loop
cd "$WW_MNT" || die "no $WW_MNT"
said=$("$WW_RFC/eio" "$WW_RFC/delay.ko") || die "eio: $said"
cd / || die "no /"
case ${WW_EIO:-}:$said in
no:"0 of "*) ok "$said" ;;
:"0 of "* | no:*) not_ok "$said" ;;
*) ok "$said" ;;
esac
finish
