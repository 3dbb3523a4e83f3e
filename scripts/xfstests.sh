#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: XFSTESTS=TREE [KERNEL=fixed TESTS="quick wakewatch" FORM=4k WAKEWATCH=1 LIMIT=600 MINUTES=90
#        MEMORY=3G EXCLUDE=FILE SHARD=K/N] xfstests.sh [--check | --args]
#        xfstests.sh --image
#        A=RUN B=RUN xfstests.sh --compare
#        RUNS='RUN...' xfstests.sh --merge
#
# Runs a built xfstests tree on ext4 (or another file system) on loop devices on shmem huge pages, with
# wakewatch loaded, in a guest. All of it is checked before anything is built or booted; --check ends
# there, and --args, with both images made, where it would boot. --image makes the guest's root image
# alone, which is the part that needs root; --compare compares two runs, --merge makes one of
# those that were parts, with SHARD=. tests/guest/xfstests.sh is the
# guest's part, tests/lab/src/xfstests.rs the rest.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=wants.sh
. "$(dirname "$0")/wants.sh"

OWN=$WW_ROOT/tests/xfstests
IMAGES=$WW_CACHE/xfstests
# Raise it when images are made in another way than before.
RECIPE=1
# What a run takes of the cache's disk: two images made, their directory, and room for results.
DISK_MB=${DISK_MB:-4096}

# ---------------------------------------------------------------- the root image

# One package a line, and what it is for; of the distribution that runs here, because the tree's
# programs are linked against its libraries.
ROOT_COMMON="
acl             tests of access control lists
attr            of extended attributes
bc              xfstests' arithmetic
btrfs-progs     FORM=btrfs
bsdextrautils   hexdump, column
dbench          a load
e2fsprogs       mkfs.ext4, fsck
fio             a load
gawk            xfstests
hostname        xfstests
libcap2-bin     setcap
liburing2       of the tree's programs
libuuid1        the same
kmod            lsmod
mount           mount, losetup
perl            xfstests
procps          ps, pgrep, sysctl
psmisc          fuser, killall
python3-minimal some tests
quota           tests of quotas
util-linux      findmnt, blockdev, su
uuid-runtime    uuidgen
xfsdump         FORM=xfs
xfsprogs        xfs_io, which most tests need; FORM=xfs
"
# shellcheck disable=SC2034  # used by name
ROOT_bookworm="
libaio1         of the tree's programs
libgdbm6        the same
libgdbm-compat4 the same
"
# shellcheck disable=SC2034  # used by name
ROOT_trixie="
libaio1t64      of the tree's programs
libgdbm6t64     the same
libgdbm-compat4t64 the same
"

codename() {
	local ID='' VERSION_CODENAME=''
	# shellcheck source=/dev/null
	[[ ! -r /etc/os-release ]] || . /etc/os-release
	case $ID:$VERSION_CODENAME in
	debian:bookworm | debian:trixie) echo "$VERSION_CODENAME" ;;
	*) die "a root image can be made on Debian 12 and 13 only" ;;
	esac
}

root_packages() { # CODENAME
	local table=ROOT_$1
	printf '%s\n' "$ROOT_COMMON" "${!table}" | awk 'NF { print $1 }'
}

root_image() { # prints where it is, or is to be
	local code
	code=$(codename)
	echo "$IMAGES/root-$code-$({
		echo "$RECIPE"
		root_packages "$code"
		declare -f populate make_image
	} | sha).img"
}

# The mirror that this machine's apt uses.
mirror() { # CODENAME
	# shellcheck disable=SC2016  # apt's own variables
	apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 'Architecture: amd64' |
		awk -v code="$1" '$2 == code && $3 == "main" { print $1; exit }'
}

populate() { # DIR CODENAME MIRROR: what is in the image
	local dir=$1 name id=1000
	# What it mounts is gone when it ends, however it ends.
	unshare --mount debootstrap --variant=minbase --include="$(root_packages "$2" | paste -sd ,)" "$2" "$dir" "$3"
	# The users that tests become. The one that begins with a digit is refused by useradd.
	for name in fsgqa fsgqa2 123456-fsgqa; do
		echo "$name:x:$id:$id::/home/$name:/bin/bash" >>"$dir/etc/passwd"
		echo "$name:*:19000:0:99999:7:::" >>"$dir/etc/shadow"
		echo "$name:x:$id:" >>"$dir/etc/group"
		mkdir -p "$dir/home/$name"
		chown "$id:$id" "$dir/home/$name"
		id=$((id + 1))
	done
	ln -sf /proc/self/mounts "$dir/etc/mtab"
	mkdir -p "$dir/xfstests" "$dir/ww-shm" "$dir/ww-test" "$dir/ww-scratch" "$dir/ww-results"
	rm -rf "$dir/var/cache/apt/"* "$dir/var/lib/apt/lists/"* "$dir/usr/share/doc" "$dir/usr/share/man" \
		"$dir/usr/share/locale" "$dir/debootstrap"
}

