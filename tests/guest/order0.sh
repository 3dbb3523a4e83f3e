#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The page is dropped inside the window and becomes another file's, which is under
# writeback and waited for. On a kernel with the bug the waiter dies in a BUG_ON(), and the
# guest with it. This script passes if the race was run and survived.
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
race "order-0 reuse" order0 "$WW_MNT" "$@"
finish
