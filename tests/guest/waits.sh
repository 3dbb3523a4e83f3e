#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Many waits for the end of writeback, its steps held up in turns. This script passes if every
# waiter woke up.
#
# kernel: any
# memory: 1G
# timeout: 120

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/race.sh"

plan 1
setup_loop
load_wakewatch
race "no wake-up is lost" waits "$WW_MNT" "$@"
finish
