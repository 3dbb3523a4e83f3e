#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The waiter that is woken too early is a truncation: it drops a page that the device has yet to
# read. First the page of another file, as in order0.sh, then the waiter's own, as in own.sh, and its own
# under the next writeback, as in later.sh. This script passes if no page was dropped under writeback.
#
# kernel: any
# memory: 1G
# timeout: 120

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/race.sh"

plan 3
setup_loop
load_wakewatch
race "truncated, after reuse" order0 "$WW_MNT" --truncate --rounds 5 "$@"
race "truncated, by its own writeback" own "$WW_MNT" --truncate "$@"
race "truncated, by the writeback before" later "$WW_MNT" --truncate "$@"
finish
