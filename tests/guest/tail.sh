#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The page is truncated inside the window and becomes a tail of a huge page. On a kernel
# with the bug (and DEBUG_VM_PGFLAGS) the completion dies in a VM_BUG_ON, and the guest with
# it. This script passes if the race was run and survived.
#
# kernel: any
# memory: 1G
# timeout: 90

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/race.sh"

plan 1
# The huge pages must be able to take all the memory there is.
WW_SHM_SIZE=100%
setup_loop
# A huge page needs the whole block free in the buddy allocator, and a CPU's own free list
# would keep pages of it back, as many as it likes (it sizes itself since 6.7). With a share
# this small of the zone it keeps the least.
echo 100000 >/proc/sys/vm/percpu_pagelist_high_fraction
load_wakewatch
race "tail reuse" tail "$WW_MNT" "$WW_SHM" "$@"
finish
