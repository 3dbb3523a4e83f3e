#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Somebody else's program, again and again, with wakewatch loaded: the guest of `make run`. What it is judged by
# is the lab's business; here it is set up, and run.
#
# memory: 2G
# timeout: 60
#
# WW_PROGRAM: an executable
# WW_SHARED: a directory of the host's that it needs, if it needs one
# WW_SECONDS, WW_ROUNDS, WW_LIMIT: when to end, and how long a round may take
# WW_FSTYP, WW_MKFS, WW_MOUNT: the file system to run it on; also tmpfs, or none
# WW_DISK: where that is: loop, on shmem huge pages; virtio, a disk of its own; 9p, a loop device on a file of the host's
# WW_KNOBS: words of wakewatch's `config`
# WW_AMPLIFY: a delay, in the words of `amplify`; dev=fs is the file system
# WW_STEPS: several, a line each: a name, how often, and the words. The name goes to the kernel log
#
# For the program: WW_DEV, the device, WW_MNT, where the file system is, WW_OUT, what is kept, WW_DEBUGFS.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

WW_IMG_SIZE=512M
# Reproducers take the first ones, whoever has them.
WW_LOOP=/dev/loop15
upper=/run/ww-root

disk() {
	case ${WW_DISK:-loop} in
	loop)
		setup_disk
		WW_DEV=$ww_loop
		;;
	9p)
		loop_on "$WW_OUT/fs.img"
		WW_DEV=$ww_loop
		;;
	virtio)
		WW_DEV=/dev/vda
		wait_for test -b "$WW_DEV" || die "no disk: $WW_DEV"
		;;
	esac
}

file_system() {
	mkdir -p "$WW_MNT"
	case ${WW_FSTYP:-ext4} in
	tmpfs) mount -t tmpfs -o "huge=always,size=${WW_SHM_SIZE:-60%}" ww-shm "$WW_MNT" || die "no tmpfs" ;;
	none)
		# There is nothing of the program's own on it yet, so its directory is somewhere else.
		if [ "${WW_DISK:-loop}" = 9p ]; then
			mkdir -p "$WW_OUT/work"
			mount --bind "$WW_OUT/work" "$WW_MNT" || die "no directory on 9p"
		else
			mount -t tmpfs ww-mnt "$WW_MNT" || die "no tmpfs"
			disk
		fi
		;;
	*)
		disk
		make_fs "$WW_DEV"
		;;
	esac
}

# What programs that were written for a machine of their own take for granted: that all of it can be written to,
# and the file systems of the kernel's own.
whole_machine() {
	local dir
	mkdir -p "$upper"
	mount -t tmpfs ww-root "$upper" || die "no tmpfs"
	mkdir "$upper/upper" "$upper/work" "$upper/root"
	mount -t overlay -o "lowerdir=/,upperdir=$upper/upper,workdir=$upper/work" ww-root "$upper/root" ||
		die "no overlay of the root"
	# Those that are missing are the kernel's to lack.
	mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
	mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
	mount -t configfs configfs /sys/kernel/config 2>/dev/null
	mount -t fusectl fusectl /sys/fs/fuse/connections 2>/dev/null
	mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null
	mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
	for dir in /dev /proc /sys /run /tmp "$WW_OUT" ${WW_SHARED:+"$WW_SHARED"}; do
		mkdir -p "$upper/root$dir"
		mount --rbind "$dir" "$upper/root$dir" || die "no $dir"
	done
	ip link set lo up 2>/dev/null
	sysctl -q kernel.unprivileged_userns_clone=1 2>/dev/null
	# syzkaller's sandboxes open many files, and dump core when they are told to die.
	ulimit -c 0
}

# run_rounds ROUNDS: 0 without an end but WW_SECONDS'.
run_rounds() {
	local limits=()
	[ -z "$WW_SECONDS" ] || limits+=(--seconds "$WW_SECONDS")
	[ "$1" = 0 ] || limits+=(--rounds "$1")
	# shellcheck disable=SC2016  # the inner shell's
	"$WW_REPRO" rounds "${limits[@]}" --limit "${WW_LIMIT:-30}" --snapshot "$WW_DEBUGFS" "$WW_MNT" "$WW_OUT" \
		chroot "$upper/root" /bin/sh -c 'cd "$TMPDIR" && exec "$@"' sh "$WW_PROGRAM"
}

delay() {
	local words=$*
	[[ $words != *dev=fs* ]] || words=${words//dev=fs/dev=$(fs_dev)}
	amplify "$words"
}

# Each of WW_STEPS, and what the program's directory, wakewatch's tables and the log know of it.
run_steps() {
	local name rounds words
	while read -r name rounds words; do
		echo "ww-lab: begin $name" >/dev/kmsg
		echo 1 >"$WW_DEBUGFS/reset"
		delay "$words"
		run_rounds "$rounds" || return
		amplify off
		reports_are_printed
		for kept in snapshot rounds program.log; do mv "$WW_OUT/$kept" "$WW_OUT/$name.$kept"; done
		echo "ww-lab: end $name" >/dev/kmsg
	done <<<"$WW_STEPS"
}

plan 2
file_system
whole_machine
# shellcheck disable=SC2086  # words
load_wakewatch $WW_KNOBS
# A BUG leaves locks taken: let the guest die of it and not of what comes of that.
echo 1 >/proc/sys/kernel/panic_on_oops
[ -z "${WW_AMPLIFY:-}" ] || delay "$WW_AMPLIFY"
export WW_DEV WW_MNT WW_OUT WW_DEBUGFS
diag "$(uname -r), $(nproc) CPUs, ${WW_FSTYP:-ext4} ${WW_MKFS:-} ${WW_MOUNT:-}, disk: ${WW_DEV:-none}, delay: $(cat "$WW_DEBUGFS/amplify")"
ok "it is set up"

status=0
if [ -n "${WW_STEPS:-}" ]; then
	run_steps || status=$?
else
	run_rounds "${WW_ROUNDS:-0}" || status=$?
	amplify off
	reports_are_printed
	snapshot "$WW_OUT/snapshot"
fi
# It has all mounts once more, and those keep the disk.
umount -R "$upper/root"
case $status in
0) ok "nothing of the program is left" ;;
5) not_ok "nothing of the program is left" ;;
*) die "ww-repro rounds: status $status" ;;
esac
finish
