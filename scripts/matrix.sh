#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: [SERIES=6.12] [ONLY=KEY,KEY...] [PART=races|alarms|stress|price|reads] [FRESH=1] matrix.sh
#
# Builds the kernel of each proposal, and has the lab run the same races on all of them, try their
# assertions, stress them, and count what each costs; and the second table, of the fixes for the end of a
# read (PART=reads). A series that does not apply is named, with its hunk, and the others go on; the exit
# status tells. Without ONLY all of patches/SERIES that PART is about, and the kernel as it ships.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

patches=patches/$("$WW_ROOT/scripts/kernel.sh" --series)
if [[ -n ${ONLY:-} ]]; then
	read -r -a keys <<<"${ONLY//,/ }"
else
	series=$("$WW_ROOT/scripts/kernel.sh" --proposals | tr ' ' '\n')
	# What is about the end of a read is called so, and has a table of its own.
	case ${PART:-} in
	'') series=$(printf '%s\n' broken "$series") ;;
	reads) series=$(grep '^read' <<<"$series") ;;
	*) series=$(printf '%s\n' broken "$series" | grep -v '^read') ;;
	esac
	mapfile -t keys <<<"$(printf '%s\n' stock "$series")"
fi
((${#keys[@]})) || die "ONLY=$ONLY names no proposal"
for key in "${keys[@]}"; do
	[[ $key =~ ^[a-z0-9-]+$ ]] || die "ONLY=$ONLY: proposals are named by their directories in $patches, with commas between them"
	case $key in
	stock | broken) ;;
	*) [[ -f $WW_ROOT/$patches/$key/series ]] || die "ONLY: no proposal $key in $patches" ;;
	esac
done

case ${PART:-} in
'' | races | alarms | stress | price | reads) ;;
*) die "PART=$PART: there are races, alarms, stress, price and reads" ;;
esac

built=()
args=()
for key in "${keys[@]}"; do
	if kernel=$("$WW_ROOT/scripts/kernel.sh" "$key"); then
		if [[ -z ${PART:-} || ${PART:-} == price || ${PART:-} == reads ]]; then
			bench=$("$WW_ROOT/scripts/bench.sh" --modules "$kernel/kdir")
			export "WW_BENCH_${key//-/_}=$bench" # names of variables have no dashes
		fi
		built+=("$key")
		args+=("$key")
	else
		echo "matrix: $key can't be built; going on with the rest" >&2
		args+=(--failed "$key")
	fi
done
((${#built[@]})) || die "none of the kernels could be built"
[[ -z ${FRESH:-} ]] || args+=(--fresh)
[[ -z ${PART:-} ]] || args+=(--part "$PART")
KERNELS="${built[*]}" "$WW_ROOT/scripts/lab.sh" matrix "${args[@]}"
