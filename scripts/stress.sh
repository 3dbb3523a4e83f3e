#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: [KERNEL=fixed DURATION=10 FORM=4k DELAY='where=... us=... every=...' MEMORY=1G XFSTESTS=TREE]
#        stress.sh [--check]
#
# Other people's programs at work on a file system on a loop device on shmem huge pages, with wakewatch
# loaded, for DURATION minutes. What is asked for is checked before anything is built or booted; --check
# ends there. tests/guest/stress.sh is the guest's part, tests/lab/src/stress.rs the rest.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=wants.sh
. "$(dirname "$0")/wants.sh"

case ${1:-} in
'' | --check) ;;
*) die "usage: stress.sh [--check]" ;;
esac

KERNEL=${KERNEL:-fixed}
DURATION=${DURATION:-10}
FORM=${FORM:-4k}
MEMORY=${MEMORY:-1G}
# A log of some megabytes.
DISK_MB=${DISK_MB:-256}

check_number DURATION 1
# shellcheck disable=SC2119  # of its own it has none
check_form
check_machine 1024 "two file systems and the swap, all in memory, and the work" "$DISK_MB"
if [[ -n ${XFSTESTS:-} ]]; then
	check_tree
	export XFSTESTS=$TREE
fi
"$WW_ROOT/scripts/kernel.sh" --patches "$KERNEL" >/dev/null
[[ ${1:-} != --check ]] || exit 0

args=(--kernel "$KERNEL" --minutes "$DURATION" --memory "$MEMORY" --form "$FORM" --fstyp "$FSTYP"
	--mkfs-options="$MKFS_OPTIONS" --mount-options="$MOUNT_OPTIONS")
[[ -z ${DELAY:-} ]] || args+=(--delay="$DELAY")
KERNELS=$KERNEL exec "$WW_ROOT/scripts/lab.sh" stress "${args[@]}"