make_image() { # DIR IMAGE: without a journal, for it is only read
	local mb
	mb=$(($(du -sm "$1" | cut -f1) * 5 / 4 + 64))
	truncate -s "${mb}M" "$2"
	mke2fs -q -F -t ext4 -O ^has_journal -m 0 -d "$1" "$2"
}

# remove_old PREFIX: images that nobody has used for a day. One that was is perhaps still booted from.
remove_old() {
	[[ ! -d $IMAGES ]] || find "$IMAGES" -name "$1-*.img" -mmin +1440 -delete
}

make_root() { # IMAGE
	local image=$1 code uri
	code=$(codename)
	((EUID == 0)) || die "the root image of the guests is made by debootstrap, as root and once: sudo make xfstests-image WAKEWATCH_CACHE=$WW_CACHE"
	command -v debootstrap >/dev/null || die "no debootstrap; run: make setup"
	uri=$(mirror "$code")
	[[ -n $uri ]] || die "apt-get indextargets names no mirror of $code; run: apt-get update"
	say "xfstests: a root image of Debian $code, made once, with $(root_packages "$code" | paste -sd ' ')"
	scratch_dir
	run_logged "root image: debootstrap" "$WW_CACHE/logs/xfstests-root.log" populate "$SCRATCH/root" "$code" "$uri"
	run_logged "root image" "$WW_CACHE/logs/xfstests-root-image.log" make_image "$SCRATCH/root" "$SCRATCH/image"
	remove_old "root-$code"
	publish "$SCRATCH/image" "$image"
	rm -rf "$SCRATCH"
	# Root may have made it for somebody else.
	chown --reference="$WW_CACHE" "$IMAGES" "$image" "$WW_CACHE/build.lock" "$WW_CACHE/tmp" "$WW_CACHE/logs"
}

# ---------------------------------------------------------------- the tree

# What of a tree is needed at run time. Objects and the history are not.
tree_files() {
	(cd "$TREE" && find . \( -name .git -o -name .libs -o -path ./results \) -prune -o \
		\( -type f -o -type l \) ! -name '*.o' ! -name '*.lo' ! -name '*.a' ! -name '*.la' ! -name local.config -print)
}

tree_image() {
	echo "$IMAGES/tree-$({
		echo "$RECIPE"
		tree_files | LC_ALL=C sort | (cd "$TREE" && tr '\n' '\0' | xargs -0 stat -c '%n %s %Y')
	} | sha).img"
}

copy_tree() { # DIR
	tree_files | rsync -a --files-from=- "$TREE/" "$1/"
}

make_tree() { # IMAGE
	local image=$1
	scratch_dir
	mkdir "$SCRATCH/tree"
	run_logged "copy of the xfstests tree" "$WW_CACHE/logs/xfstests-tree.log" copy_tree "$SCRATCH/tree"
	run_logged "image of the xfstests tree" "$WW_CACHE/logs/xfstests-image.log" make_image "$SCRATCH/tree" "$SCRATCH/image"
	remove_old tree
	publish "$SCRATCH/image" "$image"
	rm -rf "$SCRATCH"
}

# ---------------------------------------------------------------- what is asked for

listed() { # FILE: names, the first word of each line
	awk '!/^#/ && NF { print $1 }' "$1"
}

# expand WORD...: the tests of sets, and names as they are.
expand() {
	local word dir
	for word in "$@"; do
		case $word in
		quick | long) listed "$OWN/$word" ;;
		wakewatch) (cd "$OWN" && printf '%s\n' wakewatch/[0-9][0-9][0-9]) ;;
		auto)
			for dir in generic "$FSTYP"; do
				[[ ! -f $TREE/tests/$dir/group.list ]] || awk -v dir="$dir" \
					'/^[0-9]/ { for (i = 2; i <= NF; i++) if ($i == "auto") print dir "/" $1 }' "$TREE/tests/$dir/group.list"
			done
			;;
		*) echo "$word" ;;
		esac
	done | awk '!seen[$0]++'
}

