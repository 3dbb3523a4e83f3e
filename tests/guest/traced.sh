#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Other people trace, and put their trampolines where wakewatch reads return addresses: return probes,
# the function graph tracer and fexit programs, on the end of a read and on the wake, before and after
# insmod, one over another; a live patch has another function in the place of the end of a read. The read
# race is lost all the same, and wakewatch has to say so, as often as it does when it is alone. And the other
# way round: a wake that is nobody's window's stays without one.
#
# kernel: any
# memory: 1G
# timeout: 420
# provokes: the live read race
#
# WW_ALL=1: every combination
# On a kernel with BTF (CONFIG_VARIANT=btf) real BPF programs are among them.

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

T=/sys/kernel/tracing
KO_STALE=${WW_KO%.ko}_stale.ko
BPF_PROGRAMS=()

# --- tracers ----------------------------------------------------------------------

# A return probe on FUNCTION.
probe_on() {
	echo "r:ww_$1 $1" >>"$T/kprobe_events" && echo 1 >"$T/events/kprobes/ww_$1/enable"
}

# The function graph tracer, on FUNCTION...
graph_on() {
	printf '%s\n' "$@" >"$T/set_ftrace_filter" && echo function_graph >"$T/current_tracer"
}

# A trampoline like that of an fexit program, on FUNCTION.
fexit_on() {
	insmod "${WW_KO%.ko}_fexit.ko" function="$1"
}

# The end of reads is replaced, as by a live patch.
patch_on() {
	[ "$1" = "$END" ] && insmod "${WW_KO%.ko}_livepatch.ko"
}

# calls_bpf FUNCTION: directly; that is said in a line of its own, after the function's.
calls_bpf() {
	awk -v f="$1" '/^[^[:space:]]/ { its = $1 == f } its && /bpf_trampoline/ { found = 1 } END { exit !found }' \
		"$T/enabled_functions"
}

# bpf_on KIND FUNCTION: a BPF program at its entry (kfunc) or at its exit (kretfunc), which ftrace calls directly.
bpf_on() {
	local out=$WW_OUT/bpf-$1-$2
	bpftrace -e "$1:$2 { @n = count(); } interval:ms:200 { print(@n); }" >"$out" 2>&1 &
	BPF_PROGRAMS+=($!)
	# Where there is a direct call already, bpftrace ends.
	while kill -0 $! 2>/dev/null; do
		! calls_bpf "$2" || return 0
		sleep 0.2
	done
	tail -n 3 "$out" >&2
	return 1
}

# tracer WORD: probe:FUNCTION, graph:FUNCTION[+FUNCTION], fexit:FUNCTION, patch:FUNCTION, or kfunc:FUNCTION and
# kretfunc:FUNCTION.
tracer() {
	local functions
	case $1 in
	probe:*) probe_on "${1#*:}" ;;
	fexit:*) fexit_on "${1#*:}" ;;
	patch:*) patch_on "${1#*:}" ;;
	kfunc:* | kretfunc:*) bpf_on "${1%%:*}" "${1#*:}" ;;
	graph:*)
		IFS=+ read -r -a functions <<<"${1#*:}"
		graph_on "${functions[@]}"
		;;
	esac
}

all_off() {
	local f
	echo nop >"$T/current_tracer"
	echo >"$T/set_ftrace_filter"
	for f in "$T"/events/kprobes/ww_*/enable; do
		[ ! -e "$f" ] || echo 0 >"$f"
	done
	echo >"$T/kprobe_events"
	for f in fexit livepatch; do
		! grep -q "^wakewatch_$f" /proc/modules || rmmod "wakewatch_$f"
	done
	for f in "${BPF_PROGRAMS[@]}"; do
		kill -INT "$f"
		wait "$f"
	done 2>/dev/null
	BPF_PROGRAMS=()
	rm -f "$WW_OUT"/bpf-*
}

all_gone() {
	local status=0
	unload_wakewatch || status=1
	all_off
	return "$status"
}

# How often the tracer or the probe has been hit, or this is a test of nothing.
hit() {
	local n=0 f
	if [ "$(cat "$T/current_tracer")" = function_graph ]; then
		n=$(grep -c '()' "$T/trace")
	fi
	for f in /sys/module/wakewatch_{fexit,livepatch}/parameters/hits; do
		[ ! -e "$f" ] || n=$((n + $(cat "$f")))
	done
	n=$((n + $(awk '/ww_/ { n += $2 } END { print n + 0 }' "$T/kprobe_profile")))
	for f in "$WW_OUT"/bpf-*; do
		[ ! -e "$f" ] || n=$((n + $(awk '/^@n:/ { n = $2 } END { print n + 0 }' "$f")))
	done
	echo "tracers were hit $n times"
	[ "$n" -gt 0 ]
}

# --- the race ---------------------------------------------------------------------

