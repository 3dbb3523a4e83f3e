#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Who takes the late wake-up of a page's last life for the end of its own read, and what comes of it: each
# victim on a file system of its own, one after the other. A result is ok if the call came to a wrong
# answer, and wakewatch told that this task was woken for another's read.
#
# kernel: stock, built with CONFIG_VARIANT=filesystems
# memory: 2G
# timeout: 900
# provokes: the live read race
#
# WW_VICTIMS: which, by name; all by default
# WW_EIO: `no` where no answer may be wrong
# WW_US: for how long a window is held open

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/victim.sh"

vmnt=/run/ww-victim
vimg=$WW_SHM/victim.img
vloop=
feed=

all="read-eio read-eio-users read-eio-truncate read-eio-direct read-eio-reclaim minix-rmdir minix-stat minix-readdir
	ext2-readdir ext2-readlink nilfs2-readdir f2fs-stat f2fs-rmdir erofs-stat xfs-dedupe verity-tree swapon
	proc-mem gfs2-remount"

attach() { # SIZE: sets vloop
	truncate -s "$1" "$vimg"
	vloop=$(losetup -f --show "$vimg") || die "no second loop device"
	echo 0 >"/sys/block/${vloop#/dev/}/queue/rq_affinity"
}

fs() { # TYPE SIZE MKFS-OPTION...; $mount has options of mount
	local type=$1 size=$2
	shift 2
	attach "$size"
	"mkfs.$type" "$@" "$vloop" >"$WW_OUT/mkfs.log" 2>&1 || die "mkfs.$type: $(<"$WW_OUT/mkfs.log")"
	# -i: no program of the file system's own goes with it.
	# shellcheck disable=SC2086
	mount -i -t "$type" -o noatime${mount:+,$mount} "$vloop" "$vmnt" || die "no $type"
}

# What the file system's own checker makes of it.
checked() { # NAME
	case $1 in
	minix-rmdir) printf '; fsck.minix: "%s"' "$(fsck.minix -f "$vloop" 2>&1 | grep -m 1 'Zone .* no file')" ;;
	ext2-readdir) printf '; dumpe2fs: "%s"' "$(dumpe2fs -h "$vloop" 2>/dev/null | grep state | tr -s ' ')" ;;
	esac
}

detach() {
	! mountpoint -q "$vmnt" || umount "$vmnt"
	victim_afterwards+=$(checked "$name")
	losetup -d "$vloop"
	vloop=
	rm -f "$vimg"
}

# No file system: pages of this device can't be moved.
feed_device() {
	truncate -s 1M "$WW_SHM/feed.img"
	feed=$(losetup -f --show "$WW_SHM/feed.img") || die "no third loop device"
	echo 0 >"/sys/block/${feed#/dev/}/queue/rq_affinity"
}

