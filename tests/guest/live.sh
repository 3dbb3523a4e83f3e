#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The live read race without any delay: how often it is lost, and what comes of it. A loss is no failure here,
# and none is none: what is shown is the count. `make live` makes a table of it.
#
# kernel: stock
# memory: 1G
# timeout: 60
# provokes: the live read race
#
# WW_SECONDS, WW_BESIDE: how long, and what goes on besides (ww-repro live --help)

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

seconds=${WW_SECONDS:-20}

plan 3
WW_MKFS="-b 1024"
setup_loop
# As any machine has it: completions where they come.
printf '%x\n' $(((1 << $(nproc)) - 1)) >/sys/devices/virtual/workqueue/cpumask
echo 1 >"/sys/block/${ww_loop#/dev/}/queue/rq_affinity"
# Each is counted, and as many as possible are told.
load_wakewatch report_limit=1000
if "$WW_REPRO" live "$WW_MNT" --seconds "$seconds" --beside "${WW_BESIDE:-nothing}" >"$WW_OUT/live" 2>&1; then
	ok "the readers were at it for $seconds s"
else
	not_ok "the readers were at it for $seconds s: ww-repro ended with status $?"
fi
sed 's/^/# /' "$WW_OUT/live"
snapshot "$WW_OUT/snapshot"
if [ "$(ww_stat delays)" -eq 0 ]; then ok "nothing was delayed"; else not_ok "nothing was delayed: $(ww_stat delays)"; fi
if [ "$(ww_stat windows_woken)" -gt 0 ]; then ok "windows have ended in a wake"; else not_ok "windows have ended in a wake"; fi
reports_are_printed
finish