# Each page that was freed while its wake was held back is a finding.
race_is_told() {
	local freed found
	echo 1 >"$WW_DEBUGFS/reset"
	"$WW_REPRO" read-race "$WW_MNT" --retake >/dev/null || return 1
	freed=$(ww_stat delay_freed)
	found=$(($(ww_stat reused) + $(ww_stat zero_ref)))
	grep -E '^(delay_freed|reused|zero_ref|windows_(opened|woken|foreign|doubted|retired)|wake|callers_dropped):' "$WW_DEBUGFS/stats" | paste -sd ' '
	grep ^site=end_read "$WW_DEBUGFS/windows"
	[ "$freed" -ge 5 ] || { echo "the race was not lost"; return 1; }
	if [ "$(ww_stat reused)" -lt 5 ] || [ "$found" -lt "$freed" ]; then
		echo "$freed freed, $found told"
		return 1
	fi
	# What is told of call sites is a caller, and no trampoline.
	! grep -hE 'caller=(arch_rethook_trampoline|return_to_handler|0x)' "$WW_DEBUGFS/windows" "$WW_DEBUGFS/callers"
}

# ways_are END WAKE: how they are hooked.
ways_are() {
	local are
	are="$(ww_stat hook_end_read) $(ww_stat hook_wake)"
	echo "$END and $WAKE: $are"
	[ "$are" = "$1 $2" ]
}

