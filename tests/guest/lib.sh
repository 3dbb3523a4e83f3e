# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What every guest script needs. A script says at its top, in comments, what it
# wants from the lab:
#
#   # kernel: fixed          the kernel it is meant for
#   # memory: 2G             of the guest
#   # timeout: 60            seconds for the script, boot not counted, on a host with
#                            nothing else to do; the lab allows four times as much
#   # append: oops=panic     more kernel parameters
#   # expect: VM_WARN_ON(x)  part of a kernel finding that the script provokes and checks
#   # provokes: the live read race    its findings are what the script is about
#
# then sources this file, calls plan() and after it ok(), not_ok() and skip_test(),
# and ends with `finish`. Results are KTAP on stdout; the exit status is 0, 1 or 4
# (all skipped), as in kselftest. An early end of any kind is a failure and
# never a silence: the trap below sees to it.
#
# From the lab: WW_KO, WW_REPRO, WW_OUT (shared with the host), WW_DETECT=0|1.

WW_OUT=${WW_OUT:-/tmp/ww-out}
WW_DETECT=${WW_DETECT:-1}
WW_SHM=${WW_SHM:-/run/ww-shm}
WW_MNT=${WW_MNT:-/run/ww-mnt}
WW_IMG_SIZE=${WW_IMG_SIZE:-256M}
WW_DEBUGFS=/sys/kernel/debug/wakewatch
# The name under which a script's stats and reports are saved.
WW_NAME=${WW_NAME:-$(basename "$0" .sh)}

mkdir -p "$WW_OUT"

# --- KTAP -------------------------------------------------------------------

ktap_n=0
ktap_failed=0
ktap_skipped=0
ktap_planned=0
ktap_done=

# plan N: N results will follow.
plan() {
	ktap_planned=$1
	printf 'KTAP version 1\n1..%d\n' "$1"
}

ok() {
	ktap_n=$((ktap_n + 1))
	printf 'ok %d %s\n' "$ktap_n" "$*"
}

not_ok() {
	ktap_n=$((ktap_n + 1))
	ktap_failed=$((ktap_failed + 1))
	printf 'not ok %d %s\n' "$ktap_n" "$*"
}

# skip_test DESCRIPTION REASON...
skip_test() {
	local what=$1
	shift
	ktap_n=$((ktap_n + 1))
	ktap_skipped=$((ktap_skipped + 1))
	printf 'ok %d %s # SKIP %s\n' "$ktap_n" "$what" "$*"
}

diag() {
	printf '# %s\n' "$*"
}

# check DESCRIPTION COMMAND...: ok if the command succeeds, its output as diagnostics.
check() {
	local what=$1 out
	shift
	if out=$("$@" 2>&1); then
		ok "$what"
	else
		not_ok "$what"
		diag "failed: $*"
		[ -z "$out" ] || printf '%s\n' "$out" | sed 's/^/# /'
	fi
}

# skip_all REASON: nothing of this script can run here.
skip_all() {
	printf 'KTAP version 1\n1..0 # SKIP %s\n' "$*"
	ktap_done=1
	exit 4
}

# die REASON: the script can't go on.
die() {
	diag "$*"
	exit 1
}

# wait_for COMMAND...: until it succeeds. The limit is for what never comes; that it takes its time on
# a busy host is no result.
wait_for() {
	local end=$((SECONDS + 120))
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

finish() {
	ktap_done=1
	if [ "$ktap_n" -ne "$ktap_planned" ]; then
		diag "planned $ktap_planned results, have $ktap_n"
		exit 1
	fi
	[ "$ktap_failed" -eq 0 ] || exit 1
	[ "$ktap_n" -eq 0 ] || [ "$ktap_skipped" -lt "$ktap_n" ] || exit 4
	exit 0
}

ww_on_exit() {
	local status=$?

	if [ -z "$ktap_done" ]; then
		[ "$ktap_planned" -gt 0 ] || printf 'KTAP version 1\n'
		not_ok "$WW_NAME: ended early, status $status"
		status=1
	fi
	save_reports
	unload_wakewatch
	teardown_loop
	exit "$status"
}
trap ww_on_exit EXIT

# --- the file system under test -----------------------------------------------

ww_loop=

# A loop device on a file of shmem huge pages.
setup_disk() {
	mkdir -p "$WW_SHM"
	mount -t tmpfs -o "huge=always,size=${WW_SHM_SIZE:-60%}" ww-shm "$WW_SHM" ||
		die "no tmpfs at $WW_SHM"
	loop_on "$WW_SHM/fs.img"
}

# loop_on FILE: sets ww_loop, a device for it: WW_LOOP, or the next one.
loop_on() {
	truncate -s "$WW_IMG_SIZE" "$1" || die "no room for $1"
	# In a distribution's kernel it is a module, which nothing loads by itself.
	[ -e /sys/module/loop ] || modprobe loop || die "no loop devices"
	ww_loop=$(losetup --show "${WW_LOOP:--f}" "$1") || die "no loop device"
}

# make_fs DEVICE: WW_FSTYP there, with WW_MKFS and WW_MOUNT, options of mkfs and of mount.
make_fs() {
	local mkfs
	mkdir -p "$WW_MNT"
	case ${WW_FSTYP:=ext4} in
	# Nothing may be left for later: background initialisation would write
	# while a scenario counts on a quiet device.
	ext4) mkfs="-q -F -m 0 -N 4096 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard ${WW_MKFS:=-b 4096}" ;;
	*) mkfs="-q -f ${WW_MKFS:=}" ;;
	esac
	# shellcheck disable=SC2086  # options
	"mkfs.$WW_FSTYP" $mkfs "$1" || die "mkfs.$WW_FSTYP failed"
	# shellcheck disable=SC2086
	mount -t "$WW_FSTYP" -o noatime ${WW_MOUNT:=} "$1" "$WW_MNT" || die "no $WW_FSTYP at $WW_MNT"
}

