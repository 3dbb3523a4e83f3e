#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# mutant.sh HEADLINE SCENARIO...: runs the scenarios and holds wakewatch to its word: it reports
# HEADLINE (as "reused wake of PG_writeback"), in debugfs and in the kernel log, and nothing else.
# With "nothing" it has to be silent. For the kernels of tests/mutants, each with a bug of its own,
# and for those without.
#
# kernel: any
# memory: 1G
# timeout: 120
#
# WW_PARAMETERS: more of the module's, as NAME=VALUE

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

WW_PARAMETERS=${WW_PARAMETERS:-}
headline=$1
shift
WW_OTHER=/run/ww-other-mnt
mkdir -p "$WW_OTHER"
[ $# -gt 0 ] || die "usage: mutant.sh HEADLINE SCENARIO..."

# --- scenarios --------------------------------------------------------------------

# A file is written and nobody waits for it.
sync_one() {
	"$WW_REPRO" sync "$WW_MNT"
}

# Inside the window the page becomes another file's.
order0() {
	"$WW_REPRO" order0 "$WW_MNT" --rounds 3
}

# A write's unlock, and a reader that waits for it.
write_race() {
	"$WW_REPRO" write-race "$WW_MNT" --rounds 5
}

# The same, and another file gets the page.
write_race_reuse() {
	"$WW_REPRO" write-race "$WW_MNT" --rounds 5 --reuse
}

# The end of writeback, and a reader that waits for the lock. On blocks of 1024 bytes.
bystander() {
	umount "$WW_MNT" &&
		mkfs.ext4 -q -F -b 1024 -m 0 -N 4096 \
			-E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$ww_loop" &&
		mount -t ext4 -o noatime "$ww_loop" "$WW_MNT" &&
		"$WW_REPRO" bystander "$WW_MNT" --rounds 5
}

# Two readers that lock a huge page of tmpfs in turns, until they have had to wait for each other.
huge() {
	local before huge=$WW_SHM/huge
	before=$(ww_stat wake)
	dd if=/dev/zero of="$huge" bs=1M count=2 status=none || return 1
	for _ in {1..100}; do
		cat "$huge"{,,,,,,,,,,,,,,,} >/dev/null &
		cat "$huge"{,,,,,,,,,,,,,,,} >/dev/null
		wait $!
		[ "$(ww_stat wake)" -lt $((before + 10)) ] || return 0
	done
	echo "nobody had to wait: $before wakes before, $(ww_stat wake) now"
	return 1
}

# Another file system, which may be left with pages that stay locked: nobody unmounts it.
other_fs() {
	local dir=/run/ww-other
	mountpoint -q "$WW_OTHER" && return 0
	if ! { mkdir -p "$dir" && mount -t tmpfs ww-other "$dir" && truncate -s 32M "$dir/fs.img"; }; then
		return 1
	fi
	mkfs.ext4 -q -F -m 0 -b 4096 "$dir/fs.img" && mount -o loop "$dir/fs.img" "$WW_OTHER"
}

# read_back FILE: by somebody who may have to be killed.
read_back() {
	timeout -s KILL 5 cat "$1" >/dev/null
	echo "cat: $?"
	true
}

# Pages of a file, from the device.
read_file() {
	other_fs || return 1
	dd if=/dev/zero of="$WW_OTHER/file" bs=4k count=8 conv=fsync status=none &&
		echo 1 >/proc/sys/vm/drop_caches && read_back "$WW_OTHER/file"
}

# Pages of a hole.
read_hole() {
	other_fs || return 1
	truncate -s 32k "$WW_OTHER/hole" && read_back "$WW_OTHER/hole"
}

# --- what wakewatch said ----------------------------------------------------------

# headlines [--loss HEADLINE]: of the reports on stdin; only the verdict, the event and the bit. What a kernel
# with the live read race says by itself is not this one's.
headlines() {
	"$WW_REPRO" findings "$@" | sed -n 's/^other wakewatch \(.*\) in .*$/\1/p' | sort | uniq -c
}

# said_in NAME COMMAND...: there is the headline, and no other.
said_in() {
	local what=$1 said
	shift
	said=$("$@" | headlines --loss "$headline")
	echo "$what: $said"
	if [ "$headline" = nothing ]; then
		[ -z "$said" ]
	else
		[ "$(wc -l <<<"$said")" -eq 1 ] && [[ $said == *" $headline" ]]
	fi
}

# reported [--loss HEADLINE]: how many reports there are.
reported() {
	headlines "$@" <"$WW_DEBUGFS/reports" | awk '{ n += $1 } END { print n + 0 }'
}

# twins: how many reports say in the other way what the headline says.
twins() {
	echo $(($(reported) - $(reported --loss "$headline")))
}

# Reports are rate-limited, counters are not.
counters() {
	local name n want twins status=0
	want=${headline%% *}
	want=${want//-/_}
	twins=$(twins)
	for name in zero_ref tail reused unreferenced unbalanced unlocked_start; do
		n=$(ww_found "$name")
		case $name in
		"$want") [ "$n" -gt 0 ] ;;
		zero_ref | reused) [ "$n" -eq "$twins" ] ;;
		*) [ "$n" -eq 0 ] ;;
		esac || { echo "$name is $n; of this loss in the other way: $twins"; status=1; }
	done
	return "$status"
}

# Nothing is to be concluded from what was not looked at. A scenario that only reads, and is done before the file
# system writes anything, has neither ends of writeback nor wakes, but windows of its reads.
looked() {
	local name n all=0
	for name in end_writeback wake windows_opened; do
		n=$(ww_stat "$name")
		echo "$name: $n"
		all=$((all + n))
	done
	n=$(ww_stat reports_dropped)
	echo "reports_dropped: $n"
	[ "$n" -eq 0 ] && [ "$all" -gt 0 ]
}

# A mutant's bug is wakewatch's to find.
kernel_silent() {
	! kernel_log | grep -E 'BUG:|WARNING:|kernel BUG|Oops' | grep -v 'BUG: wakewatch: '
}

plan $(($# + 5))
setup_loop
# Whatever mkfs and mount have left to write is not part of this.
sync
# shellcheck disable=SC2086 # words
load_wakewatch $WW_PARAMETERS
# Some round or other loses the race, on a busy host a later one: until it was lost, if it is to be.
tries=1
[ "$headline" = nothing ] || tries=10
wanted=${headline%% *}
for scenario in "$@"; do
	function=${scenario//-/_}
	[ "$scenario" != sync ] || function=sync_one
	for ((try = 1; ; try++)); do
		status=0
		out=$("$function" 2>&1) || status=$?
		[ -z "$out" ] || printf '%s\n' "$out" | sed 's/^/# /'
		if [ "$status" -ne 0 ] || [ "$try" -eq "$tries" ]; then break; fi
		[ "$(ww_found "${wanted//-/_}")" -eq 0 ] || break
	done
	if [ "$status" -eq 0 ]; then
		ok "$scenario: run to its end"
	else
		not_ok "$scenario: failed"
	fi
done
# The file system goes on writing, and what is compared from here on is read one after the other.
echo 0 >"$WW_DEBUGFS/enable"
reports_are_printed
check "in reports: $headline" said_in reports cat "$WW_DEBUGFS/reports"
check "in the kernel log: $headline" said_in log dmesg
check "counted: no other verdict" counters
check "events were looked at" looked
check "the kernel has noticed nothing" kernel_silent
grep -h '^BUG: wakewatch: ' "$WW_DEBUGFS/reports" | sort | uniq -c | while read -r line; do diag "$line"; done
finish
