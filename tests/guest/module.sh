#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The module itself: what it takes, what it refuses, and that it comes and goes without a trace,
# under write load and with a window held open.
#
# kernel: fixed
# memory: 1G
# timeout: 300

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/load.sh"

load_cycles=${WW_LOAD_CYCLES:-20}

# refused PARAMETER=VALUE TEXT: insmod fails, says TEXT in one line, and leaves nothing.
refused() {
	mark
	! insmod "$WW_KO" "$1" 2>/dev/null || { rmmod wakewatch; echo "loaded with $1"; return 1; }
	since_mark
	[ "$(since_mark | grep -c 'wakewatch:')" -eq 1 ] || { echo "not one line"; return 1; }
	since_mark | grep -qF -- "$2" || { echo "does not say: $2"; return 1; }
	nothing_left
}

# rejected FILE TEXT SAYS: the write fails, the log says SAYS in one line, the file is as before.
rejected() {
	local before
	before=$(cat "$WW_DEBUGFS/$1")
	mark
	! printf '%b' "$2" 2>/dev/null >"$WW_DEBUGFS/$1" || { echo "was taken"; return 1; }
	since_mark
	[ "$(since_mark | grep -c 'wakewatch:')" -eq 1 ] || { echo "not one line"; return 1; }
	since_mark | grep -qF -- "$3" || { echo "does not say: $3"; return 1; }
	[ "$(cat "$WW_DEBUGFS/$1")" = "$before" ] || { echo "has changed"; return 1; }
}

# taken FILE TEXT SHOWN: the write succeeds and SHOWN is read back.
taken() {
	echo "$2" >"$WW_DEBUGFS/$1" || return 1
	[ "$(cat "$WW_DEBUGFS/$1")" = "$3" ] || { cat "$WW_DEBUGFS/$1"; return 1; }
}

# done_without PARAMETER SAYS: it is loaded, and says so.
done_without() {
	mark
	insmod "$WW_KO" "$1" && rmmod wakewatch && since_mark | grep -qF -- "$2"
}

# The knobs as they are when nobody has said otherwise: docs/reference.md has the same.
defaults="writeback=1 always=0 end_read=1 private_2=1 unlock=0 marks=1 start=1 victims=1 past=1 audit_read=1 sample=1 report_limit=10 panic_on_report=0"

config_is() {
	[ "$(tr '\n' ' ' <"$WW_DEBUGFS/config")" = "$1 " ] || { cat "$WW_DEBUGFS/config"; return 1; }
}

# What is read can be written back, and changes nothing.
config_round_trip() {
	local before
	before=$(cat "$WW_DEBUGFS/config")
	printf '%s\n' "$before" >"$WW_DEBUGFS/config" || return 1
	[ "$(cat "$WW_DEBUGFS/config")" = "$before" ]
}

# Every knob of the file is a parameter, and the other way round.
config_params() {
	local knobs="writeback=0 always=1 end_read=0 private_2=0 unlock=1 marks=0 start=0 victims=0 past=0 audit_read=0 sample=7 report_limit=9 panic_on_report=1"
	# shellcheck disable=SC2086 # words
	insmod "$WW_KO" $knobs || return 1
	config_is "$knobs" || { rmmod wakewatch; return 1; }
	rmmod wakewatch
}

# Bytes of all kinds into each file: it is taken or refused, and the module goes on.
arbitrary_bytes() {
	local file n before
	echo 0 >"$WW_DEBUGFS/enable"
	for file in enable amplify config reset; do
		for n in 1 2 3 7 16 64 200 255 256 300 4096; do
			head -c "$n" /dev/urandom >"$WW_DEBUGFS/$file" 2>/dev/null
			head -c "$n" /dev/zero >"$WW_DEBUGFS/$file" 2>/dev/null
			head -c "$n" /dev/urandom | tr -dc 'a-z=0-9, _' >"$WW_DEBUGFS/$file" 2>/dev/null
		done
	done
	echo off >"$WW_DEBUGFS/amplify" && echo "$defaults" >"$WW_DEBUGFS/config" && echo 1 >"$WW_DEBUGFS/enable" &&
		config_is "$defaults"
}

# not_writable FILE: not even for root.
not_writable() {
	! echo 1 2>/dev/null >"$WW_DEBUGFS/$1" || { echo "was taken"; return 1; }
}

# For root a mode is no obstacle, and what is shown is nothing.
not_readable() {
	[ -z "$(cat "$WW_DEBUGFS/$1")" ]
}

