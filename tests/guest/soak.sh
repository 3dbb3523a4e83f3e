#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Everything that moves, drops, writes or reuses pages, all at once, with wakewatch loaded as it
# comes: a fixed kernel has nothing to say, and wakewatch has nothing to say about writeback. Each
# kind of work has to be in the kernel's own counters, or the silence means nothing.
#
# kernel: fixed
# memory: 1G
# timeout: 600
# append: numa=fake=2
# expect: BUG: KCSAN
#
# WW_MINUTES: how long, 1 by default; and until everything has happened

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/pressure.sh"
. "$(dirname "$0")/counts.sh"

seconds=$((${WW_MINUTES:-1} * 60))
thp=/sys/kernel/mm/transparent_hugepage

# --- the kernel's own counters -------------------------------------------------

# count_calls NAME FUNCTION: the kernel counts its calls from here on; nothing is traced.
count_calls() {
	echo "p:soak/$1 $2" >>"$tracefs/kprobe_events" || die "can't count calls of $2"
	echo 1 >"$tracefs/instances/soak/events/soak/$1/enable"
}

# calls NAME
calls() {
	awk -v name="$1" '$1 == name { print $2 }' "$tracefs/kprobe_profile"
}

# Bit 1 of the page flags is PG_writeback (include/linux/page-flags.h).
PG_writeback=1

# Waits of truncation for the end of writeback: by their caller and the page's flags.
count_truncations_in_writeback() {
	local from to range
	from=$(awk '$3 == "truncate_inode_pages_range" { print $1 }' /proc/kallsyms)
	to=$(awk -v from="$from" '$1 > from && (to == "" || $1 < to) { to = $1 } END { print to }' /proc/kallsyms)
	range="caller > 0x$from && caller < 0x$to"
	# shellcheck disable=SC2016  # kprobe_events' own $
	echo 'p:soak/wait_writeback folio_wait_writeback caller=+0($stack):x64 flags=+0(%di):x64' \
		>>"$tracefs/kprobe_events" || die "can't count waits for writeback"
	echo "$range && flags & $((1 << PG_writeback))" >"$tracefs/instances/soak-waits/events/soak/wait_writeback/filter" ||
		die "no filter: $range"
	echo 1 >"$tracefs/instances/soak-waits/events/soak/wait_writeback/enable"
}

# Findings about writeback by trace event: no limit of reports holds for these.
count_leaks() {
	local events=$tracefs/instances/soak-leaks/events/wakewatch
	echo "bit == $PG_writeback" >"$events/wake_leak/filter" || die "no filter for wake_leak"
	echo 1 >"$events/wake_leak/enable"
	echo 1 >"$events/end_unreferenced/enable"
}

# --- what runs ------------------------------------------------------------------

torn_down() {
	grep -c 'torn down' "$run/loops.log"
}

collapsed_by_khugepaged() {
	echo $(($(cat "$thp/khugepaged/pages_collapsed") - collapsed))
}

moved_to_node() {
	echo $(($(calls move_pages) + $(calls mbind)))
}

# Which kinds of work these are, the kernel itself has counted.
happenings=(
	"pages were written back|vm nr_written|5000"
	"pages were swapped out|vm pswpout"
	"and in|vm pswpin"
	"pages were reclaimed|vm pgsteal_kswapd pgsteal_direct"
	"a group met its limit|group_event readers max"
	"another one was throttled|group_event soak high"
	"memory was compacted|vm compact_isolated"
	"pages were migrated|vm pgmigrate_success"
	"files had huge pages|vm thp_file_alloc"
	"huge pages were split|vm thp_split_page"
	"their mappings were split|vm thp_split_pmd"
	"huge pages were collapsed|vm thp_collapse_alloc"
	"by khugepaged, too|collapsed_by_khugepaged"
	"files were truncated|calls truncate"
	"pages with buffers were|calls truncate_buffers"
	"truncation waited for writeback|traced soak-waits"
	"mapped pages were written|calls mkwrite"
	"direct I/O was done|calls direct"
	"to files that were cached|calls direct_cached"
	"files were read ahead|calls readahead"
	"and dropped|calls dontneed"
	"a CPU was taken down|calls cpu_down"
	"loop devices were set up|calls loop_up"
	"and torn down|torn_down"
	"ends of writeback were seen|ww_stat end_writeback|5000"
)
[ ! -e /sys/devices/system/node/node1 ] || happenings+=("pages were moved to another node|moved_to_node")

# A line a minute.
progress() {
	local second
	for ((second = 1; ; second++)); do
		sleep 1
		! over || return 0
		[ "$((second % 10))" -ne 0 ] || rearm_assertions
		[ "$((second % 60))" -ne 0 ] ||
			diag "$((second / 60)) min: $(ww_stat end_writeback) ends of writeback," \
				"$(grep -c 'BUG: wakewatch: ' "$run/dmesg") reports"
	done
}

# CPU 1 is taken down and comes back.
hotplug() {
	local cpu=/sys/devices/system/cpu/cpu1/online
	while ! over; do
		echo 0 >"$cpu"
		sleep "0.$((RANDOM % 9))"
		echo 1 >"$cpu"
		sleep "$((RANDOM % 3)).$((RANDOM % 9))"
	done
}