# traced [hook=HOOK] [way=WAY] TRACER... -- TRACER...: those before `--' are there when wakewatch is loaded, the others
# come later. With HOOK it is loaded; WAY is how it has then hooked both functions.
traced() {
	local status=0 loaded='' hook='' way='' tracers='' word
	for word in "$@"; do
		if [ "$word" = -- ]; then
			# shellcheck disable=SC2086 # none is no word
			load_wakewatch $hook || return 1
			loaded=1
		elif [[ $word == hook=* ]]; then
			hook=$word
		elif [[ $word == way=* ]]; then
			way=${word#*=}
		else
			tracer "$word" || { echo "$word: refused"; status=1; }
			tracers=1
		fi
	done
	[ -n "$loaded" ] || return 1
	[ -z "$way" ] || ways_are "$way" "$way" || status=1
	race_is_told || status=1
	[ -z "$tracers" ] || hit || status=1
	all_gone || status=1
	return "$status"
}

# Who calls directly at a function is alone there. Who comes second is refused, and so wakewatch takes another
# way, and says which function and why.
direct_is_taken() { # TRACER, of the end of reads
	local status=0 mark=ww-mark-$RANDOM
	tracer "$1" || status=1
	echo "$mark" >/dev/kmsg
	load_wakewatch || return 1
	dmesg | sed "1,/$mark/d" | grep -F "$END: no direct hook, somebody else" || { echo "not explained"; status=1; }
	ways_are ftrace direct || status=1
	race_is_told || status=1
	hit || status=1
	all_gone || status=1
	return "$status"
}

direct_is_refused() { # TRACER, of the end of reads
	local status=0
	load_wakewatch || return 1
	ways_are direct direct || status=1
	! tracer "$1" 2>/dev/null || { echo "two direct calls at a function"; status=1; }
	race_is_told || status=1
	all_gone || status=1
	return "$status"
}

# --- nobody's window --------------------------------------------------------------

# The end of a read has left a window behind, since nobody waited; the page was freed and allocated
# again, and is now unlocked. All in one task: that window is not this wake's.
stale_window_is_left() {
	local status=0 word
	load_wakewatch "$SHARED"
	for word in "$@"; do
		tracer "$word" || status=1
	done
	insmod "$KO_STALE" && rmmod wakewatch_stale || status=1
	grep -E '^(reused|zero_ref|windows_(opened|woken|foreign|doubted)|marks_freed):' "$WW_DEBUGFS/stats" | paste -sd ' '
	[ "$(ww_found reused)" -eq 0 ] || { grep ^BUG "$WW_DEBUGFS/reports"; status=1; }
	[ "$(ww_stat marks_freed)" -gt 0 ] || { echo "no page was freed in its window"; status=1; }
	[ "$(ww_stat windows_foreign)" -gt 0 ] || { echo "not counted"; status=1; }
	[ $# -eq 0 ] || hit || status=1
	all_gone || status=1
	return "$status"
}

# Both hits were NMIs to the kernel, and neither is one.
in_an_int3() {
	dmesg -C
	insmod "$KO_STALE" && rmmod wakewatch_stale
	dmesg | grep 'contexts in an int3' | tee /dev/stderr | grep -q ': 0, 2 in an NMI'
}

all=0 bpf=0

# also ARGUMENT...: check, where every combination is asked for; in `make test` it is a dozen.
also() {
	[ "$all" -eq 0 ] || check "$@"
}

# bpf ARGUMENT...: check, on a kernel that BPF can call from directly.
bpf() {
	[ "$bpf" -eq 0 ] || check "$@"
}

WAKE=folio_wake_bit
END=folio_end_read
UNLOCK=folio_unlock

# Other programs may be called directly, too.
SHARED=hook=ftrace
[ -z "${WW_ALL:-}" ] || all=26
[ ! -e /sys/kernel/btf/vmlinux ] || bpf=8
plan $((17 + all + bpf))
setup_loop
mount -t tracefs tracefs "$T" 2>/dev/null
echo 0 >/proc/sys/kernel/kptr_restrict
check "alone" traced --
check "alone, by ftrace's trampoline" traced hook=ftrace --
check "alone, by kprobes" traced hook=kprobe --
also "return probes on both, then kprobes" traced hook=kprobe probe:$WAKE probe:$END --
also "kprobes, then the graph tracer on both" traced hook=kprobe -- graph:$WAKE+$END
also "kprobes, then an fexit program on the end of reads" traced hook=kprobe -- fexit:$END
also "return probes on both, then ftrace's trampolines" traced hook=ftrace probe:$WAKE probe:$END --
also "ftrace's trampolines, then the graph tracer on both" traced hook=ftrace -- graph:$WAKE+$END
also "a return probe on the wake, then wakewatch" traced probe:$WAKE --
also "wakewatch, then a return probe on the wake" traced -- probe:$WAKE
also "a return probe on the end of reads, then wakewatch" traced probe:$END --
also "wakewatch, then a return probe on the end of reads" traced -- probe:$END
check "return probes on both, then wakewatch" traced probe:$WAKE probe:$END --
check "wakewatch, then return probes on both" traced -- probe:$WAKE probe:$END
also "graph tracer on the wake, then wakewatch" traced graph:$WAKE --
also "wakewatch, then the graph tracer on the wake" traced -- graph:$WAKE
also "graph tracer on the end of reads, then wakewatch" traced graph:$END --
also "wakewatch, then the graph tracer on the end of reads" traced -- graph:$END
also "graph tracer on both, then wakewatch" traced graph:$WAKE+$END --
check "wakewatch, then the graph tracer on both" traced -- graph:$WAKE+$END
also "graph tracer on the end of reads, return probe on the wake" traced -- graph:$END probe:$WAKE
check "return probe on the end of reads, graph tracer on the wake" traced -- probe:$END graph:$WAKE
also "graph tracer on both, then return probes on both" traced -- graph:$WAKE+$END probe:$WAKE probe:$END
check "return probes on both, wakewatch, then the graph tracer on both" traced probe:$WAKE probe:$END -- graph:$WAKE+$END
also "graph tracer on both, wakewatch, then return probes on both" traced graph:$WAKE+$END -- probe:$WAKE probe:$END
check "an fexit program on the end of reads, then wakewatch" direct_is_taken fexit:$END
also "wakewatch, and an fexit program on the end of reads is refused" direct_is_refused fexit:$END
check "wakewatch, then an fexit program on the end of reads" traced $SHARED -- fexit:$END
also "wakewatch, then an fexit program on the wake" traced $SHARED -- fexit:$WAKE
also "an fexit program on the end of reads, a return probe on the wake" traced $SHARED -- fexit:$END probe:$WAKE
check "a return probe and an fexit program on the end of reads, the graph tracer on the wake" \
	traced $SHARED -- probe:$END fexit:$END graph:$WAKE
# More than a tracer: it has to come in whoever is there, and is no reason to hook in another way.
check "a live patch of the end of reads, then wakewatch" traced way=direct patch:$END --
check "wakewatch, then a live patch of the end of reads" traced way=direct -- patch:$END
also "a live patch of the end of reads, wakewatch, then return probes on both" \
	traced way=direct patch:$END -- probe:$WAKE probe:$END
also "the graph tracer on both, wakewatch, then a live patch of the end of reads" \
	traced way=direct graph:$WAKE+$END -- patch:$END
also "wakewatch by ftrace's trampolines, then a live patch of the end of reads" traced $SHARED -- patch:$END
bpf "BPF at the entry of the end of reads, then wakewatch" direct_is_taken kfunc:$END
bpf "BPF at the exit of the end of reads, then wakewatch" direct_is_taken kretfunc:$END
bpf "wakewatch, and BPF at the entry of the end of reads is refused" direct_is_refused kfunc:$END
bpf "BPF at the entry of both, then wakewatch" traced kfunc:$END kfunc:$WAKE --
bpf "BPF at the exit of both, then wakewatch" traced kretfunc:$END kretfunc:$WAKE --
bpf "wakewatch by ftrace's trampolines, then BPF at the entry of both" traced $SHARED -- kfunc:$END kfunc:$WAKE
bpf "wakewatch by ftrace's trampolines, then BPF at the exit of both" traced $SHARED -- kretfunc:$END kretfunc:$WAKE
bpf "nobody's window: BPF at the exit of the unlock" stale_window_is_left kretfunc:$UNLOCK
check "a kprobe that is an int3 is not in an NMI" in_an_int3
check "nobody's window: alone" stale_window_is_left
check "nobody's window: return probes" stale_window_is_left probe:$WAKE probe:$END probe:$UNLOCK
also "nobody's window: graph tracer" stale_window_is_left graph:$WAKE+$END+$UNLOCK
also "nobody's window: fexit program on the unlock" stale_window_is_left fexit:$UNLOCK
check "nobody's window: graph tracer below return probes" stale_window_is_left graph:$END+$UNLOCK probe:$WAKE
also "nobody's window: return probes below the graph tracer" stale_window_is_left probe:$END probe:$UNLOCK graph:$WAKE
finish
