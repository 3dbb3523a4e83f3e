#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: check.sh [PATTERN]
#
# What can be checked without booting anything, as KTAP; with PATTERN only the
# checks whose name matches it. Exit status 1 if one failed. Run by `make check`
# and as a suite of `make test`, which also says where a built kernel is
# (WW_KERNEL_stock), for the one check that needs it.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
cd "$WW_ROOT"

ONLY=${1:-}
export CARGO_TERM_COLOR=never
cargo_target
MANIFEST=tests/Cargo.toml

# ---------------------------------------------------------------- KTAP

NAMES=() COMMANDS=()
check() { # NAME COMMAND...
	[[ $1 =~ $ONLY ]] || return 0
	NAMES+=("$1")
	shift
	COMMANDS+=("${*@Q}")
}

# passed_before PART...: with all of this the check passed once; what is said of it is no news. Sets PASSED, the
# file that says so, which is made by remember_pass when it has passed now. A tree of LINUX may be another by now.
passed_before() {
	PASSED=''
	[[ -z ${LINUX:-} ]] || return 1
	PASSED=$WW_CACHE/checks/$(printf '%s\n' "$@" | sha)
	[[ ! -e $PASSED ]] || echo kept >>"$CHECKS/kept"
	[[ -e $PASSED ]]
}

remember_pass() {
	[[ -n $PASSED ]] || return 0
	mkdir -p "${PASSED%/*}"
	touch "$PASSED"
}

# A check is a command that fails and says why; status 4 is a skip, with the
# reason as its last line. As many at once as there are CPUs, told in their order.
run_checks() {
	local i status running=0 told=0 passed=0 failed=0 skipped=0
	scratch_dir
	CHECKS=$SCRATCH
	echo "KTAP version 1"
	echo "1..${#NAMES[@]}"
	for i in "${!NAMES[@]}"; do
		if ((running == $(nproc))); then
			wait -n || true
			running=$((running - 1))
			tell_done
		fi
		run_check "$i" &
		running=$((running + 1))
	done
	while ((running > 0)); do
		wait -n || true
		running=$((running - 1))
		tell_done
	done
	[[ ! -e $CHECKS/kept ]] ||
		echo "# $(wc -l <"$CHECKS/kept") had passed with the same files and tools, and were not done again"
	echo "# $passed passed, $failed failed, $skipped skipped"
	((failed == 0 && passed + skipped == ${#NAMES[@]}))
}

run_check() { # INDEX
	local status=0
	# A shell of its own: with `||` here, set -e would be off inside.
	set +e
	(
		set -e
		eval "${COMMANDS[$1]}"
	) >"$CHECKS/$1.output" 2>&1 </dev/null
	status=$?
	echo "$status" >"$CHECKS/$1.status.new"
	mv "$CHECKS/$1.status.new" "$CHECKS/$1.status"
}

# tell_done: of those that have ended, what is next in order. Counts for run_checks.
tell_done() {
	while [[ -e $CHECKS/$told.status ]]; do
		status=$(cat "$CHECKS/$told.status")
		case $status in
		0)
			passed=$((passed + 1))
			echo "ok $((told + 1)) ${NAMES[told]}"
			;;
		4)
			skipped=$((skipped + 1))
			echo "ok $((told + 1)) ${NAMES[told]} # SKIP $(tail -n 1 "$CHECKS/$told.output")"
			;;
		*)
			failed=$((failed + 1))
			sed 's/^/# /' "$CHECKS/$told.output" | tail -n 60
			echo "not ok $((told + 1)) ${NAMES[told]}"
			;;
		esac
		told=$((told + 1))
	done
}

# ---------------------------------------------------------------- this clone

# Everything that is or will be committed.
project_files() {
	git ls-files --cached --others --exclude-standard -- "$@" | while read -r f; do
		[[ ! -f $f || -L $f ]] || printf '%s\n' "$f"
	done
}

# files_id PATH...: what is in the files there, and their names.
files_id() {
	project_files "$@" | LC_ALL=C sort | xargs -d '\n' sha256sum | sha
}

shell_scripts() {
	project_files | while read -r f; do
		if [[ $f == *.sh ]] || head -n 1 "$f" | grep -qa '^#!.*\b\(ba\)\?sh\b'; then printf '%s\n' "$f"; fi
	done
}

check_shell() {
	local files
	mapfile -t files < <(shell_scripts)
	if passed_before shellcheck "$(shellcheck --version)" "$(files_id .shellcheckrc "${files[@]}")"; then return; fi
	shellcheck -- "${files[@]}"
	remember_pass
}

