#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: doctor.sh
#
# What of this machine the lab needs: what is there, what is missing and how to get it, whether KVM works,
# and what the verbs will take of time and disk. It needs nothing that `make setup` installs, and it changes
# nothing. Exit status 1 if something is missing.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

# What a kernel takes, in minutes of one core: from nothing, and one that differs by some files. Megabytes: of
# the source with everything that was built in it, and of what is kept of each kernel with its module.
FIRST_MINUTES=28 NEXT_MINUTES=3
TREE_MB=2800 KERNEL_MB=350
# What `make setup` puts into the cache, with what cargo builds, and what a run leaves there.
TOOLS_MB=900 RUN_MB=100

# Minutes of guests on two cores without KVM, where none has run yet; - is what DURATION says.
VERBS='
repro      3
test      15
bench      3
soak       -
stress     -
live       -
xfstests  10
matrix    30
'

# ---------------------------------------------------------------- KVM

# It takes one where KVM works.
BIOS_SECONDS=20

# kvm CPUINFO DEVICE QEMU: does it work? One line, and 1 if not.
kvm() {
	local said before=$SECONDS
	if ! grep -qE '^flags.*\<(vmx|svm)\>' "$1"; then
		echo "no, the CPU has no vmx or svm, or hides it (in a virtual machine: nested virtualisation is off)"
	elif [[ ! -e $2 ]]; then
		echo "no, there is no $2 (modprobe kvm_intel or kvm_amd; in a container: the device is not passed on)"
	elif [[ ! -r $2 || ! -w $2 ]]; then
		echo "no, $2 is not yours to open (usermod -aG kvm $(id -un), then log in again)"
	elif ! command -v "$3" >/dev/null; then
		echo "perhaps: there is no $3 to try it with"
	else
		# It opens on some machines, and the guest hangs. The BIOS is the smallest guest there is: without a disk
		# it says so, and resets, which ends QEMU.
		said=$(timeout "$BIOS_SECONDS" "$3" -accel kvm -m 64M -nodefaults -no-user-config -display none -no-reboot -boot reboot-timeout=1 \
			-chardev stdio,id=bios -device isa-debugcon,iobase=0x402,chardev=bios </dev/null 2>&1) || true
		if [[ $said == *'hard reboot'* ]]; then
			echo "yes: a BIOS ran to its end in $((SECONDS - before)) s"
			return 0
		fi
		echo "no, $2 opens, but a BIOS does not come to its end in it: $(grep -v '^$' <<<"$said" | tail -n 1)"
	fi
	return 1
}

# ---------------------------------------------------------------- the verbs

kernel_keys() { "$WW_ROOT/scripts/kernel.sh" --keys | tr ' ' '\n'; }

# kernels_of VERB: those that its recipe in the Makefile names, or what KERNEL= is by default.
kernels_of() {
	local recipe
	case $1 in
	bench) echo stock-btf && return ;;
	matrix) echo stock broken "$("$WW_ROOT/scripts/kernel.sh" --proposals)" | tr ' ' '\n' && return ;;
	esac
	recipe=$(awk -v verb="$1:" '$1 == verb { on = 1; print; next } /^[^\t]/ { on = 0 } on' "$WW_ROOT/Makefile")
	{
		# The last one named: before it may be another KERNELS= for somebody's KERNEL=.
		grep -oE "KERNELS=('[^']*'|\"[^\"]*\"|[a-z]+)" <<<"$recipe" | tail -n 1 | sed "s/^KERNELS=//;s/[\"']//g;s/\\$.*//" || true
		[[ $recipe != *--mutants* ]] || kernel_keys | grep '^mutant-'
		grep -q KERNELS= <<<"$recipe" || sed -n 's/.*\[.*\<KERNEL=\([a-z]*\).*/\1/p' <<<"$recipe"
	} | tr ' ' '\n' | sed '/^$/d'
}

missing_kernels() { # VERB
	kernels_of "$1" | while read -r key; do compgen -G "$WW_CACHE/kernels/$key-[0-9a-f]*" >/dev/null || echo "$key"; done
}

