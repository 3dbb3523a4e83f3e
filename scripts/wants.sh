# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034  # the results are for those who source it
#
# What verbs are given, looked at before anything is built or booted: each function ends with one line that
# says what to do, or returns with what was asked for. Sourced after common.sh.

# Sets TREE, of XFSTESTS.
check_tree() {
	TREE=$(cd "$XFSTESTS" 2>/dev/null && pwd -P) || die "XFSTESTS=$XFSTESTS: no such directory"
	[[ -x $TREE/check && -f $TREE/common/rc && -d $TREE/tests/generic ]] ||
		die "XFSTESTS=$XFSTESTS: not an xfstests tree (it has no check, common/rc and tests/generic)"
	[[ -x $TREE/ltp/fsx && -x $TREE/ltp/fsstress && -x $TREE/src/feature && -f $TREE/tests/generic/group.list ]] ||
		die "XFSTESTS=$XFSTESTS: not built (no ltp/fsx, ltp/fsstress, src/feature or tests/generic/group.list); its README says how, under BUILDING THE FSQA SUITE: the packages, then make"
}

# check_form [FORM...]: sets FSTYP, MKFS_OPTIONS and MOUNT_OPTIONS, of FORM, and the kernel's variant where one is
# needed. The forms that are named are there besides, and not on a disk.
check_form() {
	local more=''
	FSTYP=ext4 MKFS_OPTIONS='-b 4096' MOUNT_OPTIONS=''
	case $FORM in
	4k) ;;
	1k) MKFS_OPTIONS='-b 1024' ;;
	dioread_lock) MOUNT_OPTIONS='-o acl,user_xattr,dioread_lock' ;;
	data-journal) MOUNT_OPTIONS='-o acl,user_xattr,data=journal' ;;
	nojournal) MKFS_OPTIONS+=' -O ^has_journal' ;;
	xfs | btrfs)
		FSTYP=$FORM MKFS_OPTIONS=''
		export CONFIG_VARIANT=${CONFIG_VARIANT:-filesystems}
		;;
	*)
		(($# == 0)) || printf -v more ', %s' "$@"
		[[ " $* " == *" $FORM "* ]] || die "FORM=$FORM: there are 4k, 1k, dioread_lock, data-journal, nojournal, xfs, btrfs$more"
		FSTYP=$FORM MKFS_OPTIONS=''
		;;
	esac
}

check_number() { # NAME LEAST
	if [[ ! ${!1} =~ ^[0-9]{1,6}$ ]] || ((10#${!1} < $2)); then
		die "$1=${!1}: a number of at least $2 is wanted"
	fi
}

# For the guest's kernel, QEMU and the rest of this machine, besides the guest's memory.
SPARE_MB=512

# Of MEMORY, for a guest that needs so much, and of the cache's disk.
check_machine() { # LEAST_MB WHAT_FOR DISK_MB
	local mb available place=$WW_CACHE
	[[ $MEMORY =~ ^[0-9]{1,6}[GM]?$ ]] || die "MEMORY=$MEMORY: no amount of memory; 3G and 3072M are"
	mb=$((10#${MEMORY%[GM]}))
	[[ $MEMORY != *G ]] || mb=$((mb * 1024))
	((mb >= $1)) || die "MEMORY=$MEMORY: $2 need $1M at least"
	available=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
	((available >= mb + SPARE_MB)) ||
		die "too little memory: $available MB are available, and a guest of $MEMORY needs $((mb + SPARE_MB)) (it can do with MEMORY=$1M)"
	while [[ ! -d $place ]]; do place=$(dirname "$place"); done
	available=$(df -Pm "$place" | awk 'NR == 2 { print $4 }')
	((available >= $3)) || die "too little disk: $available MB are free at $place, and $3 are wanted"
}