# not_taken FILE TEXT SAYS: as rejected, for a file that shows nothing.
not_taken() {
	mark
	! printf '%b' "$2" 2>/dev/null >"$WW_DEBUGFS/$1" || { echo "was taken"; return 1; }
	since_mark | grep -qF -- "$3" || { echo "does not say: $3"; return 1; }
}

modes() {
	local want have
	want="200 reset 400 callers 400 reports 400 stats 400 windows 600 amplify 600 config 600 enable"
	have=$(cd "$WW_DEBUGFS" && stat -c '%a %n' -- * | sort | tr '\n' ' ')
	[ "${have% }" = "$want" ] || { echo "$have"; return 1; }
}

# Where kprobes are switched off, a probe could be registered and never hit.
kprobes_off() {
	local status=0
	echo 0 >/sys/kernel/debug/kprobes/enabled
	refused hook=kprobe "kprobes are switched off" || status=1
	echo 1 >/sys/kernel/debug/kprobes/enabled
	return "$status"
}

# Then nothing is called at the entries of functions, and nobody says so.
ftrace_off() {
	local status=0
	echo 0 >/proc/sys/kernel/ftrace_enabled || return 1
	refused enable=1 "ftrace is switched off" || status=1
	refused hook=kprobe "ftrace is switched off" || status=1
	echo 1 >/proc/sys/kernel/ftrace_enabled
	return "$status"
}

ftrace_stays_on() {
	! echo 0 2>/dev/null >/proc/sys/kernel/ftrace_enabled || { echo "was switched off"; return 1; }
	[ "$(cat /proc/sys/kernel/ftrace_enabled)" = 1 ]
}

second_copy() {
	! insmod "$WW_KO" 2>/dev/null || { echo "was loaded"; return 1; }
}

open_file_holds() {
	local status=0
	exec 3<"$WW_DEBUGFS/stats"
	! rmmod wakewatch 2>/dev/null || status=1
	exec 3<&-
	return "$status"
}

counts_nothing_when_off() {
	local before after
	echo 0 >"$WW_DEBUGFS/enable"
	before=$(ww_stat end_writeback)
	dd if=/dev/zero of="$WW_MNT/off" bs=64k count=16 conv=fsync 2>/dev/null
	after=$(ww_stat end_writeback)
	[ "$(grep -c 'folio.*DISABLED' /sys/kernel/debug/kprobes/list)" -eq 6 ] || {
		cat /sys/kernel/debug/kprobes/list
		return 1
	}
	[ "$before" -eq "$after" ] || { echo "$before, then $after"; return 1; }
	echo 1 >"$WW_DEBUGFS/enable"
	dd if=/dev/zero of="$WW_MNT/off" bs=64k count=16 conv=fsync 2>/dev/null
	[ "$(ww_stat end_writeback)" -gt "$after" ] || { echo "still nothing when on"; return 1; }
}

plan 65
setup_loop
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
start=ww-start-$RANDOM
echo "$start" >/dev/kmsg

check "nothing is there to begin with" nothing_left
check "enable=7 is refused" refused enable=7 "invalid for parameter"
check "report_limit=0 is refused" refused report_limit=0 "say 1 to 1000"
check "report_limit=1001 is refused" refused report_limit=1001 "say 1 to 1000"
check "sample=0 is refused" refused sample=0 "say 1 to 1000000"
check "marks=2 is refused" refused marks=2 "invalid for parameter"
check "report_limit=many is refused" refused report_limit=many "invalid for parameter"
check "amplify=on is refused" refused amplify=on "is not one of off, where="
check "amplify= is refused" refused amplify= "say where="
check "a missing symbol at the end of writeback is explained" \
	refused end_symbol=__folio_end_writeback.llvm.1 "no symbol __folio_end_writeback.llvm.1"
check "a missing symbol at the wake is explained, and done without" \
	done_without wake_symbol=folio_wake_bit.llvm.1 "no symbol folio_wake_bit.llvm.1"
check "another function at the end of writeback is refused" \
	refused end_symbol=vfs_read "say __folio_end_writeback, or a copy of it"
check "another function at the wake is refused" \
	refused wake_symbol=folio_unlock "say folio_wake_bit, or a copy of it"
check "a copy that may lack an argument is refused" \
	refused wake_symbol=folio_wake_bit.constprop.0 "say folio_wake_bit, or a copy of it"