check_tests() { # sets LIST
	local name missing='' dir words
	read -r -a words <<<"$TESTS"
	LIST=$(expand "${words[@]}")
	[[ -n $LIST ]] || die "TESTS is empty: give quick, long, auto, wakewatch, or names such as generic/029"
	while read -r name; do
		dir=$TREE/tests
		[[ $name != wakewatch/* ]] || dir=$OWN
		[[ $name =~ ^[a-z0-9]+/[0-9]{3,4}$ && -f $dir/$name ]] || missing+=" $name"
	done <<<"$LIST"
	[[ -z $missing ]] || die "TESTS: no such test in this tree:$missing (there are the sets quick, long, auto, wakewatch, and names such as generic/029)"
}

# Of LIST the part that SHARD says, each N-th test: sets LIST, and WHOLE, which names what there was.
take_shard() {
	local part parts
	WHOLE=''
	[[ -n ${SHARD:-} ]] || return 0
	[[ $SHARD =~ ^([0-9]{1,4})/([0-9]{1,4})$ ]] || die "SHARD=$SHARD: say which part of how many, as 2/8"
	part=$((10#${BASH_REMATCH[1]})) parts=$((10#${BASH_REMATCH[2]}))
	((part >= 1 && part <= parts)) || die "SHARD=$SHARD: there is no part $part of $parts"
	((parts <= $(wc -l <<<"$LIST"))) || die "SHARD=$SHARD: there are $(wc -l <<<"$LIST") tests"
	WHOLE=$part/$parts:$(sha <<<"$LIST")
	LIST=$(awk -v part="$part" -v parts="$parts" 'NR % parts == part % parts' <<<"$LIST")
}

finished() { # RUN
	[[ -f $1/xfstests.json || -f $WW_CACHE/runs/$1/xfstests.json ]] ||
		die "$1: not a finished run of make xfstests (it has no xfstests.json)"
}

check_exclude() {
	[[ -f $EXCLUDE ]] || die "EXCLUDE=$EXCLUDE: no such file"
	local line
	line=$(awk '!/^#/ && NF == 1 { print $1; exit }' "$EXCLUDE")
	[[ -z $line ]] || die "$EXCLUDE: $line has no reason beside it"
}

# ---------------------------------------------------------------- verbs

case ${1:-} in
--image)
	image=$(root_image)
	if [[ ! -e $image ]]; then
		take_build_lock
		[[ -e $image ]] || make_root "$image"
	fi
	printf '%s\n' "$image"
	exit
	;;
--compare)
	[[ -n ${A:-} && -n ${B:-} ]] || die "usage: make xfstests-compare A=RUN B=RUN (folders of two runs, or their names in $WW_CACHE/runs)"
	for run in "$A" "$B"; do finished "$run"; done
	# Without a kernel: nothing boots.
	KERNELS=' ' exec "$WW_ROOT/scripts/lab.sh" xfstests-compare "$A" "$B"
	;;
--merge)
	read -r -a runs <<<"${RUNS:-}"
	((${#runs[@]})) || die "usage: make xfstests-merge RUNS='RUN RUN...' (folders of runs with SHARD=, or their names in $WW_CACHE/runs)"
	for run in "${runs[@]}"; do finished "$run"; done
	KERNELS=' ' exec "$WW_ROOT/scripts/lab.sh" xfstests-merge "${runs[@]}"
	;;
'' | --check | --args) ;;
*) die "usage: xfstests.sh [--check | --args | --image | --compare | --merge]" ;;
esac

KERNEL=${KERNEL:-fixed}
TESTS=${TESTS:-quick wakewatch}
FORM=${FORM:-4k}
WAKEWATCH=${WAKEWATCH:-1}
LIMIT=${LIMIT:-600}
MINUTES=${MINUTES:-90}
MEMORY=${MEMORY:-3G}
EXCLUDE=${EXCLUDE:-$OWN/exclude}

[[ -n ${XFSTESTS:-} ]] || die "usage: make xfstests XFSTESTS=/path/to/a/built/tree"
check_tree
# shellcheck disable=SC2119  # of its own it has none
check_form
check_exclude
check_tests
take_shard
case $WAKEWATCH in 0 | 1) ;; *) die "WAKEWATCH=$WAKEWATCH: 1 loads it, 0 runs without it" ;; esac
check_number LIMIT 10
check_number MINUTES 1
check_machine 2048 "two devices of 1200 MB in memory and the tests" "$DISK_MB"
"$WW_ROOT/scripts/kernel.sh" --patches "$KERNEL" >/dev/null
[[ ${1:-} != --check ]] || exit 0

root=$("$0" --image)
tree=$(tree_image)
if [[ ! -e $tree ]]; then
	take_build_lock
	[[ -e $tree ]] || make_tree "$tree"
	exec 9>&-
fi

touch -c "$root" "$tree" 2>/dev/null || true

args=(--kernel "$KERNEL" --root "$root" --tree "$tree" --form "$FORM" --fstyp "$FSTYP"
	--mkfs-options="$MKFS_OPTIONS" --mount-options="$MOUNT_OPTIONS" --exclude "$EXCLUDE"
	--limit "$LIMIT" --minutes "$MINUTES" --memory "$MEMORY" --asked "$TESTS")
((WAKEWATCH)) || args+=(--without)
[[ -z $WHOLE ]] || args+=(--shard "$WHOLE")
mapfile -t names <<<"$LIST"
if [[ ${1:-} == --args ]]; then
	printf '%s\n' "${args[@]}" "${names[@]}"
	exit
fi
KERNELS=$KERNEL exec "$WW_ROOT/scripts/lab.sh" xfstests "${args[@]}" "${names[@]}"
