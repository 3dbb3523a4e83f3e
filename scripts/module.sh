#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: module.sh [--cache] KDIR [OUT]
#
# Builds wakewatch.ko out of tree against KDIR (a prepared kernel tree, its O=
# directory, or a header package) and prints the path of the .ko. OUT is
# build/<release> in the clone; with --cache it is in the cache under a key of
# everything that goes in, and nothing is built twice. A header package without
# the compiled Rust crates gets them first (crates.sh).

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

cache=''
if [[ ${1:-} == --cache ]]; then
	cache=1
	shift
fi
(($# >= 1 && $# <= 2)) || die "usage: module.sh [--cache] KDIR [OUT]"
KDIR=$(cd "$1" 2>/dev/null && pwd -P) || die "KDIR=$1: no such directory"
out=${2:-}
no_spaces KDIR "$KDIR"

# ---------------------------------------------------------------- the kernel

option() { # NAME: its value in KDIR's configuration, without quotes
	sed -n "s/^$1=//p" "$KDIR/include/config/auto.conf" | sed 's/^"\(.*\)"$/\1/'
}

check_kdir() {
	local f
	[[ -e $KDIR/Makefile ]] || die "$KDIR is not a kernel tree or header package (it has no Makefile)"
	[[ ! -e $KDIR/include/config/auto.conf || $(option CONFIG_PREEMPT_RT) != y ]] ||
		die "$KDIR has CONFIG_PREEMPT_RT=y, on which wakewatch has never been tried"
	if [[ -e $KDIR/.kernelvariables && -e $KDIR/include/config/auto.conf && $(option CONFIG_RUST) == y ]] &&
		! compgen -G "$KDIR/rust/*.rmeta" >/dev/null; then
		KDIR=$("$WW_ROOT/scripts/crates.sh" "$KDIR")
	fi
	[[ -e $KDIR/include/config/auto.conf && -e $KDIR/include/generated/autoconf.h && -e $KDIR/include/config/kernel.release ]] ||
		die "$KDIR is not prepared; configure and build that kernel first (make; modules_prepare is not enough for Rust)"
	release=$(cat "$KDIR/include/config/kernel.release")
	at_least 6.12 "${release%%[-+]*}" || die "$KDIR is $release, and wakewatch needs 6.12 or later"
	[[ $(option CONFIG_RUST) == y ]] || die "$KDIR ($release) was configured without CONFIG_RUST=y; a Rust module cannot be built against it"
	[[ $(option CONFIG_MODULES) == y ]] || die "$KDIR ($release) was configured without CONFIG_MODULES=y"
	for f in core compiler_builtins build_error bindings uapi kernel; do
		[[ -e $KDIR/rust/lib$f.rmeta ]] || crate_missing "rust/lib$f.rmeta"
	done
	compgen -G "$KDIR/rust/libmacros.*" >/dev/null || crate_missing "rust/libmacros.so"
	[[ -e $KDIR/Module.symvers ]] || die "$KDIR ($release) has no Module.symvers; build that kernel's modules (make modules)"
}

crate_missing() { # FILE
	die "$KDIR ($release) lacks a compiled Rust crate, $1; build that kernel, or install the whole header package"
}

# Sets KERNEL_MAKE_FLAGS: the compilers that KDIR was built with. Crates compiled
# by another rustc cannot be read, so that one is checked here.
choose_tools() {
	local wanted major rustc found='' bindgen
	wanted=$(option CONFIG_RUSTC_VERSION_TEXT)
	# The caller's PATH is searched too: a kernel of one's own may be a rustup's.
	for rustc in /usr/bin/rustc "$(command -v rustc || true)" "${HOME}/.cargo/bin/rustc"; do
		[[ -x $rustc ]] || continue
		found=$("$rustc" --version 2>/dev/null) || continue
		[[ $found != "$wanted" ]] || break
	done
	[[ -n $found ]] || die "no rustc; run: make setup"
	[[ $found == "$wanted" ]] || die "$KDIR was built by '$wanted' and this machine has '$found'; install that one, or build that kernel again"
	bindgen=$(find_bindgen) || die "no usable bindgen; run: make setup"
	KERNEL_MAKE_FLAGS=(RUSTC="$rustc" HOSTRUSTC="$rustc" BINDGEN="$bindgen")
	if [[ $(option CONFIG_CC_IS_CLANG) == y ]]; then
		major=$(($(option CONFIG_CLANG_VERSION) / 10000))
		if command -v "clang-$major" >/dev/null; then
			KERNEL_MAKE_FLAGS+=(LLVM="-$major")
		else
			KERNEL_MAKE_FLAGS+=(LLVM=1)
		fi
	fi
}

# ---------------------------------------------------------------- the build

sources() { # what the module is made of, relative to the clone
	(cd "$WW_ROOT" && find Kbuild rust -type f \( -name '*.rs' -o -name '*.[chS]' -o -name Kbuild \) | LC_ALL=C sort)
}

module_key() {
	local f
	{
		# All of the kernel that a module's code depends on.
		(cd "$KDIR" && cat include/config/auto.conf include/config/kernel.release Module.symvers && pwd)
		tool_versions
		sources
		while read -r f; do cat "$WW_ROOT/$f"; done < <(sources)
	} | sha
}

# build_in DIR: an incremental build; the copy keeps objects out of the clone.
# Contents are compared and times not copied, which is what make can rely on.
build_in() {
	mkdir -p "$1"
	sources | rsync -rlp --checksum --files-from=- "$WW_ROOT/" "$1/"
	kernel_make "$KDIR" M="$1" modules
}

check_kdir
[[ -e $WW_ROOT/rust/Kbuild ]] || die "no module source in $WW_ROOT/rust"
choose_tools

if [[ -n $cache && -z $out ]]; then
	dir=$WW_CACHE/modules/$(module_key)
	[[ -e $dir/wakewatch.ko ]] || take_build_lock
	# Somebody may have built it while this one waited.
	if [[ ! -e $dir/wakewatch.ko ]]; then
		scratch_dir
		run_logged "module for $release (${KDIR#"$WW_CACHE/kernels/"})" "$WW_CACHE/logs/module.log" build_in "$SCRATCH/src"
		mkdir "$SCRATCH/out"
		cp "$SCRATCH/src/rust/"*.ko "$SCRATCH/out/"
		publish "$SCRATCH/out" "$dir"
	fi
	printf '%s\n' "$dir/wakewatch.ko"
	exit
fi

: "${out:=$WW_ROOT/build/$release}"
mkdir -p "$out"
out=$(cd "$out" && pwd -P)
run_logged "module for $release" "$WW_CACHE/logs/module.log" build_in "$out"
printf '%s\n' "$out/rust/wakewatch.ko"