# A loop device with a file system is set up, written to and torn down, at times while it is still
# mounted, so that it goes with the last user.
loops() {
	local image=$WW_SHM/churn.img mnt=/run/ww-churn dev lazy
	mkdir -p "$mnt"
	while ! over; do
		lazy=$((RANDOM % 2))
		truncate -s 24M "$image" && dev=$(losetup -f --show "$image") &&
			mkfs.ext4 -q -F -b 4096 -m 0 -N 64 "$dev" && mount -t ext4 "$dev" "$mnt" || echo failed
		dd if=/dev/zero of="$mnt/file" bs=64k count=64 2>/dev/null
		[ "$lazy" = 0 ] || losetup -d "$dev"
		umount "$mnt" || echo failed
		[ "$lazy" = 1 ] || losetup -d "$dev"
		rm -f "$image"
		echo torn down
	done
}

# in_group NAME COMMAND...: in a memory control group.
in_group() {
	echo 0 >"$run/cgroup/$1/cgroup.procs" || exit 1
	shift
	exec "$@"
}

group_event() { # GROUP NAME
	sed -n "s/^$2 //p" "$run/cgroup/$1/memory.events"
}

# --- set-up ---------------------------------------------------------------------

plan 42
WW_IMG_SIZE=128M
setup_loop
# Unlike in the races, completions may run on any CPU.
echo 3 >/sys/devices/virtual/workqueue/cpumask

setup_swap
mkdir "$run/huge" "$run/cgroup"
mount -t tmpfs -o huge=always,size=64M ww-huge "$run/huge" || die "no tmpfs for huge pages"

mount -t cgroup2 ww-cgroup "$run/cgroup" || die "no cgroup2"
echo +memory >"$run/cgroup/cgroup.subtree_control" || die "no memory controller"
mkdir "$run/cgroup/readers" "$run/cgroup/soak"
echo 16M >"$run/cgroup/readers/memory.max"
# Not `max`: at times all that is left in the group is locked or under writeback.
echo 40M >"$run/cgroup/soak/memory.high"

# khugepaged is to come by often, and to take memory that is not all touched.
echo 200 >"$thp/khugepaged/scan_sleep_millisecs"
echo 200 >"$thp/khugepaged/alloc_sleep_millisecs"
echo 511 >"$thp/khugepaged/max_ptes_none"
collapsed=$(cat "$thp/khugepaged/pages_collapsed")

load_wakewatch
[ -e "$tracefs/kprobe_events" ] || die "no tracefs"
mkdir "$tracefs/instances/soak" "$tracefs/instances/soak-waits" "$tracefs/instances/soak-leaks"
echo 0 >"$tracefs/instances/soak/tracing_on"
count_calls truncate truncate_inode_pages_range
count_calls truncate_buffers block_invalidate_folio
count_calls mkwrite ext4_page_mkwrite
count_calls direct __iomap_dio_rw
count_calls direct_cached invalidate_inode_pages2_range
count_calls readahead page_cache_ra_unbounded
count_calls dontneed mapping_try_invalidate
count_calls cpu_down _cpu_down
count_calls loop_up loop_configure
count_calls loop_down lo_release
count_calls move_pages __x64_sys_move_pages
count_calls mbind __x64_sys_mbind
count_truncations_in_writeback
count_leaks
check "calls are counted by somebody else, too" counts_begin

fill_memory
diag "$(uname -r), $seconds s"

"$WW_REPRO" stress "$WW_MNT" --until "$run/over" --hog "$hog" >"$run/stress.log" 2>&1 &
stress=$!
in_group soak "$WW_REPRO" soak "$WW_MNT" "$run/huge" --until "$run/over" >"$run/soak.log" 2>&1 &
soak=$!
in_group readers "$WW_REPRO" reclaim "$WW_MNT" --readers 8 --size 24 --until "$run/over" \
	>"$run/reclaim.log" 2>&1 &
reclaim=$!
progress &
progress=$!
hotplug >"$run/hotplug.log" 2>&1 &
hotplug=$!
loops >"$run/loops.log" 2>&1 &
loops=$!
work_until_all_happened "$seconds" "$stress" "$soak" "$reclaim"

ended stress "$stress"
ended soak "$soak"
ended reclaim "$reclaim"
wait "$hotplug" "$loops" "$progress"
check "the file system is written back" sync -f "$WW_MNT"
echo 1 >/sys/devices/system/cpu/cpu1/online 2>/dev/null
check "as many calls were counted as by somebody else" counts_agree

# --- what happened ---------------------------------------------------------------

judge_happenings
zero "no loop device failed" "$(grep -c failed "$run/loops.log")"
[ -e /sys/devices/system/node/node1 ] || skip_test "pages were moved to another node" "there is only one"

# --- what was said ---------------------------------------------------------------

while read -r line; do diag "$line"; done <"$WW_DEBUGFS/stats"
zero "no writeback ended unreferenced" "$(ww_stat unreferenced)"
zero "no writeback ended that had not begun" "$(ww_stat unbalanced)"
zero "no writeback started on an unlocked page" "$(ww_stat unlocked_start)"
zero "no tail page was woken" "$(ww_stat tail)"
zero "no page that somebody else owns was woken for PG_writeback" "$(traced soak-leaks)"
check "no hook has missed an event" nothing_missed
zero "no report was lost" "$(ww_stat reports_dropped)"
end_log
zero "no report is about writeback" "$(grep -c 'BUG: wakewatch: .*writeback' "$run/dmesg")"
no_findings
grep -o 'BUG: wakewatch: .*' "$run/dmesg" | sort | uniq -c | sed 's/^/# reported:/'

teardown_swap
finish
