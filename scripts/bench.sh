#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: bench.sh [ARG...]
#        bench.sh --modules KDIR
#
# Builds what `lab bench` measures with (tests/bench) and starts it on the stock
# kernel, with BTF for BPF's direct calls. With --modules it only builds, against KDIR, and prints where.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

SOURCES=("$WW_ROOT/tests/bench"/* "$WW_ROOT"/rust/hooks.[ch])

build_in() { # DIR KDIR
	mkdir -p "$1"
	cp "${SOURCES[@]}" "$1/"
	kernel_make "$2" M="$1" modules
}

# By a process of its own, whose lock is gone when lab.sh wants it.
modules() { # KDIR
	local kdir=$1 dir
	project_make_flags
	dir=$WW_CACHE/modules/bench-$({
		printf '%s\n' "$kdir"
		tool_versions
		cat "${SOURCES[@]}"
	} | sha)
	[[ -e $dir/ww_driver.ko ]] || take_build_lock
	# Somebody may have built them while this one waited.
	if [[ ! -e $dir/ww_driver.ko ]]; then
		scratch_dir
		run_logged "modules of the bench" "$WW_CACHE/logs/bench.log" build_in "$SCRATCH/src" "$kdir"
		mkdir "$SCRATCH/out"
		cp "$SCRATCH/src/"*.ko "$SCRATCH/src/"*.bt "$SCRATCH/out/"
		publish "$SCRATCH/out" "$dir"
	fi
	printf '%s\n' "$dir"
}

if [[ ${1:-} == --modules ]]; then
	modules "${2:?KDIR}"
	exit
fi

command -v bpftrace >/dev/null || die "no bpftrace; run: make setup"
export CONFIG_VARIANT=${CONFIG_VARIANT:-btf}
kernel=$("$WW_ROOT/scripts/kernel.sh" stock)
WW_BENCH=$("$0" --modules "$kernel/kdir")
export WW_BENCH
KERNELS=stock "$WW_ROOT/scripts/lab.sh" bench "$@"
