#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# As read-race.sh, but the reader may take its page back at once: the wake-up comes to a page
# that was freed and allocated again, on any kernel.
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
race "read race" read-race "$WW_MNT" --retake "$@"
diag "reused: $(ww_stat reused), zero_ref: $(ww_stat zero_ref)"
finish
