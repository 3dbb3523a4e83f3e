#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The doctests of the kernel's own Rust, those of patches/7.3/rust-hooks among them, have run at boot.
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

plan 3
check "the kernel's doctests pass" all_pass
check "that of kprobe.rs is among them" of kprobe
check "that of fprobe.rs is among them" of fprobe
diag "$(results | grep -c '^ok') of $(results | wc -l) doctests pass"
finish
