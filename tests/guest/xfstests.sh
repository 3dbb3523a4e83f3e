#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# An xfstests tree on loop devices on shmem huge pages, one test after the other, with wakewatch loaded
# before the first and looked at before and after each. Root and tree are two images, only read,
# with something on top that goes away with the guest.
#
# A test has a folder below $WW_OUT/tests, which says what became of it even of a guest that dies: `before`
# and `after` are wakewatch's files, `check.out` and result.xml are xfstests' words, there is
# `done` with how long it took, or `limit` if it did not end, and `full` if the devices ran out of what is behind them.
#
# From the lab: WW_TESTS, WW_FSTYP, WW_MKFS, WW_MOUNT, WW_LIMIT, WW_SECONDS, WW_WITHOUT.
#
# kernel: any
# memory: 3G
# append: oops=panic

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

ROOT=/run/ww-root
DEVICE_MB=1200

read -r -a tests <<<"$WW_TESTS"
plan "${#tests[@]}"

# layer DEVICE PLACE: what is on it, writable for as long as the guest lives.
layer() {
	local top=/run/ww-top/${1##*/}
	mkdir -p "$top/lower" "$2"
	mount -t ext4 -o ro "$1" "$top/lower" || die "no image on $1"
	mkdir -p /run/ww-top/up
	mountpoint -q /run/ww-top/up || mount -t tmpfs ww-up /run/ww-top/up
	mkdir -p "/run/ww-top/up/${1##*/}/upper" "/run/ww-top/up/${1##*/}/work"
	mount -t overlay -o "lowerdir=$top/lower,upperdir=/run/ww-top/up/${1##*/}/upper,workdir=/run/ww-top/up/${1##*/}/work" \
		ww-overlay "$2" || die "no overlay on $1"
}

in_root() { # COMMAND...
	env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C \
		WW_REPRO="$in_root_repro" chroot "$ROOT" "$@"
}

setup() {
	local n dev
	layer /dev/vda "$ROOT"
	layer /dev/vdb "$ROOT/xfstests"
	for n in proc sys dev; do mount --rbind "/$n" "$ROOT/$n"; done
	mount -t tmpfs ww-tmp "$ROOT/tmp"
	mount -t tmpfs ww-results "$ROOT/ww-results"
	[ -d /sys/kernel/debug/tracing ] || mount -t debugfs debugfs /sys/kernel/debug
	[ -d "$ROOT/sys/kernel/debug/tracing" ] || mount -t debugfs debugfs "$ROOT/sys/kernel/debug"

	mount -t tmpfs -o "huge=always,size=$((2 * DEVICE_MB + 100))M" ww-shm "$ROOT/ww-shm" || die "no tmpfs"
	devices=()
	for n in test scratch; do
		truncate -s "${DEVICE_MB}M" "$ROOT/ww-shm/$n.img"
		dev=$(losetup -f --show "$ROOT/ww-shm/$n.img") || die "no loop device"
		devices+=("$dev")
	done

	# The tests of our own, in the tree as anybody's.
	mkdir -p "$ROOT/xfstests/tests/wakewatch"
	cp "$own"/* "$ROOT/xfstests/tests/wakewatch/"
	in_root /bin/bash -c 'cd /xfstests/tests/wakewatch && ../../tools/mkgroupfile group.list' ||
		die "tools/mkgroupfile has failed"
	in_root_repro=/usr/local/bin/ww-repro
	cp "$WW_REPRO" "$ROOT$in_root_repro"

	cat >"$ROOT/xfstests/local.config" <<-CONFIG
		export FSTYP=$WW_FSTYP
		export TEST_DEV=${devices[0]}
		export TEST_DIR=/ww-test
		export SCRATCH_DEV=${devices[1]}
		export SCRATCH_MNT=/ww-scratch
		export RESULT_BASE=/ww-results
		export MKFS_OPTIONS="$WW_MKFS"
		export MOUNT_OPTIONS="$WW_MOUNT"
		export TEST_FS_MOUNT_OPTS="$WW_MOUNT"
		export KEEP_DMESG=yes
	CONFIG
	local force=-f
	[ "$WW_FSTYP" != ext4 ] || force='-F -q'
	# shellcheck disable=SC2086  # options
	in_root "mkfs.$WW_FSTYP" $force $WW_MKFS "${devices[0]}" >"$WW_OUT/mkfs.log" 2>&1 || die "mkfs.$WW_FSTYP failed"
}

# keep NAME DIR: what xfstests has left of a test. Logs can be long and 9p is slow.
keep() {
	local f
	for f in "$ROOT/ww-results/$1".*; do
		[ -e "$f" ] || continue
		tail -c 200000 "$f" >"$2/${f##*/}"
	done
	cp "$ROOT/ww-results/result.xml" "$2/" 2>/dev/null || true
}

