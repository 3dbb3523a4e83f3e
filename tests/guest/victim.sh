# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034  # the results are for those who source it
#
# For scripts that run a victim of ww-repro. Sourced after lib.sh.

# victim NAME ARGUMENT...: runs it, says what it said, and sets victim_status (of ww-repro: 6 if an answer was wrong, 0 if
# none was), victim_wrong, victim_calls, victim_pid, victim_freed, victim_afterwards; and victim_told, the
# reports that have that task for a victim, of those that are kept.
victim() {
	local said
	echo 1 >"$WW_DEBUGFS/reset"
	victim_status=0
	said=$("$WW_REPRO" victim "$@" 2>&1) || victim_status=$?
	diag "${said//$'\n'/$'\n'# }"
	read -r victim_wrong victim_calls victim_pid victim_freed <<<"$(sed -n \
		's/^ww-repro: \(.*\) of \(.*\) calls were wrong, pid \(.*\); \(.*\) pages freed.*/\1 \2 \3 \4/p' <<<"$said")"
	victim_afterwards=$(sed -n 's/^ww-repro: afterwards: //p' <<<"$said")
	victim_told=$(grep -c " victim_pid=$victim_pid\( \|$\)" "$WW_DEBUGFS/reports")
	diag "reused: $(ww_stat reused), zero_ref: $(ww_stat zero_ref), victims: $(ww_stat victims)," \
		"reports that name pid $victim_pid: $victim_told"
}
