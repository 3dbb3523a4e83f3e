# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# For scripts that run a race of ww-repro. Sourced after lib.sh.

# race DESCRIPTION SCENARIO [ARGUMENT]...: one result for a scenario of ww-repro. It is ok
# if the race was run to its end; what the kernel made of it, its log tells.
race() {
	local what=$1 status=0
	shift
	# A BUG in the driver leaves its locks taken and its block plug on a dead
	# stack: the guest would die of that a little later, in confusion. Let it die
	# of the BUG.
	echo 1 >/proc/sys/kernel/panic_on_oops
	"$WW_REPRO" "$@" || status=$?
	if [ "$status" -eq 0 ]; then
		ok "$what: run to its end"
	else
		not_ok "$what: ww-repro ended with status $status"
	fi
}
