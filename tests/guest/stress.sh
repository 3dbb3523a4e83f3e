#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Programs that every Debian has, at work on ext4 or another file system on a loop device on shmem huge
# pages, while others truncate, punch holes, drop caches and sync, and memory is short. What was written is
# what is read back: fio and fsx look at every byte of theirs, and fsck at the file system in the end.
#
# kernel: fixed
# memory: 1G
# timeout: 500
#
# WW_SECONDS: how long, 60 by default, and until everything has happened; what has begun by then is finished
# WW_AMPLIFY: a delay, in the words of `amplify`; dev= is added
# WW_FSTYP, WW_MKFS, WW_MOUNT: see setup_loop()
# WW_FSX: the program
# WW_FSSTRESS: the program, if there is one; else what is in PATH

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/pressure.sh"
. "$(dirname "$0")/counts.sh"

seconds=${WW_SECONDS:-60}
conf=$(dirname "$(readlink -f "$0")")/fsx.toml
# A second file system, which may become full.
ng=/run/ww-ng
# Of what is run one after the other.
turn=4

# Stressors that say nothing about pages: of mounts and of /proc, which has the lab's own files; and
# those whose purpose it is that the machine is out of memory.
without='bind-mount|binderfs|procfs|oom-pipe|stack|bad-altstack'

happenings=(
	"pages were written back|vm nr_written|1000"
	"pages were reclaimed|vm pgsteal_kswapd pgsteal_direct"
	"pages were swapped out|vm pswpout"
	"ends of writeback were seen|ww_stat end_writeback|1000"
)
[ -z "${WW_AMPLIFY:-}" ] || happenings+=("some of them were delayed|ww_stat delays")

# Each pass writes its files whole, and reads them whole.
run_fio() {
	local n=0
	while ! over; do
		n=$((n + 1))
		fio --directory="$WW_MNT/fio" --thread --eta=never --minimal --size=4M --rw=randwrite \
			--verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 --randseed="$n" \
			--name=buffered --ioengine=psync --bs=2k --fsync=32 \
			--name=mapped --ioengine=mmap --bs=4k --fsync=64 \
			--name=direct --ioengine=psync --bs=4k --direct=1 >"$run/fio.last" 2>&1 || {
			cat "$run/fio.last"
			return 1
		}
	done
	echo "$n passes of 12 MB written and verified"
}

run_fsx() { # NAME
	local seed=0
	while ! over; do
		seed=$((seed + 1))
		"$WW_FSX" -q -S "$seed" -N 1000 -f "$conf" -P "$run" "$WW_MNT/$1" || return 1
	done
	echo "$seed files, 1000 operations on each"
}

run_stress_ng() {
	local name names status done='' not=''
	# What stress-ng's own programs inherit is the default, and a stray one does not end all of it.
	trap 'echo "SIGALRM in $name"' ALRM
	# Shuffled, and the same in every run.
	names=$(for class in filesystem memory; do stress-ng --class "$class?" 2>&1; done | sed 's/.*: //' |
		tr ' ' '\n' | grep -vxE "$without|" | sort -u | shuf --random-source=<(yes "$seconds"))
	while ! over; do
		for name in $names; do
			! over || break
			status=0
			echo "$name" >"$run/stress-ng.now"
			stress-ng "--$name" 1 --timeout "$turn" --temp-path "$ng" --oomable --vm-bytes 32m \
				--hdd-bytes 16m --fallocate-bytes 16m >"$run/stress-ng.last" 2>&1 || status=$?
			case $status in
			0) done="$done $name" ;;
			# Not to be had here: EXIT_NO_RESOURCE, EXIT_NOT_IMPLEMENTED.
			3 | 4) not="$not $name" ;;
			*)
				echo "$name: status $status"
				cat "$run/stress-ng.last"
				return 1
				;;
			esac
		done
	done
	echo "run:$done"
	echo "not to be had here:$not"
	echo "$(wc -w <<<"$done") stressors run, $(wc -w <<<"$not") not to be had here"
}

run_fsstress() {
	local n=0
	while ! over; do
		n=$((n + 1))
		"$WW_FSSTRESS" -d "$WW_MNT/fsstress" -n 200 -p 2 -s "$n" || return 1
	done
	echo "$n rounds"
}

run_sync() {
	while ! over; do
		sync -f "$WW_MNT"
		sleep 1
	done
}

# in_order DESCRIPTION TYPE DEVICE: its own program has nothing to complain of.
in_order() {
	case $2 in
	ext4) check "e2fsck finds $1 in order" e2fsck -fn "$3" ;;
	xfs) check "xfs_repair finds $1 in order" xfs_repair -n "$3" ;;
	btrfs) check "btrfs check finds $1 in order" btrfs check --readonly "$3" ;;
	*) not_ok "nothing checks $1: $2" ;;
	esac
}

