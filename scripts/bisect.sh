#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: bisect.sh
#
# A test of `make run` as the judge of a bisection, by itself: a git history of the kernel's source in which one
# commit of seven brings the bug back, and the others have nothing to do with it. `git bisect run` must find
# that one. Takes a kernel from nothing and three more that differ from it by a patch or two.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

# Whose patches are the commits, in this order; the culprit's is among them.
SERIES=(warn-unlocked-start readahead-holds-ref regress warn-zero-count read-lock)
CULPRIT=regress
PATCHES=$WW_ROOT/patches/6.12
HISTORY=$WW_CACHE/bisect/linux

# Nothing of the user's git may change what happens here.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=lab GIT_AUTHOR_EMAIL=lab@localhost GIT_COMMITTER_NAME=lab GIT_COMMITTER_EMAIL=lab@localhost

source_package() {
	find /usr/src -maxdepth 1 -name 'linux-source-6.12*.tar.xz' | sort -V | tail -n 1
}

# The source as it ships, and a commit for each patch.
make_history() { # DIR
	local series patch
	tar -C "$1" --strip-components=1 -xf "$SOURCE"
	cd "$1"
	git init -q -b main
	# In Debian's package .gitignore ignores everything.
	git add -A -f
	git commit -q -m "the source as it ships"
	git tag good
	for series in "${SERIES[@]}"; do
		while read -r patch _; do
			git am -q "$PATCHES/$series/$patch"
		done < <(grep -v '^ *\(#\|$\)' "$PATCHES/$series/series")
		[[ $series != "$CULPRIT" ]] || git tag culprit
	done
	git tag bad
}

SOURCE=$(source_package)
[[ -n $SOURCE ]] || die "no /usr/src/linux-source-6.12*.tar.xz; run: make setup"
key=$({
	stat -c '%n %s %Y' "$SOURCE"
	for series in "${SERIES[@]}"; do cat "$PATCHES/$series"/*.patch; done
} | sha)
if [[ $(cat "$HISTORY.key" 2>/dev/null) != "$key" ]]; then
	scratch_dir
	run_logged "a history of ${SOURCE##*/}" "$WW_CACHE/logs/bisect.log" make_history "$SCRATCH"
	publish "$SCRATCH" "$HISTORY"
	echo "$key" >"$HISTORY.key"
fi

cd "$HISTORY"
git bisect reset >/dev/null 2>&1 || true
git bisect start bad good
BISECT=1 KERNEL=stock LINUX=$HISTORY ROUNDS=1 FINDS='unreferenced end of writeback' \
	CMD='dd if=/dev/zero of=file bs=4k count=128 status=none && sync file' git bisect run "$WW_ROOT/scripts/run.sh"
found=$(git log -1 --format=%s refs/bisect/bad)
wanted=$(git log -1 --format=%s culprit)
git bisect log | grep '^# ' | sed 's/^# /  /'
git bisect reset >/dev/null 2>&1
[[ $found == "$wanted" ]] || die "found '$found', and it was '$wanted'"
echo "found: $found"