# The return probe comes last: everything before it has to go again.
check "amplify with a bad symbol leaves nothing" \
	refused end_symbol=__folio_end_writeback.llvm.1 "no symbol __folio_end_writeback.llvm.1"

check "hook=fast is refused" refused hook=fast "say direct, ftrace or kprobe"
check "kprobes that are switched off are explained" kprobes_off
check_ftrace_off "ftrace that is switched off is explained" ftrace_off
check "every knob is a parameter" config_params
load_wakewatch
check "ftrace can't be switched off now" ftrace_stays_on
check "the knobs' defaults" config_is "$defaults"
check "config: what is read can be written" config_round_trip
check "config: some knobs" taken config "sample=3,unlock=1 marks=0" \
	"$(tr ' ' '\n' <<<"$defaults" | sed 's/^sample=.*/sample=3/;s/^unlock=.*/unlock=1/;s/^marks=.*/marks=0/')"
check "config: and back" taken config "$defaults" "$(tr ' ' '\n' <<<"$defaults")"
check "config: a knob there isn't" rejected config 'unlock=1 speed=1\n' "is not one of writeback="
check "config: out of range" rejected config 'unlock=1 sample=1000001\n' "out of range"
check "config: no switch" rejected config 'marks=2\n' "out of range"
check "config: negative" rejected config 'sample=-1\n' "out of range"
check "config: no value" rejected config 'marks\n' "is not one of"
check "config: nothing" rejected config '\n' "say NAME=VALUE"
check "config: bytes that are no text" rejected config '\x80=1' "not text"
check "arbitrary bytes are taken or refused" arbitrary_bytes
check "reset can't be read" not_readable reset
check "reset: 0 is rejected" not_taken reset '0\n' "write 1"
check "a second copy is refused" second_copy
check "files are root's" modes
check "an open file keeps the module" open_file_holds
check "stats can't be written" not_writable stats
check "reports can't be written" not_writable reports
check "enable: 0" taken enable 0 0
check "enable: 1" taken enable 1 1
check "enable: 2 is rejected" rejected enable '2\n' "write 0 or 1"
check "enable: nothing is rejected" rejected enable '\n' "write 0 or 1"
check "enable: zero bytes are rejected" rejected enable '\0\0' "write 0 or 1"
check "enable: bytes that are no text are rejected" rejected enable '\xff\xfe\n' "not text"
check "enable: a long line is rejected" rejected enable "$(printf '%0300d' 1)" "too many"
check "amplify: after-clear" taken amplify "where=after-clear us=5 ino=9 index=2 dev=7:0" \
	"where=after-clear us=5 dev=7:0 ino=9 index=2 every=1 bit=writeback"
check "amplify: before-wake" taken amplify "us=10 where=before-wake every=7 bit=locked" \
	"where=before-wake us=10 every=7 bit=locked"
check "amplify: after-wake" taken amplify "us=10 where=after-wake" \
	"where=after-wake us=10 every=1 bit=any"
check "amplify: before-clear" taken amplify "us=10 where=before-clear" \
	"where=before-clear us=10 every=1 bit=writeback"
check "amplify: a place there isn't" rejected amplify 'where=here us=5' "out of range"
check "amplify: no length" rejected amplify 'where=before-wake' "say us="
check "amplify: too long with the queue locked" rejected amplify 'where=after-wake us=100001' "us=1..100000"
check "amplify: too long" rejected amplify 'where=before-wake us=10000001' "out of range"
check "amplify: negative" rejected amplify 'where=before-wake us=-1' "out of range"
check "amplify: a word twice" rejected amplify 'where=before-wake us=1 us=2' "says again"
check "amplify: another bit after the clear" rejected amplify \
	'where=after-clear us=1 bit=locked' "bit=writeback"
check "amplify: bytes that are no text" rejected amplify '\x80where=' "not text"
check "amplify: off" taken amplify off off
check "off means off" counts_nothing_when_off
rmmod wakewatch && ww_loaded=
check "rmmod leaves nothing" nothing_left

write_load 1 &
load1=$!
write_load 2 &
load2=$!
mark=$start
check "$load_cycles loads and unloads under write load" load_unload "$load_cycles"
kill "$load1" "$load2"
wait "$load1" "$load2" 2>/dev/null
check "unloading while a window is held open" unload_in_window after-clear
mark=$start
check "the kernel has nothing to say" no_splat
check "the file system still works" dd if=/dev/zero of="$WW_MNT/last" bs=4k count=8 conv=fsync
finish
