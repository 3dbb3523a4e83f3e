#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: [KERNEL=stock] [WW_EIO=no] rfc.sh
#
# Builds the reproducer that patches/6.12/rfc-end-read shows, against that kernel, and runs it in a guest.
# With WW_EIO=no no read may fail, otherwise one has to.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

key=${KERNEL:-stock}
kernel=$("$WW_ROOT/scripts/kernel.sh" "$key")
dir=$WW_CACHE/modules/rfc-$({
	printf '%s\n' "$kernel"
	cat "$WW_ROOT/patches/6.12/rfc-end-read/repro/"*
} | sha)
if [[ ! -e $dir/eio ]]; then
	project_make_flags
	scratch_dir
	cp "$WW_ROOT/patches/6.12/rfc-end-read/repro/"* "$SCRATCH/"
	run_logged "reproducer of the RFC" "$WW_CACHE/logs/rfc.log" kernel_make "$kernel/kdir" M="$SCRATCH" modules
	cc -O2 -Wall -static -pthread -o "$SCRATCH/eio" "$SCRATCH/eio.c"
	publish "$SCRATCH" "$dir"
fi
KERNELS=$key "$WW_ROOT/scripts/lab.sh" boot --kernel "$key" --env "WW_RFC=$dir" ${WW_EIO:+--env "WW_EIO=$WW_EIO"} \
	"$WW_ROOT/tests/guest/rfc.sh"