# No SPDX line: the licence's own text, a generated file, pictures, patches, whose format
# begins with a mail header and whose files have their own, and golden output,
# which is compared word for word.
check_spdx() {
	local f lost=0
	while read -r f; do
		case $f in
		COPYING | *.lock | */.fmf/version | *.patch | *.png | tests/xfstests/*.out) continue ;;
		esac
		head -n 5 "$f" | grep -qaE 'SPDX-License-Identifier: GPL-2\.0( |$)' || {
			echo "$f: no 'SPDX-License-Identifier: GPL-2.0' in its first lines"
			lost=1
		}
	done < <(project_files)
	return "$lost"
}

# ---------------------------------------------------------------- Rust

check_module_style() {
	local files
	mapfile -t files < <(project_files 'rust/*.rs')
	((${#files[@]})) || {
		echo "no module source"
		return 1
	}
	# The kernel's .rustfmt.toml: its stable options are these two.
	rustfmt --check --color never --edition 2021 --config newline_style=Unix "${files[@]}"
}

# With the kernel's own lints, by kbuild: needs a kernel that was built.
check_module_lints() {
	local kdir=${WW_KERNEL_stock:-}/kdir
	[[ -e $kdir/Makefile ]] || {
		echo "needs a built kernel: run by make test"
		return 4
	}
	if passed_before clippy "${WW_KERNEL_stock##*/}" "$(/usr/bin/clippy-driver --version)" "$(files_id Kbuild rust)"; then return; fi
	scratch_dir
	cp -r Kbuild rust "$SCRATCH/"
	project_make_flags
	kernel_make "$kdir" M="$SCRATCH" CLIPPY=1 CLIPPY_DRIVER=/usr/bin/clippy-driver modules >"$SCRATCH/log" 2>&1 || {
		cat "$SCRATCH/log"
		return 1
	}
	if grep -A 1 '^warning' "$SCRATCH/log"; then return 1; fi
	remember_pass
}

check_tests_lints() {
	if passed_before tests-clippy "$(cargo clippy --version)" "$(files_id rust tests)"; then return; fi
	cargo clippy --quiet --locked --workspace --all-targets --manifest-path "$MANIFEST" -- -D warnings
	remember_pass
}

# The module's own files again, with loom's atomics in place of the kernel's.
# Optimised, or it takes minutes; and in a folder of its own, or each of the two
# builds would throw away the other.
check_loom() {
	if passed_before loom "$(rustc --version)" "$(files_id rust tests/host tests/Cargo.lock)"; then return; fi
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$CARGO_TARGET_DIR/loom" \
		cargo test --quiet --locked --release -p wakewatch-host --manifest-path "$MANIFEST" loom
	remember_pass
}

check_proposals() {
	if passed_before stateright "$(rustc --version)" "$(files_id tests/host/model tests/Cargo.lock)"; then return; fi
	cargo test --quiet --locked -p wakewatch-model --manifest-path "$MANIFEST"
	remember_pass
}

# The results page in a browser, which is too large to be installed for that alone.
check_page_in_browser() {
	local browser
	browser=$(find_browser) || {
		echo "no chromium here; make browser installs one (230 MB)"
		return 4
	}
	WW_BROWSER=$browser cargo test --quiet --locked -p lab --manifest-path "$MANIFEST" page::browser -- --ignored
}

# ---------------------------------------------------------------- bad input

one_line() { # WHAT STATUS OUTPUT SAID
	[[ $2 != 0 && $(wc -l <<<"$3") -eq 1 && $3 == *"$4"* ]] || {
		printf '%s: status %s: %s\n' "$1" "$2" "$3"
		return 1
	}
}

# refused WHAT SAID COMMAND...: it ends with one line, which says that; else REFUSED_WRONG is set.
refused() {
	local what=$1 said=$2 status=0 out
	shift 2
	out=$("$@" 2>&1 >/dev/null </dev/null) || status=$?
	one_line "$what" "$status" "$out" "$said" || REFUSED_WRONG=1
}

# as_kdir DIR OPTION...: what module.sh looks at of a kernel's build directory, 6.12.1 with all that it needs.
as_kdir() {
	local dir=$1 f
	shift
	mkdir -p "$dir/include/config" "$dir/include/generated" "$dir/rust"
	touch "$dir/Makefile" "$dir/include/generated/autoconf.h" "$dir/Module.symvers" "$dir/rust/libmacros.so"
	echo 6.12.1 >"$dir/include/config/kernel.release"
	printf '%s\n' CONFIG_RUST=y CONFIG_MODULES=y "CONFIG_RUSTC_VERSION_TEXT=\"$(/usr/bin/rustc --version)\"" "$@" \
		>"$dir/include/config/auto.conf"
	for f in core compiler_builtins build_error bindings uapi kernel; do
		touch "$dir/rust/lib$f.rmeta"
	done
}

