#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A guest in which nothing but interrupts runs any more.
#
# kernel: stock
# memory: 512M
# timeout: 2 (seconds, of which the lab makes 8)

# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../lib.sh"

plan 2
ok "first"
# Real-time loops on every CPU, with the safety net for that off.
echo -1 >/proc/sys/kernel/sched_rt_runtime_us
cpu=$(nproc)
while [ "$cpu" -gt 0 ]; do
	cpu=$((cpu - 1))
	taskset -c "$cpu" chrt -f 99 /bin/bash -c 'while :; do :; done' &
done
wait
ok "second"
finish
