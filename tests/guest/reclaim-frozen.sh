#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Page cache that many readers wait for is reclaimed behind them. Reclaim unlocks a page
# while its refcount is frozen at 0, and PG_waiters may be left on it from a wait that is
# over: a wake-up of a page with refcount 0 that is not free. To mistake it for one is
# what the plain assertion of patches/6.12/warn-zero-count-plain does.
#
# kernel: stock, fixed (the last result is to fail on warn-zero-count-plain)
# memory: 1G
# timeout: 120

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

WW_CGROUP=/run/ww-cgroup

plan 4
setup_loop
load_wakewatch
mkdir -p "$WW_CGROUP"
mount -t cgroup2 ww-cgroup "$WW_CGROUP" || die "no cgroup2"
echo +memory >"$WW_CGROUP/cgroup.subtree_control" || die "no memory controller"
mkdir "$WW_CGROUP/readers"
echo 24M >"$WW_CGROUP/readers/memory.max"

rounds=0
status=0
# The assertion fires once: not for the live read race, which may come first.
spent() {
	dmesg | "$WW_REPRO" findings | grep -q '^live kernel '
}
while
	rounds=$((rounds + 1))
	dmesg -C
	rearm_assertions
	(
		echo 0 >"$WW_CGROUP/readers/cgroup.procs"
		exec "$WW_REPRO" reclaim "$WW_MNT" "$@"
	)
	status=$?
	[ "$status" -eq 0 ] && [ "$rounds" -lt 12 ] && { [ "$(ww_stat frozen_wake)" -eq 0 ] || spent; }
do :; done
if [ "$status" -eq 0 ]; then
	ok "the readers ran"
else
	not_ok "the readers ran: status $status"
fi

frozen=$(ww_stat frozen_wake)
diag "frozen_wake: $frozen, zero_ref: $(ww_stat zero_ref), rounds: $rounds"
diag "reclaimed: $(grep -E '^(pgsteal|workingset_refault_file) ' "$WW_CGROUP/readers/memory.stat" | tr '\n' ' ')"
if [ "$frozen" -gt 0 ]; then
	ok "pages were woken while their refcount was frozen"
else
	not_ok "pages were woken while their refcount was frozen"
fi
reports_are_printed
found=$(ww_found zero_ref)
if [ "$found" -eq 0 ]; then
	ok "wakewatch took none of them for a free page"
else
	not_ok "wakewatch took $found of them for a free page"
fi
if kernel_log | grep -q 'WARNING:'; then
	not_ok "the kernel took none of them for a free page"
	kernel_log | grep -A40 'refcount:0' | head -60 | sed 's/^/# /'
else
	ok "the kernel took none of them for a free page"
fi
finish