# What is no kernel to build a module against, and a place where none can be built.
check_module_refuses() {
	local d
	scratch_dir
	d=$SCRATCH
	REFUSED_WRONG=0
	refused "nowhere" "no such directory" scripts/module.sh "$d/nowhere"
	mkdir "$d/empty"
	refused "no tree" "not a kernel tree or header package" scripts/module.sh "$d/empty"
	as_kdir "$d/a space"
	refused "a space in KDIR" "has a space in it" scripts/module.sh "$d/a space"
	as_kdir "$d/unprepared"
	rm "$d/unprepared/include/config/auto.conf"
	refused "not configured" "is not prepared" scripts/module.sh "$d/unprepared"
	as_kdir "$d/old"
	echo 6.6.30-lab >"$d/old/include/config/kernel.release"
	refused "6.6" "wakewatch needs 6.12 or later" scripts/module.sh "$d/old"
	as_kdir "$d/no-rust" CONFIG_RUST=n
	sed -i '/^CONFIG_RUST=y/d' "$d/no-rust/include/config/auto.conf"
	refused "no Rust" "without CONFIG_RUST=y" scripts/module.sh "$d/no-rust"
	as_kdir "$d/no-modules"
	sed -i '/^CONFIG_MODULES/d' "$d/no-modules/include/config/auto.conf"
	refused "no modules" "without CONFIG_MODULES=y" scripts/module.sh "$d/no-modules"
	as_kdir "$d/rt" CONFIG_PREEMPT_RT=y
	refused "PREEMPT_RT" "CONFIG_PREEMPT_RT=y" scripts/module.sh "$d/rt"
	as_kdir "$d/crate"
	rm "$d/crate/rust/libuapi.rmeta"
	refused "a crate that is missing" "lacks a compiled Rust crate, rust/libuapi.rmeta" scripts/module.sh "$d/crate"
	as_kdir "$d/macros"
	rm "$d/macros/rust/libmacros.so"
	refused "the macros missing" "lacks a compiled Rust crate, rust/libmacros.so" scripts/module.sh "$d/macros"
	as_kdir "$d/symvers"
	rm "$d/symvers/Module.symvers"
	refused "no symbols" "has no Module.symvers" scripts/module.sh "$d/symvers"
	as_kdir "$d/rustc"
	sed -i 's/^CONFIG_RUSTC_VERSION_TEXT=.*/CONFIG_RUSTC_VERSION_TEXT="rustc 1.11.0 (old)"/' "$d/rustc/include/config/auto.conf"
	refused "another rustc" "was built by 'rustc 1.11.0 (old)' and this machine has" scripts/module.sh "$d/rustc"
	refused "too many words" "usage: module.sh" scripts/module.sh "$d/crate" "$d/out" "$d/more"
	mkdir "$d/a clone"
	cp -r scripts rust Kbuild "$d/a clone/"
	as_kdir "$d/good"
	refused "a space in the clone's path" "the clone's path" "$d/a clone/scripts/module.sh" "$d/good"
	return "$REFUSED_WRONG"
}

# as_tree DIR VERSION.PATCHLEVEL.SUBLEVEL: what kernel.sh looks at of a tree before it builds anything.
as_tree() {
	mkdir -p "$1/mm"
	touch "$1/Kbuild" "$1/mm/filemap.c"
	printf 'VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = %s\nEXTRAVERSION =\n' "${2%%.*}" "$(cut -d. -f2 <<<"$2")" "${2##*.}" >"$1/Makefile"
}

# kernel.sh, with nothing said of its progress.
kernel_sh() {
	scripts/kernel.sh "$@" 2>&1 >/dev/null | grep -v '^  ' >&2
	return "${PIPESTATUS[0]}"
}

