#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A read completes on a page that is dropped before its reader is woken: a late wake-up of
# PG_locked, on any kernel.
#
# kernel: any
# memory: 1G
# timeout: 90
# provokes: the live read race

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/race.sh"

plan 1
setup_loop
load_wakewatch
race "read race" read-race "$WW_MNT" "$@"
diag "zero_ref: $(ww_stat zero_ref)"
finish