# set_up NAME: sets what (the answer), where (on which file system), and args.
set_up() {
	local mount='' n
	args=(--feeder "$WW_MNT")
	case $1 in
	read-eio*)
		where='ext4, blocks of 1 KB' what='read() of a healthy file says EIO'
		fs ext4 64M -q -F -m 0 -b 1024 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard
		case $1 in
		*-users) what+=', to another user than drops the page' args+=(--users "1001,1002") ;;
		*-truncate) what+=', the page dropped by truncation' args+=(--by truncate) ;;
		*-direct) what+=', the page dropped by O_DIRECT' args+=(--by direct) ;;
		*-reclaim) what+=', the page reclaimed' args+=(--by reclaim) ;;
		esac
		;;
	minix-*)
		where=minix
		fs minix 16M -3 -i 1000
		case $1 in
		*-stat) what='stat() of a file says ENOENT' ;;
		*-rmdir) what='rmdir() of a directory with a file in it succeeds' ;;
		*-readdir) what='getdents() of a directory: no entries' ;;
		esac
		;;
	ext2-readdir)
		where="ext2's driver" what='getdents() says EIO, and an error is in the super block'
		fs ext2 16M -q -F -b 4096 -N 2000
		;;
	ext2-readlink)
		where="ext2's driver" what='readlink() says EIO'
		fs ext2 16M -q -F -b 4096 -N 2000
		;;
	nilfs2-readdir)
		where=nilfs2 what='getdents() says EIO, and the file system is read-only'
		fs nilfs2 160M -f
		args+=(--enough 1)
		;;
	f2fs-*)
		where=f2fs mount=noinline_dentry
		fs f2fs 128M -f
		case $1 in
		*-stat) what='stat() of a file says EIO' ;;
		*-rmdir) what='rmdir() of an empty directory says ENOTEMPTY' ;;
		esac
		;;
	erofs-stat)
		where=erofs what='stat() of a directory says EIO'
		for n in $(seq 0 99); do
			mkdir -p "$WW_SHM/tree/d$n"
			: >"$WW_SHM/tree/d$n/file"
		done
		mkfs.erofs -Enoinline_data "$vimg" "$WW_SHM/tree" >"$WW_OUT/mkfs.log" 2>&1 || die "mkfs.erofs: $(<"$WW_OUT/mkfs.log")"
		attach "$(stat -c %s "$vimg")"
		mount -t erofs -o ro "$vloop" "$vmnt" || die "no erofs"
		;;
	xfs-dedupe)
		where='XFS' what='FIDEDUPERANGE of two files says EIO'
		fs xfs 300M -q -f
		;;
	verity-tree)
		where='ext4' what="FS_IOC_READ_VERITY_METADATA of a file's tree of hashes says EIO"
		fs ext4 64M -q -F -m 0 -b 4096 -O verity -E lazy_itable_init=0,lazy_journal_init=0,nodiscard
		;;
	swapon | proc-mem)
		where='ext4'
		fs ext4 64M -q -F -m 0 -b 4096 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard
		case $1 in
		swapon) what='swapon() of a file says EIO' ;;
		proc-mem) what="read() of /proc/PID/mem, a mapped file's page, says EIO" ;;
		esac
		;;
	gfs2-remount)
		where='gfs2, lock_nolock' what='mount -o remount,rw withdraws the file system'
		fs gfs2 256M -O -p lock_nolock -j 1 -J 32
		args+=(--enough 1)
		;;
	*) die "no victim $1: there are $all" ;;
	esac
	# Where pages can't be moved, neither can the ones that they are made of.
	case $1 in
	ext2-readlink | f2fs-* | erofs-*)
		feed_device
		args=("${args[@]:2}" --feeder-device "$feed")
		;;
	esac
}

read -r -a names <<<"$(tr -s '[:space:]' ' ' <<<"${WW_VICTIMS:-$all}")"
plan "${#names[@]}"
wanted=6
more=()
# Where none is wrong, so many say so.
[ "${WW_EIO:-}" != no ] || wanted=0 more=(--rounds 30)
[ -z "${WW_US:-}" ] || more+=(--us "$WW_US")
setup_loop
load_wakewatch report_limit=1000
mkdir -p "$vmnt"
for name in "${names[@]}"; do
	what='' where=''
	set_up "$name"
	which=$name
	[[ $name != read-eio-* ]] || which=read-eio
	dmesg -C
	victim "$which" "$vmnt" --device "$vloop" --seconds 60 "${args[@]}" "${more[@]}"
	dmesg | grep -vE 'wakewatch|^\[[^]]*\]  |=====|loop[0-9]+: detected|mounted filesystem|unmounting' | grep -iE 'fs|nilfs|partition|verity|I/O error' | head -4 | sed 's/^/# log: /'
	detach
	[ -z "$feed" ] || losetup -d "$feed"
	feed=
	result="$name: $what ($victim_wrong of $victim_calls, pid $victim_pid)"
	# For the lab's table.
	diag "victim: $name|$where|$what|$victim_wrong|$victim_calls|$victim_freed|$victim_told|$victim_afterwards"
	if [ "$victim_status" -ne "$wanted" ]; then
		not_ok "$result: ww-repro ended with status $victim_status"
	elif [ "$wanted" -ne 0 ] && [ "${victim_told:-0}" -eq 0 ]; then
		not_ok "$result: no report names it"
	else
		ok "$result"
	fi
done
finish