# What is no tree that the patches are for.
check_kernel_refuses() {
	local d
	scratch_dir
	d=$SCRATCH
	mkdir "$d/cache"
	ln -s "$WW_CACHE/tools" "$d/cache/tools"
	REFUSED_WRONG=0
	export WAKEWATCH_CACHE=$d/cache
	LINUX=$d/none refused "nowhere" "LINUX=$d/none: no such directory" kernel_sh broken
	mkdir "$d/empty"
	LINUX=$d/empty refused "no tree" "LINUX=$d/empty: not a Linux kernel tree" kernel_sh broken
	as_tree "$d/old" 6.6.30
	LINUX=$d/old refused "6.6" "version 6.6.30, and wakewatch needs 6.12 or later" kernel_sh broken
	# The nearest series is taken, and the hunk of it that fails is named.
	as_tree "$d/6.13" 6.13.0
	LINUX=$d/6.13 refused "another mm/filemap.c" "does not apply to 6.13.0 (SERIES=6.12): mm/filemap.c: hunk 1, line " kernel_sh broken
	as_tree "$d/7.2" 7.2.1
	LINUX=$d/7.2 refused "the same of 7.2" "does not apply to 7.2.1 (SERIES=7.3): mm/filemap.c: hunk 1, line " kernel_sh broken
	return "$REFUSED_WRONG"
}

# ---------------------------------------------------------------- other people's tools

tmt_lints() { # TREE
	# What the schemas do not know is a warning to it.
	"$WW_TMT" --root "$1" lint >"$SCRATCH/lint" 2>&1 && ! grep '^warn' "$SCRATCH/lint"
}

# Its plans are in order, and one that takes a moment runs on this machine, in tmt's own copy of the clone.
check_tmt() {
	if [[ ! -x $WW_TMT ]]; then
		echo "no tmt; run: make setup"
		return 4
	fi
	scratch_dir
	tmt_lints tests/tmt || {
		cat "$SCRATCH/lint"
		return 1
	}
	# Else the test tests nothing.
	cp -r tests/tmt "$SCRATCH/bad"
	sed -i 's/how: local/hwo: local/' "$SCRATCH/bad/plans.fmf"
	if tmt_lints "$SCRATCH/bad" >/dev/null; then
		echo "tmt lint has nothing to say of a plan with a key that there is not"
		return 1
	fi
	"$WW_TMT" --feeling-safe --root tests/tmt run --scratch --id "$SCRATCH/run" plan --name /doctor >"$SCRATCH/out" 2>&1 || true
	if grep -q '^total: 1 test passed' "$SCRATCH/out"; then return; fi
	# It looks for its own requirements by apt-file, whose indexes a mirror may not have.
	if grep -q 'E: Failed to fetch' "$SCRATCH/out"; then
		echo "tmt can't have its index of packages: $(grep -o 'E: Failed to fetch.*' "$SCRATCH/out" | head -n 1)"
		return 4
	fi
	tail -n 20 "$SCRATCH/out"
	return 1
}

# ---------------------------------------------------------------- the front door

# make, as one calls it who has said nothing else; -n: what is done begins with what is asked.
make_clean() { env -i PATH="$PATH" HOME="$HOME" make -n --no-print-directory "$@"; }

asked_wrong() { # SAID ARGUMENT...
	refused "make ${*:2}" "$1" make_clean "${@:2}"
}

asked_right() { # ARGUMENT...
	make_clean "$@" >/dev/null || REFUSED_WRONG=1
}