progress() {
	while ! over; do
		sleep 10
		rearm_assertions
		diag "$SECONDS s: $(ww_stat end_writeback) ends of writeback," \
			"$(ww_stat delays) delays, $(grep -c 'BUG: wakewatch: ' "$run/dmesg") reports"
	done
}

plan 20
for program in fio stress-ng; do
	command -v "$program" >/dev/null || die "no $program; run: make packages"
done
[ -x "${WW_FSX:-}" ] || die "no fsx at ${WW_FSX:-WW_FSX}; run: make setup"
WW_IMG_SIZE=256M
# The least that mkfs.xfs takes.
[ "${WW_FSTYP:-}" != xfs ] || WW_IMG_SIZE=300M
setup_loop
# Unlike in the races, completions may run on any CPU.
echo 3 >/sys/devices/virtual/workqueue/cpumask
mkdir -p "$ng" "$WW_MNT/fio" "$WW_MNT/fsstress"
truncate -s 96M "$WW_SHM/ng.img"
ng_loop=$(losetup -f --show "$WW_SHM/ng.img") || die "no second loop device"
mkfs.ext4 -q -F -b 1024 -m 0 "$ng_loop" || die "mkfs.ext4 failed"
mount -t ext4 "$ng_loop" "$ng" || die "no second file system"
setup_swap

# A report is 1.5 KB of the log, which is kept in memory: an hour of ten a second is 50 MB of 224.
limit=10
[ "$seconds" -le 600 ] || limit=1
load_wakewatch report_limit="$limit"
mount -t tracefs tracefs "$tracefs" 2>/dev/null
check "calls are counted by somebody else, too" counts_begin
[ -z "${WW_AMPLIFY:-}" ] || amplify "$WW_AMPLIFY dev=$(fs_dev)"
# A BUG in a worker leaves its locks taken: let the guest die of it and not of what comes of that.
echo 1 >/proc/sys/kernel/panic_on_oops
room_mb=224
fill_memory
diag "$(uname -r), $WW_FSTYP, $WW_MKFS $WW_MOUNT, $seconds s, delay: $(cat "$WW_DEBUGFS/amplify")"

# In six hours of stress-ng's stressors, an alarm of one has come to another process twice, and ended it: the
# shell that runs them, and the one that runs fio.
trap '' ALRM
SECONDS=0
"$WW_REPRO" stress "$WW_MNT" --until "$run/over" --hog "$room_mb" >"$run/stress.log" 2>&1 &
stress=$!
run_fio >"$run/fio.log" 2>&1 &
fio=$!
run_fsx fsx1 >"$run/fsx.log" 2>&1 &
fsx=$!
run_stress_ng >"$run/stress-ng.log" 2>&1 &
stress_ng=$!
run_sync &
sync=$!
progress &
progress=$!
fsstress=
WW_FSSTRESS=${WW_FSSTRESS:-$(type -P fsstress)}
if [ -x "$WW_FSSTRESS" ]; then
	run_fsstress >"$run/fsstress.log" 2>&1 &
	fsstress=$!
fi
work_until_all_happened "$seconds" "$stress" "$fio" "$fsx" "$stress_ng"

ended stress "$stress"
ended fio "$fio"
ended fsx "$fsx"
ended stress-ng "$stress_ng"
diag "stress-ng's last one: $(cat "$run/stress-ng.now")"
if [ -n "$fsstress" ]; then
	ended fsstress "$fsstress"
else
	skip_test "fsstress ran to its end" "no fsstress: it comes with xfstests (XFSTESTS=TREE)"
fi
wait "$sync" "$progress"
amplify off
check "as many calls were counted as by somebody else" counts_agree
check "no hook has missed an event" nothing_missed

judge_happenings
[ -n "${WW_AMPLIFY:-}" ] || zero "none of them was delayed" "$(ww_stat delays)"

for mount in "$WW_MNT" "$ng"; do
	check "unmounted: $mount" umount "$mount"
done
in_order "the file system" "$WW_FSTYP" "$ww_loop"
in_order "the second one" ext4 "$ng_loop"
losetup -d "$ng_loop"
losetup -d "$ww_loop"
ww_loop=
teardown_swap

snapshot "$WW_OUT/snapshot"
sed 's/^/# /' "$WW_OUT/snapshot"
end_log
zero "no report was lost" "$(ww_stat reports_dropped)"
zero "wakewatch has nothing to say about writeback" "$(grep -c 'BUG: wakewatch: .*writeback' "$run/dmesg")"
no_findings
grep -o 'BUG: wakewatch: .*' "$run/dmesg" | sort | uniq -c | sed 's/^/# reported:/'
finish