minutes() { # MINUTES
	if (($1 < 100)); then echo "$1 min"; else echo "$(($1 / 60)) h $(($1 % 60)) min"; fi
}

# longest VERB: of those of its runs that are kept here, in minutes; nothing if there is none.
longest() {
	local file
	for file in "$WW_CACHE/runs/"*"-$1/result.json"; do
		# The lab's own JSON has a line for each; that of the whole is the least indented.
		[[ ! -e $file ]] || sed -n '/^  "seconds": /{s/.*: \([0-9]*\).*/\1/p;q}' "$file"
	done | sort -n | awk 'END { if (NR) print int(($1 + 59) / 60) }'
}

verb_line() { # VERB GUEST-MINUTES
	local all missing build disk=$RUN_MB guest=$2 what kept
	all=$(kernels_of "$1" | grep -c . || true)
	missing=$(missing_kernels "$1" | grep -c . || true)
	build=0
	if ((missing)); then
		build=$((NEXT_MINUTES * missing))
		disk=$((disk + KERNEL_MB * missing))
		# Of a source that nothing was built in yet. The variant of the bench has a tree of its own, and twice the work.
		if [[ $1 == bench ]] || ! compgen -G "$WW_CACHE/kernels/*" >/dev/null; then
			build=$((build - NEXT_MINUTES + FIRST_MINUTES))
			[[ $1 != bench ]] || build=$((build + FIRST_MINUTES))
			disk=$((disk + TREE_MB))
		fi
	fi
	[[ -d $WW_CACHE/tools ]] || disk=$((disk + TOOLS_MB))
	build=$(((build + CORES - 1) / CORES))
	what="$(minutes "$build") of builds, "
	((build)) || what=
	if [[ $guest == - ]]; then
		what+="and as long as DURATION says"
	else
		kept=$(longest "$1")
		what+="$(minutes "${kept:-$guest}") of guests${kept:+, as the longest here}"
	fi
	printf '  %-9s %2d of %2d kernels to build, %5d MB, %s\n' "$1" "$missing" "$all" "$disk" "${what#and }"
}

# ---------------------------------------------------------------- all of it

doctor() {
	local PRETTY_NAME='no /etc/os-release' missing packages tools wrong=0 place=$WW_CACHE verb guest line
	# shellcheck source=/dev/null
	[[ ! -r /etc/os-release ]] || . /etc/os-release
	CORES=$(nproc)
	echo "machine   $PRETTY_NAME, $(uname -m), $CORES CPUs, $(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo) MB of memory available (a guest takes 1 to 3 GB)"
	if missing=$("$WW_ROOT/scripts/setup.sh" --missing 2>&1); then
		packages=$(grep $'^\t' <<<"$missing" | cut -c2-) || true
		tools=$(grep -v $'^\t' <<<"$missing" | grep .) || true
		if [[ -n $packages ]]; then
			wrong=1
			echo "packages  $(grep -c . <<<"$packages") are missing; sudo make packages installs them:"
			while IFS= read -r line; do printf '            %s\n' "$line"; done <<<"$packages"
		else
			echo "packages  all there"
		fi
		if [[ -n $tools ]]; then
			wrong=1
			echo "tools     missing: $(paste -sd , <<<"$tools" | sed 's/,/, /g'); make setup puts them into the cache"
		else
			echo "tools     all there"
		fi
	else
		wrong=1
		echo "packages  ${missing#*: }"
	fi
	if line=$(kvm /proc/cpuinfo /dev/kvm qemu-system-x86_64); then
		echo "KVM       $line; the lab boots a kernel with it to be sure"
	else
		echo "KVM       $line. Everything runs without, only slower"
	fi
	while [[ ! -d $place ]]; do place=$(dirname "$place"); done
	echo "cache     $WW_CACHE (make cache says how large it is); $(df -Pm "$place" | awk 'NR == 2 { print $4 }') MB are free there"
	echo
	echo "About what the verbs take, with what is in the cache now:"
	while read -r verb guest; do [[ -z $verb ]] || verb_line "$verb" "$guest"; done <<<"$VERBS"
	return "$wrong"
}

# Its test sources it.
[[ ${BASH_SOURCE[0]} != "$0" ]] || doctor