check_asked_refuses() {
	local d
	scratch_dir
	d=$SCRATCH
	REFUSED_WRONG=0
	asked_wrong "no verb stres; the nearest is stress" stres
	asked_wrong "no variable FROM; the nearest is FORM" stress FROM=xfs
	asked_wrong "no variable KERNLE; the nearest is KERNEL" kernel KERNLE=broken
	asked_wrong "no variable V (make help)" repro V=1
	asked_wrong "no variable it's" repro "it's=1"
	asked_wrong "soak takes no KERNEL; it takes DURATION" soak KERNEL=fixed
	asked_wrong "KERNEL=brokn: there is no brokn; the nearest is broken" shell KERNEL=brokn
	asked_wrong "KERNEL=fix: there is no fix; the nearest is fixed" live KERNEL=fix
	asked_wrong "KERNEL=get-arond: there is no get-arond; the nearest is get-around" kernel KERNEL=get-arond
	asked_wrong "KERNEL=stock,fixed: there is no stock,fixed" live KERNEL=stock,fixed
	asked_wrong "KERNEL=stock,brokn: there is no brokn; the nearest is broken" victims KERNEL=stock,brokn
	asked_wrong "KERNEL=fixed: there is no fixed; the nearest is debian" repro KERNEL=fixed
	asked_wrong "FORM=ext5: there is no ext5; the nearest is 4k (there are 4k, 1k, " stress FORM=ext5
	asked_wrong "BESIDE=realtme: there is no realtme; the nearest is realtime" live BESIDE=realtme
	asked_wrong "PART=rases: there is no rases; the nearest is races" matrix PART=rases
	asked_wrong "ONLY=stock,wait-lop: there is no wait-lop; the nearest is wait-loop" matrix ONLY=stock,wait-lop
	asked_wrong "ONLY=swapn: there is no swapn; the nearest is swapon" victims ONLY=swapn
	asked_wrong "CONFIG_VARIANT=kcsn: there is no kcsn; the nearest is kcsan" soak CONFIG_VARIANT=kcsn
	asked_wrong "CONFIG_VARIANT=none: there is no none" soak CONFIG_VARIANT=none
	asked_wrong "DURATION=ten: a whole number from 1 to 999999 is wanted; the nearest is DURATION=30" soak DURATION=ten
	asked_wrong "the nearest is DURATION=1" stress DURATION=0
	asked_wrong "the nearest is DURATION=10" stress DURATION=-3
	asked_wrong "the nearest is CPUS=1" live CPUS=0
	asked_wrong "from 1 to 16 is wanted; the nearest is JOBS=16" test JOBS=99
	asked_wrong "the nearest is MEMORY=3G" stress MEMORY=3gb
	asked_wrong "the nearest is MEMORY=1G" stress MEMORY=lots
	asked_wrong "WAKEWATCH=yes: there is no yes" xfstests WAKEWATCH=yes
	asked_wrong "FRESH=2: there is no 2; the nearest is 1" matrix FRESH=2
	asked_wrong "LINUX=$d/none: no such directory" repro LINUX="$d/none"
	asked_wrong "EXCLUDE=$d/none: no such file" xfstests EXCLUDE="$d/none"
	asked_wrong "FORM=none: there is no none; the nearest is 4k" stress FORM=none
	asked_wrong "DISK=scsi: there is no scsi; the nearest is loop (there are loop, virtio, 9p)" run DISK=scsi
	asked_wrong "PROG=$d/none.c: no such file" run PROG="$d/none.c"
	make_env_is_asked
	asked_right run CMD='true; false' FORM=none DISK=virtio ROUNDS=3 DELAY=auto
	asked_right repro
	asked_right repro KERNEL=debian LINUX="$d"
	asked_right setup test JOBS=1
	asked_right kernel KERNEL=mutant-wake-tail
	asked_right stress DURATION=010 FORM=btrfs MEMORY=2048M DELAY='where=after-clear us=20000 every=50'
	asked_right victims KERNEL=stock,read-wait-loop
	asked_right victims CONFIG_VARIANT=none ONLY=swapon,proc-mem
	asked_right matrix ONLY=stock,get-around PART=price FRESH=1 WAKEWATCH_CACHE="$d/a-cache's"
	asked_right help
	asked_right KERNEL=broken
	return "$REFUSED_WRONG"
}

# What comes by the environment counts where the verb takes it, and only there.
make_env_is_asked() {
	local out
	out=$(env -i PATH="$PATH" HOME="$HOME" DURATION=ten make -n soak 2>&1) || true
	[[ $out == *"DURATION=ten: a whole number"* ]] || {
		echo "DURATION=ten in the environment: $out"
		REFUSED_WRONG=1
	}
	env -i PATH="$PATH" HOME="$HOME" DURATION=ten make -n repro >/dev/null || REFUSED_WRONG=1
}

# verbs_agree MAKEFILE: the verbs, what they take, and what that is by default are told once, and right.
verbs_agree() {
	local phony told taken known everywhere verb script name default has lost=0
	phony=$(sed -n 's/^\.PHONY: //p' "$1" | tr ' ' '\n' | sort)
	told=$(sed -n 's/^\([a-z][a-z-]*\):[^#]*## .*/\1/p' "$1" | sort)
	diff <(echo "$phony") <(echo "$told") || {
		echo "$1: .PHONY (<) and the verbs with ## (>) differ"
		lost=1
	}
	taken=$(sed -n 's/.*## .*\[\(.*\)\]$/\1/p' "$1" | grep -oE '[A-Z_]+=' | tr -d = | sort -u)
	known=$(sed -n "/^VARIABLES='/,/^'/p" scripts/asked.sh | awk '/^[A-Z_]+ / { print $1 }' | sort)
	everywhere=$(sed -n "s/^EVERYWHERE='\(.*\)'$/\1/p" scripts/asked.sh | tr ' ' '\n')
	diff <(printf '%s\n' "$taken" "$everywhere" | sort -u) <(echo "$known") || {
		echo "what verbs take ($1, <) and the variables of scripts/asked.sh (>) differ"
		lost=1
	}
	# Where a script knows what a variable is without being said, the help has the same.
	while read -r verb script; do
		while IFS='=' read -r name default; do
			has=$(sed -n "s/^$name=\${$name:-\(.*\)}\$/\1/p" "scripts/$script")
			[[ -z $has || $has == "$default" || $has == "\$OWN/${default##*/}" ]] || {
				echo "$1: $verb has $name=$default, and scripts/$script $name=$has"
				lost=1
			}
		done < <(sed -n "s/^$verb:.*\[\(.*\)\]$/\1/p" "$1" | grep -oE "[A-Z_]+=('[^']*'|[^ ]*)" | tr -d "'")
	done < <(awk -F: '/^[a-z-]+:/ { verb = $1 } match($0, /\$\(S\)\/[a-z]+\.sh/) { print verb, substr($0, RSTART + 5, RLENGTH - 5) }' "$1")
	return "$lost"
}

