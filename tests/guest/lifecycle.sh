#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The module comes and goes: thousands of times under write load, while its files are in use, two
# copies at once, with tracing and kprobes switched off and on under it, and with every single
# allocation on the way failing. Nothing may stay behind, and nothing may be said by the kernel.
# What a kernel has no means for is skipped: failing allocations and leaks need CONFIG_VARIANT=faults.
#
# kernel: fixed
# memory: 1G
# timeout: 3600
# append: kmemleak=on
# expect: kernel/trace/trace_events.c
#
# WW_CYCLES: loads and unloads under write load, 2000 by default

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/load.sh"

cycles=${WW_CYCLES:-2000}
debug=/sys/kernel/debug
tracing=/sys/kernel/tracing

# What the module has registered while it is loaded, as far as the kernel lists it.
registered() {
	ls "$WW_DEBUGFS"
	sed 's/^[^ ]* *//' "$debug/kprobes/list" | sort
	grep -oE '^[a-z_]+ |direct-->ww_[a-z_]+' "$debug/tracing/enabled_functions" | sort
}

# The module is loaded and works: it looks at what is written.
watches() {
	local before
	before=$(ww_stat end_writeback)
	dd if=/dev/zero of="$WW_MNT/watched" bs=64k count=4 conv=fsync 2>/dev/null
	[ "$(ww_stat end_writeback)" -gt "$before" ] || { echo "it sees nothing"; return 1; }
}

sees_nothing() {
	! watches >/dev/null || { echo "it sees what is written"; return 1; }
}

load() {
	insmod "$WW_KO" "$@"
}

unload() {
	rmmod wakewatch && nothing_left
}

# --- files in use ----------------------------------------------------------------

