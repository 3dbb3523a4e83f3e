#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: [KERNELS="KEY..."] lab.sh ARG...
#
# Builds what the lab (tests/lab) needs for these kernels, tells it where things
# are, and becomes it: lab.sh repro, lab.sh test, lab.sh shell --kernel broken.
# KERNELS=' ' is no kernel at all, for verbs that boot nothing. SERIES:KEY is one of another series.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

read -r -a keys <<<"${KERNELS:-stock broken fixed}"

build_lab() {
	cargo build --locked --manifest-path "$WW_ROOT/tests/Cargo.toml" -p lab
}
# No glibc of the guest's is needed by a static reproducer; a --target of its own
# keeps the flag away from build scripts and macros.
build_repro() {
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static' \
		cargo build --locked --manifest-path "$WW_ROOT/tests/Cargo.toml" -p ww-repro --release --target "$WW_TARGET"
}

[[ -x $WW_VNG ]] || die "no virtme-ng; run: make setup"

# Read whole first: with a process substitution a failure would go unnoticed.
own=() others=() dirs=''
for key in "${keys[@]}"; do
	if [[ $key == *:* ]]; then others+=("$key"); else own+=("$key"); fi
done
((${#own[@]} == 0)) || dirs=$("$WW_ROOT/scripts/kernel.sh" "${own[@]}")
for key in "${others[@]}"; do
	dir=$(LINUX='' SERIES=${key%%:*} "$WW_ROOT/scripts/kernel.sh" "${key#*:}")
	dirs+=$'\n'$dir
done
keys=("${own[@]}" "${others[@]}")
mapfile -t dirs <<<"${dirs#$'\n'}"
for i in "${!keys[@]}"; do
	name=${keys[i]//[-:.]/_} # names of variables have none of these
	ko=$("$WW_ROOT/scripts/module.sh" --cache "${dirs[i]}/kdir")
	export "WW_KERNEL_$name=${dirs[i]}" "WW_MODULE_$name=$ko"
done
cargo_target
run_logged "lab" "$WW_CACHE/logs/lab.log" build_lab
run_logged "reproducer" "$WW_CACHE/logs/repro.log" build_repro

# What runs for hours must stay what it is, whatever is built meanwhile.
keep_programs() { # PROGRAM...: sets PROGRAMS, their folder
	PROGRAMS=$WW_CACHE/programs/$(cat "$@" | sha)
	if [[ ! -d $PROGRAMS ]]; then
		scratch_dir
		cp "$@" "$SCRATCH/"
		find "$WW_CACHE/programs" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} + 2>/dev/null || true
		publish "$SCRATCH" "$PROGRAMS"
		rm -rf "$WW_SCRATCH"
	fi
	touch "$PROGRAMS"
}
keep_programs "$CARGO_TARGET_DIR/debug/lab" "$CARGO_TARGET_DIR/$WW_TARGET/release/ww-repro"
# What a suite of static checks runs is the compiler's business too.
cargo_done

export WW_ROOT WW_VNG WW_DRGN WW_FSX WW_KCIDB
export WW_REPRO=$PROGRAMS/ww-repro
exec "$PROGRAMS/lab" "$@"