# disagrees SED-EXPRESSION: the Makefile with that done to it is found wrong. Else the test tests nothing.
disagrees() {
	sed "$1" Makefile >"$SCRATCH/Makefile"
	if cmp -s Makefile "$SCRATCH/Makefile" || verbs_agree "$SCRATCH/Makefile" >/dev/null; then
		echo "a Makefile with this done to it passes: $1"
		return 1
	fi
}

check_verbs_agree() {
	local name help
	verbs_agree Makefile
	help=$(scripts/asked.sh --help)
	for name in BESIDE FORM PART; do
		grep -qE "^  $name .*: [a-z0-9_-]+, [a-z0-9]" <<<"$help" || {
			echo "no script says what there is of $name (NAME=\$NAME: there are ...)"
			return 1
		}
	done
	scratch_dir
	disagrees 's/^\(soak:.*\)##/\1/'
	disagrees 's/^\.PHONY: help /&rubbish /'
	disagrees 's/CYCLES=2000\]/CYCLS=2000]/'
	disagrees 's/DURATION=10 FORM=4k/DURATION=11 FORM=4k/'
}

# kvm_says SAID CPUINFO DEVICE QEMU: what doctor.sh makes of a machine with these.
kvm_says() {
	local out
	out=$(bash -c '. "$PWD/scripts/doctor.sh"; BIOS_SECONDS=1; kvm "$@"' scripts/doctor.sh "${@:2}") || true
	[[ $out == "$1"* ]] || {
		echo "KVM with ${*:2}: $out, and not: $1"
		return 1
	}
}

# Places where nothing can be built: each script says so in a line, and changes nothing.
check_places_refused() {
	local script out status
	scratch_dir
	mkdir "$SCRATCH/a home" "$SCRATCH/a clone"
	cp -r scripts "$SCRATCH/a clone/"
	for script in setup kernel lab run; do
		status=0
		out=$(env -u WAKEWATCH_CACHE -u XDG_CACHE_HOME HOME="$SCRATCH/a home" "scripts/$script.sh" 2>&1) || status=$?
		one_line "$script.sh, HOME" "$status" "$out" "the cache's path"
		status=0
		out=$("$SCRATCH/a clone/scripts/$script.sh" 2>&1) || status=$?
		one_line "$script.sh, clone" "$status" "$out" "the clone's path"
	done
	[[ -z $(ls -A "$SCRATCH/a home") ]] || {
		echo "something was made in HOME"
		return 1
	}
}