# Where the bug was seen: ext4 on a loop device on a file of shmem huge pages. Or another file system there.
setup_loop() {
	setup_disk
	make_fs "$ww_loop"

	# Completions on CPU 0, where the window is held open; the driver pins
	# itself to CPU 1.
	echo 1 >/sys/devices/virtual/workqueue/cpumask
	echo 0 >"/sys/block/${ww_loop#/dev/}/queue/rq_affinity"
}

# MAJ:MIN of the superblock, as `amplify` takes it for dev=. It is the loop device's, but for btrfs.
fs_dev() {
	findmnt -n -o MAJ:MIN "$WW_MNT" | tr -d ' '
}

teardown_loop() {
	[ -n "$ww_loop" ] || return 0
	umount "$WW_MNT"
	losetup -d "$ww_loop"
	umount "$WW_SHM"
	ww_loop=
}

# --- wakewatch ------------------------------------------------------------------

ww_loaded=

# load_wakewatch [PARAMETER=VALUE]...: detection as WW_DETECT says.
# shellcheck disable=SC2120
load_wakewatch() {
	[ -d /sys/kernel/debug/tracing ] || mount -t debugfs debugfs /sys/kernel/debug
	insmod "$WW_KO" enable="$WW_DETECT" "$@" || die "insmod $WW_KO failed"
	ww_loaded=1
}

unload_wakewatch() {
	[ -n "$ww_loaded" ] || return 0
	rmmod wakewatch
	ww_loaded=
}

# amplify WORD...: set the delay, `amplify off` ends it.
amplify() {
	echo "$*" >"$WW_DEBUGFS/amplify" || die "amplify $* was refused"
}

# check_ftrace_off DESCRIPTION COMMAND...: check, of what switches ftrace off. 7.3 refuses that, with nothing hooked
# either (ftrace_enable_sysctl(), kernel/trace/ftrace.c).
check_ftrace_off() {
	if echo 0 2>/dev/null >/proc/sys/kernel/ftrace_enabled; then
		echo 1 >/proc/sys/kernel/ftrace_enabled
		check "$@"
	else
		skip_test "$1" "this kernel's ftrace can't be switched off"
	fi
}

# ww_stat NAME: one counter.
ww_stat() {
	sed -n "s/^$1: //p" "$WW_DEBUGFS/stats"
}

# ww_found VERDICT: its counter, without the live read race: a kernel says something of that by itself, now
# and then (tests/findings).
ww_found() {
	local live
	live=$("$WW_REPRO" findings <"$WW_DEBUGFS/reports" | grep -c "^live wakewatch ${1//_/-} ")
	echo $(($(ww_stat "$1") - live))
}

# kernel_log: what is in it besides what a kernel may say by itself (tests/findings).
kernel_log() {
	dmesg | "$WW_REPRO" findings --rest
}

in_log() { # TEXT
	dmesg | grep -qF -- "$1"
}

# Reports are printed by a kworker, in its own time: wait until the last one is there.
reports_are_printed() {
	local last
	last=$(grep -o '^report [0-9]* at [0-9.]*' "$WW_DEBUGFS/reports" | tail -n 1)
	[ -z "$last" ] || wait_for in_log "$last"
}

# An assertion that has fired once would be silent from then on.
rearm_assertions() {
	echo 1 >/sys/kernel/debug/clear_warn_once
}

# snapshot FILE: the counters, the call sites and the windows, as they are now.
snapshot() {
	[ -e "$WW_DEBUGFS/stats" ] || return 0
	local f
	for f in stats callers windows; do
		echo "== $f"
		cat "$WW_DEBUGFS/$f"
	done >"$1"
}

# Keep what wakewatch knows in the run folder. Also done on exit, before unloading.
save_reports() {
	[ -e "$WW_DEBUGFS/stats" ] || return 0
	local f
	for f in stats reports windows; do
		cat "$WW_DEBUGFS/$f" >"$WW_OUT/$WW_NAME.$f"
	done
}
