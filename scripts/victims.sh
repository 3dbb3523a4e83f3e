#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: [KERNEL=stock,KEY ONLY=NAME,NAME CONFIG_VARIANT=filesystems|none] victims.sh [--check]
#
# Who is hurt by the live read race: on the kernel as it ships each victim must come to a wrong answer, and on any
# other none. Several kernels are set side by side, to show whom each fix saves. tests/guest/victims.sh is the
# guest's part. What is asked for, and the programs that make the file systems, are looked at before anything is
# built; --check ends there.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

case ${1:-} in
'' | --check) ;;
*) die "usage: victims.sh [--check]" ;;
esac

read -r -a keys <<<"$(tr ',' ' ' <<<"${KERNEL:-stock}")"
((${#keys[@]})) || die "KERNEL=$KERNEL names no kernel"
# `none` is a kernel without the file systems.
export CONFIG_VARIANT=${CONFIG_VARIANT:-filesystems}
[[ $CONFIG_VARIANT != none ]] || CONFIG_VARIANT=
# The programs of the victims' file systems, by Debian 13's package.
declare -A PACKAGES=([minix]=util-linux-extra [ext2]=e2fsprogs [nilfs2]=nilfs-tools [f2fs]=f2fs-tools [erofs]=erofs-utils
	[xfs]=xfsprogs [gfs2]=gfs2-utils)

known=$(sed -n '/^all="/,/"$/p' "$WW_ROOT/tests/guest/victims.sh" | sed 's/^all=//' | tr -d '"' | xargs)
for name in $(tr ',' ' ' <<<"${ONLY:-$known}"); do
	[[ " $known " == *" $name "* ]] || die "ONLY=$ONLY: no victim $name; there are $known"
	type=${name%%-*}
	package=${PACKAGES[$type]:-}
	if [[ -n $package && " ${missing:-} " != *" $package "* ]] && ! command -v "mkfs.$type" >/dev/null; then
		missing+=" $package"
	fi
done
[[ -z ${missing:-} ]] || die "these packages are wanted:$missing (apt-get install$missing)"
for key in "${keys[@]}"; do
	"$WW_ROOT/scripts/kernel.sh" --patches "$key" >/dev/null
done
[[ ${1:-} != --check ]] || exit 0

args=(--kernel "$(tr ' ' ',' <<<"${keys[*]}")")
[[ -z ${ONLY:-} ]] || args+=(--only "$ONLY")
KERNELS="${keys[*]}" exec "$WW_ROOT/scripts/lab.sh" victims "${args[@]}"
