#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: [PROG=repro.c|SCRIPT=FILE|CMD='...' KERNEL=stock LINUX=TREE FORM=4k DISK=loop|virtio|9p KNOBS='unlock=1 ...'
#        DELAY='where=... us=...'|auto DURATION=1|ROUNDS=N LIMIT=30 CPUS=2 MEMORY=2G FINDS=REGEX BISECT=1]
#        run.sh [--check]
#
# A program of yours in a guest, again and again, with wakewatch loaded. What is asked for is checked, and the
# program is built, before anything else is; --check ends there. tests/guest/program.sh is the guest's part,
# tests/lab/src/run.rs the rest; docs/run.md says what comes of it.
#
# Exit status: 0 nothing was found, 1 something was, 2 the kernel died, 3 nobody knows: what was asked for can't be
# done, does not build, or the lab has failed. With BISECT=1 as `git bisect run` has it: 0, 1 for 2 as well, 125 for 3.

WW_UNKNOWN=3
[[ ${BISECT:-} != 1 ]] || WW_UNKNOWN=125
export WW_UNKNOWN
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=wants.sh
. "$(dirname "$0")/wants.sh"

# Status of the lab's for each of ours: no other program's failure may pass for a verdict.
FOUND=(10 11 12)

# What the program is: sets KIND and FILE, an absolute name.
check_program() {
	local given=0 name
	for name in PROG SCRIPT CMD; do
		if [[ -n ${!name:-} ]]; then
			given=$((given + 1))
			KIND=$name FILE=${!name}
		fi
	done
	((given == 1)) || die "say what to run, one of PROG=repro.c, SCRIPT=FILE and CMD='...'"
	[[ $KIND != CMD ]] || return 0
	[[ -f $FILE && -r $FILE ]] || die "$KIND=$FILE: no such file"
	FILE=$(readlink -f "$FILE")
	[[ $KIND != PROG || $FILE == *.c ]] || die "PROG=$FILE: C source is wanted; for a program that is built, CMD=$FILE"
}

# As reproducers say they are to be built, and static: the guest's libraries are the host's, but this stays as it is.
compile() {
	local flags=(-O1 -g -static -pthread -w)
	PROGRAM=$WW_CACHE/programs/$({ gcc --version | head -n 1; echo "${flags[@]}"; cat "$FILE"; } | sha)
	if [[ ! -d $PROGRAM ]]; then
		scratch_dir
		gcc "${flags[@]}" -o "$SCRATCH/program" "$FILE" >"$SCRATCH/log" 2>&1 ||
			die "PROG=$FILE does not build (gcc ${flags[*]}): $(grep -m 1 -i 'error' "$SCRATCH/log" || tail -n 1 "$SCRATCH/log")"
		publish "$SCRATCH" "$PROGRAM"
	fi
	touch "$PROGRAM"
}

# Of all fragments the last word, without building anything.
most_cpus() {
	local fragments=("$WW_ROOT/.config.fragment")
	[[ $KERNEL != debian ]] || {
		echo 64
		return
	}
	[[ -z ${CONFIG_VARIANT:-} ]] || fragments+=("$WW_ROOT/tests/config/$CONFIG_VARIANT.fragment")
	sed -n 's/^CONFIG_NR_CPUS=//p' "${fragments[@]}" | tail -n 1
}

case ${1:-} in
'' | --check) ;;
*) die "usage: run.sh [--check]" ;;
esac

KERNEL=${KERNEL:-stock}
FORM=${FORM:-4k}
DISK=${DISK:-loop}
CPUS=${CPUS:-2}
MEMORY=${MEMORY:-2G}
LIMIT=${LIMIT:-30}
# The guest's image, and a log of some megabytes.
DISK_MB=${DISK_MB:-1024}

check_program
[[ -z ${ROUNDS:-} || -z ${DURATION:-} ]] || die "DURATION= or ROUNDS=, not both"
# With DELAY=auto it is rounds that are done at each place.
[[ ${DELAY:-} != auto || -z ${DURATION:-} ]] || die "DELAY=auto: ROUNDS= of each step, not DURATION="
[[ ${DELAY:-} != auto ]] || ROUNDS=${ROUNDS:-3}
[[ -n ${ROUNDS:-} ]] || DURATION=${DURATION:-1}
[[ -z ${ROUNDS:-} ]] || check_number ROUNDS 1
[[ -z ${DURATION:-} ]] || check_number DURATION 1
check_number LIMIT 1
check_number CPUS 1
((10#$CPUS <= 8)) || die "CPUS=$CPUS: a number of 1 to 8 is wanted"
check_form tmpfs none
case $DISK in
loop) ;;
virtio | 9p) [[ $FORM != tmpfs ]] || die "DISK=$DISK: FORM=tmpfs has no disk" ;;
*) die "DISK=$DISK: there are loop, virtio, 9p" ;;
esac
case ${BISECT:-} in
'' | 0 | 1) ;;
*) die "BISECT=$BISECT: 1 is meant, or nothing" ;;
esac
# As FORM= does: the variant that can, if none is named.
if ((10#$CPUS > $(most_cpus))); then
	[[ -z ${CONFIG_VARIANT:-} ]] ||
		die "CPUS=$CPUS: a kernel of CONFIG_VARIANT=$CONFIG_VARIANT has $(most_cpus) at most; CONFIG_VARIANT=syzbot has 8"
	export CONFIG_VARIANT=cpus8
fi
check_machine 512 "a kernel, an image in memory, and the program" "$DISK_MB"
[[ $KERNEL == debian ]] || "$WW_ROOT/scripts/kernel.sh" --patches "$KERNEL" >/dev/null || exit "$WW_UNKNOWN"
if [[ $KIND == PROG ]]; then
	command -v gcc >/dev/null || die "no gcc; run: make packages"
	compile
fi
[[ ${1:-} != --check ]] || exit 0

args=(--kernel "$KERNEL" --form "$FORM" --fstyp "$FSTYP" --mkfs-options="$MKFS_OPTIONS" --mount-options="$MOUNT_OPTIONS"
	--disk "$DISK" --cpus "$CPUS" --memory "$MEMORY" --limit "$LIMIT")
case $KIND in
PROG) args+=(--source "$FILE" --program "$PROGRAM/program") ;;
SCRIPT) args+=(--script "$FILE") ;;
CMD) args+=(--command="$CMD") ;;
esac
[[ -z ${DURATION:-} ]] || args+=(--minutes "$DURATION")
[[ -z ${ROUNDS:-} ]] || args+=(--rounds "$ROUNDS")
[[ -z ${KNOBS:-} ]] || args+=(--knobs="$KNOBS")
[[ -z ${DELAY:-} ]] || args+=(--delay="$DELAY")
[[ -z ${FINDS:-} ]] || args+=(--finds="$FINDS")

status=0
KERNELS=$KERNEL "$WW_ROOT/scripts/lab.sh" run "${args[@]}" || status=$?
case $status in
"${FOUND[0]}") status=0 ;;
"${FOUND[1]}") status=1 ;;
"${FOUND[2]}") status=2 ;;
130 | 143 | 129) ;; # it was told to stop, and so is who asked
*) status=$WW_UNKNOWN ;;
esac
((status != 2)) || [[ ${BISECT:-} != 1 ]] || status=1
exit "$status"