check_doctor() {
	local d verb kernels status=0 out before seconds guess
	scratch_dir
	d=$SCRATCH
	echo 'flags : fpu vme' >"$d/plain"
	echo 'flags : fpu vmx' >"$d/vmx"
	: >"$d/device"
	for verb in runs hangs aborts; do printf '#!/bin/sh\n' >"$d/$verb"; done
	echo 'echo "Attempting a hard reboot"' >>"$d/runs"
	echo 'exec sleep 60' >>"$d/hangs"
	echo 'echo "error: failed to set MSR 0x48f" >&2; exit 1' >>"$d/aborts"
	chmod +x "$d"/runs "$d"/hangs "$d"/aborts
	kvm_says "no, the CPU has no vmx or svm" "$d/plain" "$d/device" "$d/runs"
	kvm_says "no, there is no $d/none" "$d/vmx" "$d/none" "$d/runs"
	kvm_says "perhaps" "$d/vmx" "$d/device" "$d/none"
	kvm_says "yes: a BIOS ran" "$d/vmx" "$d/device" "$d/runs"
	kvm_says "no, $d/device opens, but" "$d/vmx" "$d/device" "$d/hangs"
	kvm_says "no, $d/device opens, but a BIOS does not come to its end in it: error: failed to set MSR" "$d/vmx" "$d/device" "$d/aborts"
	# It knows the kernels of the Makefile's verbs.
	kernels=$(bash -c '. "$PWD/scripts/doctor.sh"; kernels_of repro | xargs; kernels_of soak; kernels_of live; kernels_of test | grep -c mutant-' scripts/doctor.sh)
	[[ $kernels == $'stock broken fixed read-ref-if-waiters\nfixed\nstock\n'"$(find tests/mutants/6.12 -name series | wc -l)" ]] || {
		echo "kernels of repro, soak, live, and mutants of test: $kernels"
		return 1
	}
	sed -n "/^VERBS='/,/^'/p" scripts/doctor.sh | awk '/^[a-z]/ { print $1 }' | while read -r verb; do
		grep -q "^$verb:.*##" Makefile || {
			echo "doctor.sh knows a verb $verb"
			exit 1
		}
	done
	# What a verb took here is a better guess than ours.
	for seconds in 61.5 615.5; do
		mkdir -p "$d/kept/runs/$seconds-test"
		printf '{\n  "suites": [\n    {\n      "seconds": 4000.1\n    }\n  ],\n  "seconds": %s,\n}\n' "$seconds" >"$d/kept/runs/$seconds-test/result.json"
	done
	guess=$(WAKEWATCH_CACHE=$d/kept bash -c '. "$PWD/scripts/doctor.sh"; CORES=2; verb_line test 28; verb_line repro 3' scripts/doctor.sh)
	[[ $guess == *' 11 min of guests, as the longest here'$'\n'*' 3 min of guests' ]] || {
		echo "guessed: $guess"
		return 1
	}
	# It changes nothing: not even the cache is made.
	before=$(git status --porcelain)
	mkdir "$d/home"
	out=$(env -i PATH="$PATH" HOME="$d/home" make --no-print-directory doctor 2>&1) || status=$?
	[[ -z $(ls -A "$d/home") && $(git status --porcelain) == "$before" ]] || {
		echo "doctor has left something"
		return 1
	}
	# There is no virtme-ng in that cache, so something is missing.
	[[ $status == 2 && $out == *"virtme-ng"* && $out == *"KVM  "* && $out == *"repro "* ]] || {
		echo "status $status: $out"
		return 1
	}
}

# ---------------------------------------------------------------- patches

# Nothing of the user's git may change what happens here.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=lab GIT_AUTHOR_EMAIL=lab@localhost GIT_COMMITTER_NAME=lab GIT_COMMITTER_EMAIL=lab@localhost

# All series, whichever the kernels are of.
every_series() {
	find patches -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' | sort -V
}

# Each by its own source, or by the tree of LINUX that is nearest to it; without either it is a skip.
source_of() { # SERIES
	if [[ -n ${LINUX:-} && $1 == "$TREE_SERIES" ]]; then return; fi
	unset LINUX
	compgen -G "/usr/src/linux-source-$1*.tar.xz" >/dev/null || {
		echo "no source of $1 here: make setup SERIES=$1"
		return 4
	}
	export SERIES=$1
}

# What a check of a patch depends on besides the patch.
PATCH_TOOLS=$(git --version; quilt --version; patch --version; perl --version; sha <scripts/check.sh; sha <scripts/kernel.sh)
source_and_tools() {
	[[ -n ${LINUX:-} ]] || stat -c '%n %s %Y' /usr/src/linux-source-"$SERIES"*.tar.xz
	echo "$PATCH_TOOLS"
}

kernel_keys() { # SERIES
	local series name
	for series in patches/"$1"/*/series; do
		name=$(basename "$(dirname "$series")")
		case $name in
		regress) echo broken ;;
		fix) echo fixed ;;
		'*') ;; # no series at all
		*) echo "$name" ;;
		esac
	done
	SERIES=$1 scripts/kernel.sh --mutants | tr ' ' '\n'
}

# Two ways of applying, as two kinds of people do it, on a small repository of
# the files concerned; both must give the same.
check_applies() { # SERIES KEY
	local key=$2 patches quilt_dir
	source_of "$1"
	scratch_dir
	patches=$(scripts/kernel.sh --patches "$key")
	[[ -n $patches ]] || {
		echo "the series is empty"
		return 1
	}
	if passed_before applies "$(source_and_tools)" "$(xargs cat <<<"$patches" | sha)"; then return; fi
	scripts/kernel.sh --pristine "$SCRATCH/git" "$key"
	quilt_dir=$SCRATCH/quilt
	cp -r "$SCRATCH/git" "$quilt_dir"
	# quilt wants one directory; the stack of series becomes one there.
	mkdir "$SCRATCH/patches"
	while read -r f; do
		cp "$f" "$SCRATCH/patches/$(sha <"$f")-${f##*/}"
		echo "$(sha <"$f")-${f##*/}" >>"$SCRATCH/patches/series"
	done <<<"$patches"

	cd "$SCRATCH/git"
	git init -q -b stock
	git add -A
	git commit -q --allow-empty -m stock
	while read -r f; do git am -q "$f"; done <<<"$patches"
	rm -rf .git

	cd "$quilt_dir"
	QUILT_PATCHES="$SCRATCH/patches" QUILT_PC="$SCRATCH/pc" quilt --quiltrc - push -a --fuzz=0
	diff -r "$SCRATCH/git" "$quilt_dir"
	remember_pass
}

