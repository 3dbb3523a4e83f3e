#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The page stays where it is, and inside the window it is put under writeback again, and waited for.
# Where waiters don't look again fdatasync() dies in a BUG_ON(), and the guest with it. This
# script passes if the race was run and survived.
#
# kernel: any
# memory: 1G
# timeout: 90

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/race.sh"

plan 1
setup_loop
load_wakewatch
race "woken by the writeback before" later "$WW_MNT" "$@"
finish
