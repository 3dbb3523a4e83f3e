# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034  # much here is for those who source it
#
# Sourced by every script here: strict mode, messages, the cache, long commands
# with progress, and the one place that says which tools build what.

set -euo pipefail
# A failure inside $(...) is one too. Not seen by bash in `$(...) || ...`, so
# results are assigned plainly and the assignment fails.
shopt -s inherit_errexit

WW_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
WW_CACHE=${WAKEWATCH_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/wakewatch}
WAKEWATCH_CACHE=$WW_CACHE
export WAKEWATCH_CACHE

# ---------------------------------------------------------------- messages

# Progress goes to stderr: stdout is for what a script returns.
say() { printf '%s\n' "$*" >&2; }
# The status is 1, unless that says something else of who sources this.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit "${WW_UNKNOWN:-1}"
}

no_spaces() { # WHAT PATH: kbuild's makefiles take words apart
	[[ $2 != *[[:space:]]* ]] || die "$1 '$2' has a space in it, and the kernel's makefiles can't cope; use a path without"
}
no_spaces "the clone's path" "$WW_ROOT"
no_spaces "the cache's path (WAKEWATCH_CACHE, or in HOME)" "$WW_CACHE"

# ---------------------------------------------------------------- tools

# Versions of what is not a distribution package. They are part of directory
# names in the cache, so a new version never meets the files of an old one.
WW_BINDGEN_VERSION=0.72.1
WW_FSX_VERSION=0.3.2
WW_FSX=$WW_CACHE/tools/fsx-$WW_FSX_VERSION/bin/fsx
WW_VIRTME_VERSION=1.42
WW_VNG=$WW_CACHE/tools/virtme-ng-$WW_VIRTME_VERSION/bin/vng
WW_DRGN_VERSION=0.3.0
WW_DRGN=$WW_CACHE/tools/drgn-$WW_DRGN_VERSION/bin/drgn
# kcidb-io has no program: the interpreter that finds it.
WW_KCIDB_VERSION=141
WW_KCIDB=$WW_CACHE/tools/kcidb-io-$WW_KCIDB_VERSION/bin/python
WW_TMT_VERSION=1.78.0
WW_TMT=$WW_CACHE/tools/tmt-$WW_TMT_VERSION/bin/tmt
# The major version of the clang packages; both Debian 12 and 13 have it.
WW_LLVM=19
# What compiles the C of the project's own kernels, clang or gcc.
TOOLCHAIN=${TOOLCHAIN:-clang}
[[ $TOOLCHAIN == clang || $TOOLCHAIN == gcc ]] || {
	printf '%s: TOOLCHAIN=%s: there are clang and gcc\n' "${0##*/}" "$TOOLCHAIN" >&2
	exit 1
}

# CONFIG_RUST needs the compiler whose library source is installed, and that is
# the distribution's. A rustup toolchain earlier in PATH would be found by make
# and by `cargo clippy` alike, so the distribution's directories come first.
unset RUSTUP_TOOLCHAIN RUSTC RUSTDOC RUSTFMT RUSTFLAGS CARGO CARGO_BUILD_RUSTC
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export PATH
# bindgen loads libclang by itself and otherwise takes the newest or the first
# it finds, which is not always the one that goes with $WW_LLVM.
export LIBCLANG_PATH=/usr/lib/llvm-$WW_LLVM/lib

# Variables of the make that called us (KERNEL=..., LINUX=..., -j) must not
# become variables of a kernel's make.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES GNUMAKEFLAGS

