#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The end of a page's writeback is held up when it has woken who waits for it: has it cleared the bit?
# If not, fdatasync() dies in a BUG_ON() and the guest with it. This script passes if the bit was clear.
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
race "woken by its own writeback" own "$WW_MNT" "$@"
finish