# look_at_backing DIR: the devices are sparse, and what is behind them may have no room for what is written to them.
# A write fails then, and it is neither the file system's fault nor the test's.
look_at_backing() {
	[ "$(stat -f -c %a "$ROOT/ww-shm")" -ge 1024 ] || : >"$1/full"
}

# one NAME: its result line. Fails if the guest can't go on.
one() {
	local name=$1 dir=$WW_OUT/tests/$1 limit=$WW_LIMIT left begun job status=0 turns=0
	left=$((WW_SECONDS - SECONDS))
	if [ "$left" -le 0 ]; then
		diag "time is up before $name"
		return 1
	fi
	[ "$left" -ge "$limit" ] || limit=$left
	mkdir -p "$dir"
	snapshot "$dir/before"
	diag "run $name"
	echo "ww-lab: test $name" >/dev/kmsg
	rm -f "$ROOT/ww-results/result.xml" "$ROOT/ww-results/$name".*
	begun=$(date +%s.%N)
	# shellcheck disable=SC2016  # the other shell's
	in_root timeout --kill-after=5 "$limit" /bin/bash -c 'cd /xfstests && ./check -R xunit "$1" 2>&1' check "$name" \
		>"$dir/check.out" </dev/null &
	job=$!
	# timeout can't end what sleeps in the kernel for ever, and this has to go on.
	while kill -0 "$job" 2>/dev/null; do
		if awk -v a="$begun" -v b="$(date +%s.%N)" -v l="$((limit + 10))" 'BEGIN { exit !(b - a > l) }'; then break; fi
		sleep 0.2
		# Often enough for who fills it, and seldom enough to cost nothing.
		((++turns % 5)) || look_at_backing "$dir"
	done
	look_at_backing "$dir"
	if kill -0 "$job" 2>/dev/null; then status=124; else wait "$job" || status=$?; fi
	awk -v a="$begun" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f\n", b - a }' >"$dir/seconds"
	# The first line after it: the host reads QEMU's CPU time at both.
	diag "  $(cat "$dir/seconds") s"
	if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
		echo w >/proc/sysrq-trigger
		snapshot "$dir/after"
		keep "$name" "$dir"
		echo "$limit" >"$dir/limit"
		not_ok "$name"
		diag "did not end within $limit s"
		return 1
	fi
	# It is to stand between this test's mark and the next one's.
	[ -n "${WW_WITHOUT:-}" ] || reports_are_printed
	snapshot "$dir/after"
	keep "$name" "$dir"
	echo "$status" >"$dir/done"
	if [ -e "$dir/${name##*/}.notrun" ]; then
		skip_test "$name" "$(head -n 1 "$dir/${name##*/}.notrun")"
	elif [ "$status" -eq 0 ] && grep -q '^Passed all 1 tests' "$dir/check.out"; then
		ok "$name"
	else
		not_ok "$name"
	fi
}

# Otherwise the tests' own processes and mounts would be waited for.
trap - EXIT
own=$(dirname "$0")/../xfstests/wakewatch
in_root_repro=''
WW_DETECT=1
setup
# A console under TCG is slow: one report a second and verdict, the rest is counted.
[ -n "${WW_WITHOUT:-}" ] || load_wakewatch report_limit=1
for name in "${tests[@]}"; do
	one "$name" || break
done
save_reports
[ "$ktap_failed" -eq 0 ] || exit 1
exit 0
