#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: [KERNEL=stock DURATION=5 CPUS=2 BUSY=0 BESIDE=nothing|realtime|interrupts] live.sh [--check]
#
# How often the live read race is lost when nothing is delayed, in DURATION minutes of a guest with so many
# CPUs. What else runs on its host makes windows long (BUSY= threads that do nothing else), and so does more than
# one of the guest's CPUs for one of the host's. BESIDE=realtime means something where a task can be preempted
# in the kernel: it takes the variant with full preemption. tests/guest/live.sh is the guest's part. What is asked
# for is looked at before anything is built; --check ends there.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=wants.sh
. "$(dirname "$0")/wants.sh"

case ${1:-} in
'' | --check) ;;
*) die "usage: live.sh [--check]" ;;
esac

KERNEL=${KERNEL:-stock}
DURATION=${DURATION:-5}
CPUS=${CPUS:-2}
BUSY=${BUSY:-0}
BESIDE=${BESIDE:-nothing}

check_number DURATION 1
check_number CPUS 2
check_number BUSY 0
case $BESIDE in
nothing | interrupts) ;;
realtime) export CONFIG_VARIANT=${CONFIG_VARIANT:-preempt} ;;
*) die "BESIDE=$BESIDE: there are nothing, realtime, interrupts" ;;
esac
"$WW_ROOT/scripts/kernel.sh" --patches "$KERNEL" >/dev/null
[[ ${1:-} != --check ]] || exit 0

KERNELS=$KERNEL exec "$WW_ROOT/scripts/lab.sh" live --kernel "$KERNEL" --minutes "$DURATION" --cpus "$CPUS" --busy "$BUSY" --beside "$BESIDE"