# Compares versions; none found is not enough.
at_least() { # WANTED FOUND
	[[ -n $2 && $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]
}

# Of the distribution's own kernels that are installed, the newest whose modules may be in Rust; nothing if there is
# none. Real-time and cloud flavours are other kernels.
installed_release() {
	local build
	for build in /lib/modules/*/build; do
		[[ $build != *-@(rt|cloud)-* ]] || continue
		if grep -qsx CONFIG_RUST=y "$build/include/config/auto.conf"; then basename "${build%/build}"; fi
	done | sort -V | tail -n 1
}

# bindgen_usable PROGRAM: kernels since 6.12 are built with 0.65 or later.
bindgen_usable() {
	local v
	v=$("$1" --version 2>/dev/null | sed -n 's/^bindgen \([0-9.]*\).*/\1/p') || return 1
	at_least 0.65.1 "$v"
}

find_bindgen() {
	local b
	for b in /usr/bin/bindgen "$WW_CACHE/tools/bindgen-$WW_BINDGEN_VERSION/bin/bindgen"; do
		if [[ -x $b ]] && bindgen_usable "$b"; then
			printf '%s\n' "$b"
			return
		fi
	done
	return 1
}

# A browser without a screen, for the tests of the results page.
find_browser() {
	command -v chromium-headless-shell || command -v chromium
}

# kernel_make DIR [ARG...]: make in a kernel tree with the project's tools, and
# with nothing of the caller's environment: what a build depends on has to be in
# the cache key, and KCFLAGS, ARCH or KBUILD_* in the environment are not.
kernel_make() {
	local dir=$1
	shift
	env -i PATH="$PATH" HOME="$HOME" LC_ALL=C LIBCLANG_PATH="$LIBCLANG_PATH" ${TMPDIR:+TMPDIR="$TMPDIR"} \
		make -C "$dir" -j"$(nproc)" "${KERNEL_MAKE_FLAGS[@]}" "$@"
}

# The flags of the project's own kernels. The fixed build stamp makes a kernel
# depend on its inputs only; no pahole but for CONFIG_VARIANT=btf, because nothing
# else here uses BTF and its version would be one more input.
project_make_flags() {
	local bindgen pahole=no-pahole
	[[ ${CONFIG_VARIANT:-} != btf ]] || pahole=pahole
	bindgen=$(find_bindgen) || die "no usable bindgen; run: make setup"
	# bindgen's libclang reads the headers of either.
	if [[ $TOOLCHAIN == clang ]]; then KERNEL_MAKE_FLAGS=(LLVM="-$WW_LLVM"); else KERNEL_MAKE_FLAGS=(CC=gcc); fi
	KERNEL_MAKE_FLAGS+=(
		RUSTC=/usr/bin/rustc HOSTRUSTC=/usr/bin/rustc
		RUSTFMT=/usr/bin/rustfmt BINDGEN="$bindgen"
		PAHOLE="$pahole" LOCALVERSION=
		KBUILD_BUILD_TIMESTAMP=2020-11-24 KBUILD_BUILD_USER=wakewatch
		KBUILD_BUILD_HOST=lab KBUILD_BUILD_VERSION=1
	)
}

# One line per compiler; part of every key and of a kernel's `info`.
tool_versions() {
	local bindgen
	bindgen=$(find_bindgen) || die "no usable bindgen; run: make setup"
	"clang-$WW_LLVM" --version | head -n 1
	if [[ $TOOLCHAIN == clang ]]; then
		"ld.lld-$WW_LLVM" --version
	else
		gcc --version | head -n 1
		ld --version | head -n 1
	fi
	/usr/bin/rustc --version
	"$bindgen" --version
	[[ ${CONFIG_VARIANT:-} != btf ]] || echo "pahole $(pahole --version)"
}

# ---------------------------------------------------------------- cache

# Digest of stdin, short enough for a directory name.
sha() { sha256sum | cut -c1-12; }

# Nothing half-made may count after Ctrl-C: things are made in a directory from
# scratch_dir, and moved to their name at the end. All of a script's, and of its
# subshells, are in one that carries its process id and goes away with it.
WW_SCRATCH=$WW_CACHE/tmp/${0##*/}.$$
scratch_dir() { # sets SCRATCH
	local old
	if [[ ! -d $WW_SCRATCH ]]; then
		for old in "$WW_CACHE"/tmp/*; do # of scripts that were killed
			[[ ! -d $old || -d /proc/${old##*.} ]] || rm -rf "$old"
		done
		mkdir -p "$WW_SCRATCH"
	fi
	SCRATCH=$(mktemp -d "$WW_SCRATCH/XXXXXX")
}

# publish TEMP NAME: NAME appears whole or not at all.
publish() {
	mkdir -p "$(dirname "$2")"
	[[ ! -e $2 ]] || mv "$2" "$1.old"
	mv -T "$1" "$2"
}

# One build at a time in one cache: two makes wait for each other here and then
# find each other's result. The lock ends with the process that holds it.
take_build_lock() {
	mkdir -p "$WW_CACHE"
	exec 9>"$WW_CACHE/build.lock"
	if ! flock -n 9; then
		say "  waiting for another build in $WW_CACHE"
		flock 9
	fi
}

# cargo_target: sets CARGO_TARGET_DIR, where cargo builds for every clone, one clone at a time, until
# cargo_done or the end. Dependencies are built once. For a workspace's own packages cargo knows neither its
# folder nor what is in the files, only when they were written; what another clone has built since would
# pass for this one's, so it goes.
WW_TARGET=x86_64-unknown-linux-gnu
cargo_target() {
	local owner=$WW_CACHE/target/clone
	export CARGO_TARGET_DIR=$WW_CACHE/target
	mkdir -p "$CARGO_TARGET_DIR"
	exec 8>"$WW_CACHE/cargo.lock"
	if ! flock -n 8; then
		say "  waiting for another clone's cargo"
		flock 8
	fi
	[[ ! -f $owner || $(<"$owner") != "$WW_ROOT" ]] || return 0
	local manifest=$WW_ROOT/tests/Cargo.toml own=(-p findings -p lab -p ww-repro -p wakewatch-host -p wakewatch-model)
	cargo clean --quiet --locked --manifest-path "$manifest" "${own[@]}"
	cargo clean --quiet --locked --manifest-path "$manifest" "${own[@]}" --release --target "$WW_TARGET"
	cargo clean --quiet --locked --manifest-path "$manifest" "${own[@]}" --release --target-dir "$CARGO_TARGET_DIR/loom"
	printf '%s' "$WW_ROOT" >"$owner"
}

cargo_done() {
	exec 8>&-
}

cache_size() {
	if [[ -d $WW_CACHE ]]; then
		du -sh --apparent-size "$WW_CACHE" 2>/dev/null | cut -f1
	else
		echo 0
	fi
}

# ---------------------------------------------------------------- long commands

WW_JOBS=() # process groups to end when this script ends

cleanup() {
	local status=$? group
	trap '' INT TERM HUP
	# Ends the line that run_logged was updating.
	((${#WW_JOBS[@]} == 0)) || [[ ! -t 2 ]] || echo >&2
	for group in "${WW_JOBS[@]}"; do
		kill -TERM -- "-$group" 2>/dev/null || true
	done
	wait 2>/dev/null || true
	rm -rf "$WW_SCRATCH"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

duration() {
	local s=$1
	if ((s < 60)); then printf '%ds' "$s"; else printf '%dm%02ds' $((s / 60)) $((s % 60)); fi
}

progress() { # LABEL LOG START: the ticker of run_logged
	local label=$1 log=$2 start=$3 every=15 n
	[[ ! -t 2 ]] || every=1
	while sleep "$every"; do
		# One line of kbuild's (or cargo's) output per thing built.
		n=$(grep -c '^ ' "$log" 2>/dev/null) || true
		if [[ -t 2 ]]; then
			printf '\r\033[K  %s: %s objects, %s' "$label" "${n:-0}" "$(duration $((SECONDS - start)))" >&2
		else
			say "  $label: ${n:-0} objects, $(duration $((SECONDS - start)))"
		fi
	done
}

# run_logged LABEL LOG COMMAND...: quiet, with progress, and on failure with the
# end of the log. Both jobs get process groups of their own (set -m), so that
# cleanup reaches a whole make and no orphan keeps our stderr open.
run_logged() {
	local label=$1 log=$2 start=$SECONDS job ticker status=0
	shift 2
	mkdir -p "$(dirname "$log")"
	: >"$log"
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	job=$!
	WW_JOBS+=("$job")
	progress "$label" "$log" "$start" &
	ticker=$!
	WW_JOBS+=("$ticker")
	set +m
	wait "$job" || status=$?
	kill -TERM -- "-$ticker" 2>/dev/null || true
	wait "$ticker" 2>/dev/null || true
	WW_JOBS=()
	[[ ! -t 2 ]] || printf '\r\033[K' >&2
	if ((status)); then
		tail -n 20 "$log" | sed 's/^/    /' >&2
		die "$label failed after $(duration $((SECONDS - start))) (status $status); the whole log: $log"
	fi
	say "  $label: done in $(duration $((SECONDS - start)))"
}
