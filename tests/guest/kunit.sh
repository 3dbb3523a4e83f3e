#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The doctests of the kernel's own Rust, those of patches/7.3/rust-hooks among them, have run at boot; and wakewatch
# hooks by what that has, and has no bindings of its own for it.
#
# kernel: rust-hooks
# timeout: 60

# Functions are run by check().
# shellcheck disable=SC2317

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

# Results of single doctests: "ok 12 rust_doctest_kernel_kprobe_rs_0".
results() {
	dmesg | sed -n 's/^\[[^]]*\] *\(\(not \)\?ok [0-9]* rust_doctest_kernel_.*\)/\1/p'
}

all_pass() {
	[ -n "$(results)" ] || { echo "none has run: CONFIG_VARIANT=kunit has them"; return 1; }
	! results | grep '^not ok' || return 1
	dmesg | grep -q '\] ok [0-9]* rust_doctests_kernel$'
}

# of FILE: its doctests have passed, none was skipped.
of() {
	results | grep "^ok [0-9]* rust_doctest_kernel_$1_rs_[0-9.]*$" || { results | grep -e "$1" -e '^not'; return 1; }
}

# Functions of its generic types are in the module, under their Rust names.
hooks_are_the_kernels() {
	local names
	names=$(nm "$WW_KO")
	! echo "$names" | grep -m 1 hook3own || return 1
	for what in 6kprobe 6fprobe 6ftrace 10tracepoint5probe; do
		echo "$names" | grep -m 1 "6kernel$what" || { echo "nothing of $what"; return 1; }
	done
}

plan 6
check "the kernel's doctests pass" all_pass
for what in kprobe fprobe ftrace tracepoint_probe; do
	check "that of $what is among them" of "$what"
done
check "wakewatch has its hooks of the kernel crate" hooks_are_the_kernels
diag "$(results | grep -c '^ok') of $(results | wc -l) doctests pass"
finish
