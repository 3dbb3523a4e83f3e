#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: cache.sh [--remove]
#
# Prints the cache's place and size; with --remove it is gone afterwards.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

echo "cache: $WW_CACHE, $(cache_size)"
if [[ ${1:-} == --remove && -d $WW_CACHE ]]; then
	# Only what this project made: WAKEWATCH_CACHE may be a directory with more in it.
	take_build_lock
	(cd "$WW_CACHE" && rm -rf tools apt src config kernels modules target programs xfstests matrix bisect checks runs logs tmp findings.jsonl kernels.jsonl build.lock cargo.lock)
	rmdir --ignore-fail-on-non-empty "$WW_CACHE"
	echo "removed"
fi