check_checkpatch() { # SERIES, PATCH or source FILE.c
	local tree option=()
	source_of "$1"
	[[ $2 != *.c ]] || option=(--file)
	if passed_before checkpatch "$(source_and_tools)" "$(sha <"$2")"; then return; fi
	tree=$(scripts/kernel.sh --tree)
	# Not from the clone: where there is a .git, checkpatch takes a committed patch
	# for a source file.
	cd "$tree"
	# MISSING_SIGN_OFF: a person signs a patch off when sending it, and nobody
	# has yet. UNKNOWN_COMMIT_ID: the source package has no history to look in.
	perl scripts/checkpatch.pl --strict --color=never --ignore MISSING_SIGN_OFF,UNKNOWN_COMMIT_ID "${option[@]}" -- "$WW_ROOT/$2"
	remember_pass
}

# A patch that two series share is kept in the older one's directory, and the newer one's series names it.
check_not_twice() {
	local twice
	twice=$(find patches tests/mutants -name '*.patch' -exec sha256sum {} + | sort | uniq -w 64 -D | sed 's/^[^ ]* *//')
	[[ -z $twice ]] || {
		printf 'kept more than once:\n%s\n' "$twice"
		return 1
	}
}

# Not a few: what one version has, the others have, unless its series says `# only here: REASON'.
check_series_whole() {
	local dir lost
	for dir in patches tests/mutants; do
		lost=$(for series in $(every_series); do (cd "$dir/$series" &&
			find . -name series ! -exec grep -q '^# only here: .' {} \; -printf '%h\n'); done |
			sort | uniq -c | awk -v all="$(every_series | wc -l)" '$1 != all { print $2 }')
		[[ -z $lost ]] || {
			printf 'in %s, and not of every version:\n%s\n' "$dir" "$lost"
			return 1
		}
	done
}

# ---------------------------------------------------------------- the list

check "shell scripts: shellcheck" check_shell
check "every file has its licence line" check_spdx
check "module: rustfmt" check_module_style
check "module: clippy, with the kernel's lints" check_module_lints
check "tests: rustfmt" cargo fmt --all --check --manifest-path "$MANIFEST" -- --color never
check "tests: clippy" check_tests_lints
check "decision logic: tests on the host" cargo test --quiet --locked -p wakewatch-host --manifest-path "$MANIFEST" -- --skip reference:: --skip documents::
check "documents: the reference and the code have the same names and defaults" cargo test --quiet --locked -p wakewatch-host --manifest-path "$MANIFEST" reference::
check "documents: links, commands, verdicts, and a front page" cargo test --quiet --locked -p wakewatch-host --manifest-path "$MANIFEST" documents::
check "lock-free structures: every interleaving (loom)" check_loom
check "proposals: every interleaving (stateright)" check_proposals
check "lab and reproducer: unit tests" cargo test --quiet --locked -p findings -p lab -p ww-repro --manifest-path "$MANIFEST"
check "results page: in a browser" check_page_in_browser
check "module: what it can't be built against is refused in a line" check_module_refuses
check "kernels: a tree that the patches are not for is refused in a line" check_kernel_refuses
check "make: what there is not is refused in a line, with the nearest" check_asked_refuses
check "make: verbs, variables and defaults are the same in Makefile and scripts" check_verbs_agree
check "make doctor: tells, and changes nothing" check_doctor
check "tmt: plans are in order, and one runs" check_tmt
check "a path with a space is refused in a line" check_places_refused
TREE_SERIES=$(scripts/kernel.sh --series)
check "patches: none is kept twice" check_not_twice
check "patches: every version has every series" check_series_whole
for series in $(every_series); do
	for key in $(kernel_keys "$series"); do
		check "patches: $key of $series applies (git am, quilt)" check_applies "$series" "$key"
	done
	for file in patches/"$series"/*/*.patch patches/"$series"/*/repro/*.c tests/mutants/"$series"/*/*.patch; do
		[[ ! -f $file ]] || check "checkpatch: ${file#patches/}" check_checkpatch "$series" "$file"
	done
done
run_checks