use_files() {
	local file
	while :; do
		for file in "$WW_DEBUGFS"/*; do
			cat "$file" >/dev/null
		done
		for file in 'enable 0' 'config sample=3' 'enable 1' 'amplify where=before-wake us=10' \
			'reset 1' 'config marks=0 unlock=1' 'amplify off' 'config marks=1 unlock=0'; do
			echo "${file#* }" >"$WW_DEBUGFS/${file%% *}"
		done
	done 2>/dev/null
}

# A file that is open holds the module: rmmod is to be refused, or to succeed.
unload_while_used() {
	local i n busy=0
	for ((i = 0; i < $1; i++)); do
		load || return 1
		for ((n = 0; n < 500; n++)); do
			! rmmod wakewatch 2>/dev/null || break
			busy=$((busy + 1))
		done
	done
	echo "refused $busy times"
	nothing_left
}

# --- two at once -----------------------------------------------------------------

# Of one and the same file the kernel makes one load, and tells both that it went well
# (idempotent_init_module(), kernel/module/main.c, 6.12): a second file is loaded in earnest.
two_at_once() {
	local i a b copy=/run/ww-copy.ko
	cp "$WW_KO" "$copy" || return 1
	for ((i = 0; i < 20; i++)); do
		insmod "$WW_KO" 2>/dev/null &
		a=$!
		insmod "$copy" 2>/dev/null &
		b=$!
		if wait "$a"; then a=loaded; else a=refused; fi
		if wait "$b"; then b=loaded; else b=refused; fi
		[ "$a" != "$b" ] || { echo "$a, $b"; rmmod wakewatch; return 1; }
		watches || return 1
		unload || return 1
	done
}

# --- tracing off and on ------------------------------------------------------------

# While kprobes are off, a module that is hooked by them sees nothing, can be unloaded and not be loaded. When they
# are on again it works as before.
kprobes_off_and_on() {
	local status=0 file=$debug/kprobes/enabled
	load hook=kprobe && watches || return 1
	[ "$(ww_stat kprobes_off)" = 0 ] || status=1
	echo 0 >"$file" || return 1
	sees_nothing || status=1
	[ "$(ww_stat kprobes_off)" = 1 ] || { echo "stats do not say so"; status=1; }
	echo 1 >"$file"
	watches || status=1
	echo 0 >"$file"
	unload || status=1
	if load hook=kprobe 2>/dev/null; then
		echo "it was loaded"
		status=1
		unload || status=1
	else
		nothing_left || status=1
	fi
	# Others need none.
	load && watches && unload || status=1
	echo 1 >"$file"
	load hook=kprobe && watches && unload && return "$status"
}

# ftrace can't be switched off while anything is hooked, and nothing can be hooked while it is off.
ftrace_off_and_on() {
	local status=0 file=/proc/sys/kernel/ftrace_enabled
	load && watches || return 1
	! echo 0 2>/dev/null >"$file" || { echo "it was switched off"; status=1; }
	watches || status=1
	echo 0 >"$WW_DEBUGFS/enable"
	echo 0 >"$file" || status=1
	! echo 1 2>/dev/null >"$WW_DEBUGFS/enable" || { echo "it was enabled"; status=1; }
	[ "$(cat "$WW_DEBUGFS/enable")" = 0 ] || status=1
	echo 1 >"$file"
	echo 1 >"$WW_DEBUGFS/enable" && watches || status=1
	unload || status=1
	echo 0 >"$file" || status=1
	! load 2>/dev/null || { echo "it was loaded"; status=1; unload; }
	nothing_left || status=1
	echo 1 >"$file"
	load && watches && unload && return "$status"
}

# tracing_on is about the trace buffer alone.
tracing_off() {
	load || return 1
	echo 0 >"$tracing/tracing_on"
	watches || return 1
	echo 1 >"$tracing/tracing_on"
	watches && unload
}

# --- failing allocations -----------------------------------------------------------

# Of all kinds, not only of those that can't wait.
all_may_fail() {
	echo 0 >"$debug/failslab/ignore-gfp-wait" &&
		echo 0 >"$debug/fail_page_alloc/ignore-gfp-wait" &&
		echo 0 >"$debug/fail_page_alloc/ignore-gfp-highmem" &&
		echo 0 >"$debug/fail_page_alloc/min-order"
}

# What the kernel said in a piece of its log that it shouldn't have. Where an allocation fails while it
# makes the trace events of a module, before any code of that has run, 6.12 warns of itself, then and
# when the module goes (event_define_fields(), event_file_put() in kernel/trace/trace_events.c).
splats_in() {
	local own='^$'
	[[ $1 != *trace_module_notify+* ]] || own=' at kernel/trace/trace_events\.c:'
	! grep -E 'BUG:|WARNING:|Oops' <<<"$1" | grep -vE "$own"
}

# Each allocation of a load fails once, until there is none left. A load that fails says why; one
# that succeeds all the same is whole.
fail_each() {
	local n=0 refused=0 own=0 whole=0 whole_list said log warned=0
	load || return 1
	whole_list=$(registered)
	unload || return 1
	while :; do
		n=$((n + 1))
		dmesg -C
		said=$("$WW_REPRO" load "$WW_KO" --fail "$n") || { echo "$said"; return 1; }
		log=$(kernel_log)
		case $said in
		*'not reached: loaded'*)
			unload || return 1
			break
			;;
		*'failed: loaded'*)
			whole=$((whole + 1))
			[ "$(registered)" = "$whole_list" ] || {
				echo "allocation $n: loaded, but not whole"
				diff <(registered) <(echo "$whole_list")
				echo "$log"
				return 1
			}
			unload || return 1
			;;
		*'failed: refused'*'os error 12'*)
			refused=$((refused + 1))
			;;
		*)
			# Anything but ENOMEM needs a word of explanation.
			[[ $log == *'wakewatch: '* ]] || {
				echo "allocation $n: $said, and nothing in the log says why"
				echo "$log"
				return 1
			}
			refused=$((refused + 1))
			;;
		esac
		[[ $log != *'[wakewatch]'* ]] || own=$((own + 1))
		nothing_left || { echo "after allocation $n: $said"; return 1; }
		log=$(kernel_log)
		splats_in "$log" || { echo "allocation $n: $said"; echo "$log"; return 1; }
		[[ $log != *WARNING:* ]] || warned=$((warned + 1))
		[ "$((n % 20))" -ne 0 ] || diag "$n allocations failed, one at a time" >&3
	done
	echo "$((n - 1)) allocations: $refused loads refused, $whole succeeded all the same;"
	echo "in $own the module's own code was on the stack; in $warned the kernel warned of its own trace events"
	[ "$own" -gt 10 ]
}

# --- leaks -------------------------------------------------------------------------

# What nobody points to any more, of what was allocated since the last `clear`.
leaks() {
	# An object has to be 5 s old, and to look the same twice.
	sleep 6
	echo scan >"$debug/kmemleak"
	sleep 1
	echo scan >"$debug/kmemleak"
	cat "$debug/kmemleak"
}

no_leak() {
	local found
	found=$(leaks)
	[ -z "$found" ] || { echo "$found"; return 1; }
}

# check_saying DESCRIPTION COMMAND...: check(), with the output of a success as well.
check_saying() {
	local what=$1 out status=0
	shift
	out=$("$@" 2>&1) || status=$?
	if [ "$status" -eq 0 ]; then ok "$what"; else not_ok "$what"; fi
	[ -z "$out" ] || printf '%s\n' "$out" | sed 's/^/# /'
}

plan 14
setup_loop
start=ww-start-$RANDOM
echo "$start" >/dev/kmsg
if [ -e "$debug/kmemleak" ]; then
	# Before the first load, and after a load that everything has had its first time in.
	load && rmmod wakewatch
	leaks >/dev/null
	echo clear >"$debug/kmemleak"
fi

check "nothing is there to begin with" nothing_left
check "two copies at once: one is refused" two_at_once
check_ftrace_off "ftrace is switched off and on" ftrace_off_and_on
check "kprobes are switched off and on" kprobes_off_and_on
check "tracing_on is not about us" tracing_off
check "unloading while a window is held open after the clear" unload_in_window after-clear
check "unloading while a window is held open before the wake" unload_in_window before-wake

use_files &
user=$!
check_saying "unloading while files are read and written" unload_while_used 100
kill "$user"
wait "$user" 2>/dev/null

write_load 1 &
load1=$!
write_load 2 &
load2=$!
check "$cycles loads and unloads under write load" load_unload "$cycles"
kill "$load1" "$load2"
wait "$load1" "$load2" 2>/dev/null

# fail_each() empties the log as it goes, and looks at each piece.
mark=$start
check "the kernel has nothing to say" no_splat
if [ -e /proc/self/fail-nth ]; then
	check "allocations can be made to fail" all_may_fail
	check_saying "each of them fails once" fail_each
else
	skip_test "allocations can be made to fail" "not on this kernel"
	skip_test "each of them fails once" "not on this kernel"
fi
if [ -e "$debug/kmemleak" ]; then
	check "nothing has leaked" no_leak
else
	skip_test "nothing has leaked" "this kernel can't tell"
fi
check "the file system still works" dd if=/dev/zero of="$WW_MNT/last" bs=4k count=8 conv=fsync
finish
