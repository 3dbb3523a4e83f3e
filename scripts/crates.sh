#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: crates.sh HEADERS
#
# Distributions' header packages say CONFIG_RUST=y and come without the compiled
# Rust crates, so that no Rust module can be built against them. This makes the
# crates from the source package of the same version, by `make modules_prepare`
# with the header package's configuration and the compilers that it names, holds
# every symbol they export to the package's Module.symvers, and prints a KDIR:
# the header package with the crates in it. No kernel is built. The result stays
# in the cache under a key of everything that goes in.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

(($# == 1)) || die "usage: crates.sh HEADERS"
HEADERS=$(cd "$1" 2>/dev/null && pwd -P) || die "$1: no such directory"
# Raise it when this file makes something else than before.
RECIPE=1

option() { # NAME: its value in the configuration, without quotes
	sed -n "s/^$1=//p" "$HEADERS/include/config/auto.conf" | sed 's/^"\(.*\)"$/\1/'
}

variable() { # NAME: of those that Debian's header packages set for make
	sed -n "s/^override $1 = //p" "$HEADERS/.kernelvariables"
}

# ---------------------------------------------------------------- what is needed

# Sets RELEASE, SOURCE, CC, RUSTC, BINDGEN. What differs from what the kernel was
# built with is told, each in a line, before anything is made.
find_parts() {
	local f series package headers source found missing='' wrong=0
	for f in .config .kernelvariables Makefile Module.symvers include/config/auto.conf; do
		[[ -e $HEADERS/$f ]] || die "$HEADERS is no header package of Debian's (it has no $f)"
	done
	RELEASE=$(variable KERNELRELEASE)
	[[ $RELEASE =~ ^([0-9]+\.[0-9]+)[.+-] ]] || die "$HEADERS/.kernelvariables names no KERNELRELEASE"
	series=${BASH_REMATCH[1]}
	differs() { # WHAT NEEDED FOUND HINT
		say "${0##*/}: $RELEASE needs $1 '$2', and here is '${3:-none}'${4:+; $4}"
		wrong=1
	}

	package=linux-source-$series
	SOURCE=/usr/src/$package.tar.xz
	headers=$(dpkg-query -W -f '${source:Version}' "linux-headers-$RELEASE" 2>/dev/null) || headers=''
	source=$(dpkg-query -W -f '${source:Version}' "$package" 2>/dev/null) || source=''
	[[ -e $SOURCE ]] || source=''
	[[ -n $headers ]] || die "$HEADERS belongs to no package linux-headers-$RELEASE; only those of a distribution are completed"
	[[ $source == "$headers" ]] || differs "the source package" "$headers" "$source" "apt-get install $package=$headers"

	CC=$(variable CROSS_COMPILE)gcc-$(($(option CONFIG_GCC_VERSION) / 10000))
	[[ $(option CONFIG_CC_IS_GCC) == y ]] || die "$RELEASE was built by $(option CONFIG_CC_VERSION_TEXT), and header packages are completed with gcc only"
	found=$("$CC" --version 2>/dev/null | head -n 1) || found=''
	[[ $found == "$(option CONFIG_CC_VERSION_TEXT)" ]] || differs "the compiler" "$(option CONFIG_CC_VERSION_TEXT)" "$found"

	RUSTC=/usr/bin/rustc
	found=$("$RUSTC" --version 2>/dev/null) || found=''
	[[ $found == "$(option CONFIG_RUSTC_VERSION_TEXT)" ]] || differs "the Rust compiler" "$(option CONFIG_RUSTC_VERSION_TEXT)" "$found"
	[[ -z $found || -e $("$RUSTC" --print sysroot)/lib/rustlib/src/rust/library/core/src/lib.rs ]] ||
		differs "the library source of" "$found" "" "apt-get install rust-src"
	for package in bc bison flex gcc libc6-dev libelf-dev libssl-dev make rsync xz-utils; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=" $package"
	done
	[[ -z $missing ]] || {
		say "${0##*/}: not installed, and the kernel's own programs need it: apt-get install$missing"
		wrong=1
	}
	BINDGEN=$(find_bindgen) || differs "bindgen" "0.65.1 or later" "" "run: make setup"
	((wrong == 0)) || exit 1
}

crates_key() {
	{
		echo "$RECIPE"
		(cd "$HEADERS" && cat .config .kernelvariables Module.symvers && pwd)
		stat -c '%n %s %Y' "$SOURCE"
		"$CC" --version | head -n 1
		"$RUSTC" --version
		"$BINDGEN" --version
	} | sha
}

# ---------------------------------------------------------------- the crates

# What makes the crates depends on nothing but the tree and its configuration.
prepare() { # TREE
	local top
	top=$(basename "$SOURCE" .tar.xz)
	KERNEL_MAKE_FLAGS=(CC="$CC" KERNELRELEASE="$RELEASE" RUSTC="$RUSTC" HOSTRUSTC="$RUSTC" BINDGEN="$BINDGEN")
	mkdir "$1"
	# What only a kernel's build needs, most of the source, stays where it is.
	tar -C "$1" --strip-components=1 --anchored --exclude="$top"/{drivers,sound,fs,net}/'*.c' \
		--exclude="$top/Documentation/*.rst" --exclude="$top/tools/testing/*" -xf "$SOURCE"
	cp "$HEADERS/.config" "$1/.config"
	kernel_make "$1" olddefconfig
	if diff <(grep -v '^#' "$HEADERS/.config") <(grep -v '^#' "$1/.config"); then
		kernel_make "$1" modules_prepare
	else
		echo "the configuration is not that of this source and these compilers"
		return 1
	fi
}

# The kernel that runs has crates of its own: what is compiled against these has
# to find every symbol there, and a symbol's name has a hash of its crate in it.
check_symbols() { # TREE
	local lost more
	sed -n 's/^EXPORT_SYMBOL_RUST_GPL(\(.*\));$/\1/p' "$1"/rust/exports_*_generated.h | LC_ALL=C sort -u >"$SCRATCH/made"
	awk -F'\t' '{ print $2 }' "$HEADERS/Module.symvers" | LC_ALL=C sort -u >"$SCRATCH/package"
	[[ -s $SCRATCH/made ]] || die "modules_prepare of $RELEASE has made no list of exported Rust symbols"
	lost=$(LC_ALL=C comm -23 "$SCRATCH/made" "$SCRATCH/package")
	# The other way round: what Rust has in vmlinux.
	more=$(awk -F'\t' '$3 == "vmlinux" && $2 ~ /^_R/ { print $2 }' "$HEADERS/Module.symvers" | LC_ALL=C sort -u | LC_ALL=C comm -23 - "$SCRATCH/made")
	[[ -z $lost$more ]] || die "the crates are not those of $RELEASE: $(grep -c . <<<"$lost") of $(wc -l <"$SCRATCH/made") symbols are not in its Module.symvers, $(grep -c . <<<"$more") of its own are missing; the first is $(head -n 1 <<<"${lost:-$more}")"
	say "  $(wc -l <"$SCRATCH/made") exported Rust symbols, all in Module.symvers"
}

# assemble TREE OUT DIR: in OUT the header package with the crates, as a KDIR that
# will be DIR.
assemble() {
	local f
	mkdir -p "$2/rust" "$2/scripts"
	cp -a "$HEADERS/.config" "$HEADERS/.kernelvariables" "$HEADERS/Module.symvers" "$HEADERS/arch" "$HEADERS/include" "$2/"
	sed "s,^KBUILD_OUTPUT *=.*,KBUILD_OUTPUT=$3," "$HEADERS/Makefile" >"$2/Makefile"
	for f in tools vmlinux; do
		[[ ! -e $HEADERS/$f ]] || ln -s "$HEADERS/$f" "$2/$f"
	done
	for f in "$HEADERS"/scripts/* "$HEADERS"/scripts/.[!.]*; do
		[[ ! -e $f ]] || ln -s "$f" "$2/scripts/"
	done
	cp "$1"/rust/*.rmeta "$1"/rust/*.so "$2/rust/"
	[[ -e $2/scripts/target.json ]] || cp "$1/scripts/target.json" "$2/scripts/"
	echo "$RELEASE" >"$2/include/config/kernel.release"
}

find_parts
dir=$WW_CACHE/crates/$RELEASE-$(crates_key)
if [[ ! -e $dir/Makefile ]]; then
	# A lock of its own: this is no kernel build.
	mkdir -p "$WW_CACHE"
	exec 7>"$WW_CACHE/crates.lock"
	flock 7
fi
if [[ ! -e $dir/Makefile ]]; then
	say "$HEADERS has no compiled Rust crates: making them from $SOURCE (some minutes, and up to 2 GB meanwhile)"
	scratch_dir
	run_logged "crates of $RELEASE" "$WW_CACHE/logs/crates.log" prepare "$SCRATCH/linux"
	check_symbols "$SCRATCH/linux"
	assemble "$SCRATCH/linux" "$SCRATCH/out" "$dir"
	publish "$SCRATCH/out" "$dir"
fi
printf '%s\n' "$dir"
