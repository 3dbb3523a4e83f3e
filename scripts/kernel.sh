#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: [SERIES=6.12] [LINUX=/path/to/tree] [TOOLCHAIN=clang|gcc] [CONFIG_VARIANT=NAME] [CONFIG=/path/to/.config] kernel.sh KEY...
#        [SERIES=...] kernel.sh --keys
#        [SERIES=...] [LINUX=...] kernel.sh --series | --tree | --proposals | --mutants | --patches KEY | --pristine DIR KEY
#
# Builds what is not in the cache, and prints one directory per KEY:
#   stock   the tree as it ships
#   broken  stock + patches/SERIES/regress
#   fixed   broken + patches/SERIES/fix
#   NAME    broken + patches/SERIES/NAME, or on what `# base: KEY` in its series says:
#           stock, broken or fixed
#   mutant-NAME  the same with tests/mutants/SERIES/NAME: a bug for wakewatch to find
#   debian  the distribution's own, as it was installed: the newest in /lib/modules
#           whose headers say CONFIG_RUST=y. Nothing of it is built, see crates.sh
# SERIES is 6.12 unless said; of a tree of LINUX it is the one nearest to the tree's version.
# --series prints it, --keys what KEY may be, --tree the project's source tree (as patched as the last build left it),
# --proposals and --mutants the KEYs of all proposals and mutants, --patches the patches that make KEY, and --pristine copies
# the files that these change into DIR as they ship.
#
# CONFIG is a configuration to begin with in place of tinyconfig. Of .config.fragment it gets only what the
# lab can't do without (tests/config/own), and what that has changed is printed.
#
# How: one source tree per source at a fixed path in the cache. Only the files
# that a series changes are rewritten when going from one kernel to the next, so
# all kernels after the first are incremental builds of it. LINUX is only read.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

FRAGMENTS=("$WW_ROOT/.config.fragment")
if [[ -n ${CONFIG_VARIANT:-} ]]; then
	[[ -f $WW_ROOT/tests/config/$CONFIG_VARIANT.fragment ]] ||
		die "CONFIG_VARIANT=$CONFIG_VARIANT: there is $(cd "$WW_ROOT/tests/config" && echo *.fragment | sed 's/\.fragment//g')"
	FRAGMENTS+=("$WW_ROOT/tests/config/$CONFIG_VARIANT.fragment")
fi
# Raise it when this file builds or exports something else than before.
RECIPE=1

# ---------------------------------------------------------------- the source

all_series() { # as their directories are called, one a line
	find "$WW_ROOT/patches" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' | sort -V
}

# release_number 6.12.3: how many releases that one comes after 6.0. 6.19 was followed by 7.0, and may
# have been renamed; what comes after 7.x is not known.
release_number() {
	local major minor
	IFS=. read -r major minor _ <<<"$1"
	echo $(((major - 6) * 20 + minor))
}

nearest_series() { # VERSION
	local series here distance least='' nearest=''
	here=$(release_number "$1")
	while read -r series; do
		distance=$(($(release_number "$series") - here))
		distance=${distance#-}
		# Of two as near the later one.
		if [[ -z $least ]] || ((distance <= least)); then least=$distance nearest=$series; fi
	done < <(all_series)
	echo "$nearest"
}

# Sets SERIES, PATCHES, MUTANTS, and of a tree of LINUX also SOURCE and VERSION.
find_series() {
	[[ -z ${SERIES:-} || $(all_series) =~ (^|$'\n')"$SERIES"($|$'\n') ]] ||
		die "SERIES=$SERIES: there is $(all_series | paste -sd ' ')"
	if [[ -n ${LINUX:-} ]]; then
		SOURCE=$(cd "$LINUX" 2>/dev/null && pwd -P) || die "LINUX=$LINUX: no such directory"
		[[ -r $SOURCE/Makefile && -e $SOURCE/mm/filemap.c && -e $SOURCE/Kbuild ]] || die "LINUX=$LINUX: not a Linux kernel tree"
		VERSION=$(tree_version "$SOURCE")
		at_least 6.12 "$VERSION" || die "LINUX=$LINUX: version $VERSION, and wakewatch needs 6.12 or later"
		: "${SERIES:=$(nearest_series "$VERSION")}"
	fi
	: "${SERIES:=6.12}"
	PATCHES=$WW_ROOT/patches/$SERIES
	MUTANTS=$WW_ROOT/tests/mutants/$SERIES
	# What a series' kernels have otherwise.
	[[ ! -e $PATCHES/config.fragment ]] || FRAGMENTS=("${FRAGMENTS[0]}" "$PATCHES/config.fragment" "${FRAGMENTS[@]:1}")
}

# Of CONFIG: sets OWN_CONFIG, and leaves of the fragments what the lab needs.
find_config() {
	local all needed
	OWN_CONFIG=''
	[[ -n ${CONFIG:-} ]] || return 0
	[[ -f $CONFIG && -r $CONFIG ]] || die "CONFIG=$CONFIG: no such file"
	OWN_CONFIG=$(realpath "$CONFIG")
	grep -q '^CONFIG_[A-Z0-9_]*=' "$OWN_CONFIG" || die "CONFIG=$CONFIG: no kernel's configuration (it has no line CONFIG_...=)"
	all=$(cat "${FRAGMENTS[@]}" "$WW_ROOT/tests/config/own/needed.fragment")
	needed=$(sed -n -e 's/^# \(CONFIG_[A-Z0-9_]*\) is not set$/\1=n/p' -e '/^CONFIG_/p' <<<"$all" |
		awk -F= 'NR == FNR { other[$1]; next } !($1 in other)' <(grep '^CONFIG_' "$WW_ROOT/tests/config/own/optional") -)
	mkdir -p "$WW_CACHE/config"
	FRAGMENTS=("$WW_CACHE/config/$(sha <<<"$needed").fragment")
	printf '%s\n' "$needed" >"${FRAGMENTS[0]}"
}

# config_changes: what of OWN_CONFIG is not in the tree's, as far as the lab has asked for it.
config_changes() {
	local name was is
	while read -r name; do
		name=${name%%=*}
		was=$(sed -n "s/^$name=//p" "$OWN_CONFIG" | tail -n 1)
		is=$(sed -n "s/^$name=//p" "$TREE/.config")
		[[ ${was:-n} == "${is:-n}" ]] || printf '    %s: %s, was %s\n' "$name" "${is:-n}" "${was:-n}"
	done < <(wanted_options)
}

# Sets SOURCE (tarball or directory), VERSION, SOURCE_ID (what it contains) and
# SRC (the project's directory for it).
find_source() {
	local name
	if [[ -n ${LINUX:-} ]]; then
		SOURCE_ID=$(tree_id)
		# The same directory whatever the tree's state, so that a change in the
		# tree is an incremental build too.
		name=${SOURCE##*/}-$(sha <<<"$SOURCE")
	else
		SOURCE=$(find /usr/src -maxdepth 1 -name "linux-source-$SERIES*.tar.xz" 2>/dev/null | sort -V | tail -n 1)
		[[ -n $SOURCE ]] || die "no /usr/src/linux-source-$SERIES*.tar.xz; run: make setup SERIES=$SERIES (or give LINUX=/path/to/tree)"
		SOURCE_ID=$(stat -c '%n %s %Y' "$SOURCE")
		name=$(sha <<<"$SOURCE_ID")
	fi
	[[ $TOOLCHAIN == clang ]] || name+=-$TOOLCHAIN
	[[ -z $OWN_CONFIG ]] || name+=-$(sha <<<"$OWN_CONFIG")
	SRC=$WW_CACHE/src/$name${CONFIG_VARIANT:+-$CONFIG_VARIANT}
	TREE=$SRC/linux
}

tree_version() { # read, not made: make could write into the tree
	sed -n '1,10{s/^VERSION = //p;s/^PATCHLEVEL = //p;s/^SUBLEVEL = //p;}' "$1/Makefile" | paste -sd .
}

# git_in_source ARG...: git on the tree, without refreshing its index, and also
# where the tree belongs to somebody else.
git_in_source() {
	GIT_OPTIONAL_LOCKS=0 git -c safe.directory='*' -C "$SOURCE" "$@"
}

source_is_git() {
	[[ $(git_in_source rev-parse --show-toplevel 2>/dev/null) == "$SOURCE" ]]
}

# source_files: the tree's own files, NUL-separated; nothing that was built in it.
source_files() {
	if source_is_git; then
		git_in_source ls-files -z --cached --others --exclude-standard
	else
		plain_files
	fi
}

# Without git nothing says what was built. Not .gitignore: in Debian's source
# package it ignores everything. But kbuild leaves a .NAME.cmd beside what it
# makes; the rest is known by name.
plain_files() {
	(
		cd "$SOURCE"
		LC_ALL=C comm -z -23 \
			<(find . \( -path ./include/config -o -path ./include/generated -o -path './arch/*/include/generated' \
				-o -path ./tools/objtool/libsubcmd -o -name .tmp_versions -o -name .git \) -prune -o \
				\( -type f -o -type l \) \
				! -name '*.o' ! -name '*.a' ! -name '*.ko' ! -name '*.mod' ! -name '*.mod.c' ! -name '*.rmeta' \
				! -name '*.cmd' ! -name '*.d' ! -name '*.order' ! -name '*.symvers' ! -name '.tmp_*' \
				! -path './.config*' ! -path ./.version ! -path './vmlinux*' ! -path ./System.map \
				! -path ./tools/objtool/objtool ! -path ./tools/objtool/fixdep ! -name inat-tables.c \
				-printf '%P\0' | LC_ALL=C sort -z) \
			<(find . -name '.*.cmd' -printf '%P\0' | sed -z 's,\(^\|/\)\.\([^/]*\)\.cmd$,\1\2,' | LC_ALL=C sort -z)
	)
}

# tree_id: the state of a tree: of git the commit and what differs from it.
tree_id() {
	if source_is_git; then
		git_in_source rev-parse HEAD
		{
			git_in_source diff --no-ext-diff --binary HEAD
			git_in_source ls-files -z --others --exclude-standard | (cd "$SOURCE" && xargs -0 -r sha256sum)
		} | sha
	else
		source_files | (cd "$SOURCE" && xargs -0 -r stat -c '%n %s %Y') | LC_ALL=C sort | sha
	fi
}

unpack_tarball() {
	tar -C "$1" --strip-components=1 -xf "$SOURCE"
}

# sync_tree: brings our copy to what the user's tree is now. No times are
# copied: a file that differs gets the time of now, which is what make looks at.
sync_tree() {
	local list=$SRC/files
	source_files | tr '\0' '\n' | LC_ALL=C sort -u >"$list.new"
	if [[ -e $list ]]; then
		LC_ALL=C comm -23 "$list" "$list.new" | (cd "$TREE" && tr '\n' '\0' | xargs -0 -r rm -f --)
	fi
	# The list before the files: what was once copied can always be removed.
	mv "$list.new" "$list"
	rsync -rlp --checksum --ignore-missing-args --files-from="$list" "$SOURCE/" "$TREE/"
}

# prepare_tree: there is a whole source tree at $TREE, with the content of SOURCE_ID.
prepare_tree() {
	if [[ -n ${LINUX:-} ]]; then
		[[ $(cat "$SRC/id" 2>/dev/null) != "$SOURCE_ID" ]] || return 0
		mkdir -p "$TREE"
		rm -f "$SRC/id"
		unpatch
		run_logged "copy of $SOURCE" "$WW_CACHE/logs/source.log" sync_tree
		# A tree that changed while it was copied has no identity yet.
		[[ $(tree_id) == "$SOURCE_ID" ]] || die "LINUX=$LINUX changed while it was copied; run again"
		printf '%s\n' "$SOURCE_ID" >"$SRC/id"
	elif [[ ! -d $TREE ]]; then
		scratch_dir
		run_logged "unpacking ${SOURCE##*/}" "$WW_CACHE/logs/source.log" unpack_tarball "$SCRATCH"
		publish "$SCRATCH" "$TREE"
	fi
	VERSION=$(tree_version "$TREE")
	[[ -n ${LINUX:-} || $VERSION == "$SERIES".* ]] || die "$SOURCE: version $VERSION, and not $SERIES"
}

# ---------------------------------------------------------------- patches

own_dir() { # KEY: where its own series is
	case $1 in
	mutant-*) echo "$MUTANTS/${1#mutant-}" ;;
	*) echo "$PATCHES/$1" ;;
	esac
}

series_dirs() { # KEY: the series that make it, in order
	local dir base
	case $1 in
	stock) ;;
	broken) echo "$PATCHES/regress" ;;
	fixed) printf '%s\n' "$PATCHES/regress" "$PATCHES/fix" ;;
	*)
		dir=$(own_dir "$1")
		[[ -f $dir/series ]] || die "no kernel '$1': it is stock, broken, fixed, or one of: $(known_series | paste -sd ' ')"
		base=$(sed -n 's/^# base: //p' "$dir/series")
		case ${base:=broken} in
		stock | broken | fixed) series_dirs "$base" ;;
		*) die "$dir/series: base is $base, and not stock, broken or fixed" ;;
		esac
		echo "$dir"
		;;
	esac
}

mutants() {
	find "$MUTANTS" -mindepth 2 -name series -printf '%h\n' 2>/dev/null | sed 's,.*/,mutant-,' | sort | paste -sd ' '
}

series_names() {
	find "$PATCHES" -mindepth 2 -name series -printf '%h\n' 2>/dev/null | sed 's,.*/,,' | grep -vx -e regress -e fix | sort
}

# A proposal once more as mails (rfc-) and a study (rust-) are none.
proposals() {
	series_names | grep -v -e '^rfc-' -e '^rust-' | paste -sd ' '
}

known_series() {
	series_names | paste -sd ' '
	mutants
}

series_patches() { # KEY: the patch files that make it, in order
	local dir name dirs
	dirs=$(series_dirs "$1")
	while read -r dir; do
		[[ -n $dir ]] || continue
		[[ -f $dir/series ]] || die "no such series: $dir/series"
		while read -r name _; do
			[[ -f $dir/$name ]] || die "$dir/series names $name, which is not there"
			realpath -s "$dir/$name"
		done < <(grep -v '^ *\(#\|$\)' "$dir/series")
	done <<<"$dirs"
}

read_patches() { # KEY: sets patches
	local list
	list=$(series_patches "$1") # by itself, so that its failure is ours
	patches=()
	[[ -z $list ]] || mapfile -t patches <<<"$list"
}

# least_work KEY...: them, in an order in which there is little to build from each to the next: one after
# another what is on stock, on broken and on fixed, between which all of mm/ is built again, and then what changes
# a header of everybody's.
least_work() {
	local key rank all=''
	for key in "$@"; do
		rank=0
		read_patches "$key"
		case " ${patches[*]} " in
		*"$PATCHES/fix/"*) rank=2 ;;
		*"$PATCHES/regress/"*) rank=1 ;;
		esac
		! touched "${patches[@]}" | grep -q '^include/' || rank=$((rank + 3))
		all+="$rank $key"$'\n'
	done
	sort -s -n -k 1,1 <<<"${all%$'\n'}" | cut -d ' ' -f 2
}

# touched PATCH...: the files that they change or make.
touched() {
	(($# == 0)) || sed -n 's,^+++ [^/]*/\([^	]*\).*,\1,p;s,^--- a/\([^	]*\).*,\1,p' "$@" | sort -u
}

# The patched state needs no record of its own that could be wrong after Ctrl-C:
# before a file of the tree is changed for the first time, its original goes to
# $SRC/pristine (or its name to $SRC/absent, if a patch makes it). So any file
# with an entry there may be changed, and no other.
remember_pristine() { # FILE...
	local f
	for f in "$@"; do
		[[ ! -e $SRC/pristine/$f && ! -e $SRC/absent/$f ]] || continue
		if [[ -e $TREE/$f ]]; then
			mkdir -p "$(dirname "$SRC/pristine/$f")"
			cp "$TREE/$f" "$SRC/pristine/$f.new"
			mv "$SRC/pristine/$f.new" "$SRC/pristine/$f"
		else
			mkdir -p "$(dirname "$SRC/absent/$f")"
			: >"$SRC/absent/$f"
		fi
	done
}

all_remembered() { # FILE...
	local f
	for f in "$@"; do [[ -e $SRC/pristine/$f || -e $SRC/absent/$f ]] || return; done
}

remembered() {
	local d
	for d in pristine absent; do
		if [[ -d $SRC/$d ]]; then (cd "$SRC/$d" && find . -type f ! -name '*.new' -printf '%P\n'); fi
	done | sort -u
}

# pristine_copy DIR FILE...
pristine_copy() {
	local dir=$1 f
	shift
	for f in "$@"; do
		[[ ! -e $SRC/absent/$f ]] || continue
		mkdir -p "$dir/$(dirname "$f")"
		if [[ -e $SRC/pristine/$f ]]; then
			cp "$SRC/pristine/$f" "$dir/$f"
		elif [[ -e $TREE/$f ]]; then
			cp "$TREE/$f" "$dir/$f"
		fi
	done
}

# install_files WANTED FILE...: makes these files of the tree the same as those
# in WANTED, touching only the ones that differ. `mv` of a fresh copy: whole or
# not at all, and newer than any object made from the file before.
install_files() {
	local wanted=$1 f
	shift
	for f in "$@"; do
		if [[ ! -e $wanted/$f ]]; then
			rm -f "$TREE/$f"
			# A patch may have made it.
			rmdir --ignore-fail-on-non-empty "$(dirname "$TREE/$f")" 2>/dev/null || true
		elif ! cmp -s "$wanted/$f" "$TREE/$f"; then
			mkdir -p "$(dirname "$TREE/$f")"
			cp "$wanted/$f" "$TREE/$f.wakewatch-new"
			mv "$TREE/$f.wakewatch-new" "$TREE/$f"
		fi
	done
}

unpatch() {
	local files
	mapfile -t files < <(remembered)
	scratch_dir
	((${#files[@]} == 0)) || {
		pristine_copy "$SCRATCH" "${files[@]}"
		install_files "$SCRATCH" "${files[@]}"
	}
	rm -rf "$SRC/pristine" "$SRC/absent"
}

# apply KEY PATCH...: makes the tree be that kernel.
apply() {
	local key=$1 patch files log
	shift
	log=$WW_CACHE/logs/patch-$key.log
	mapfile -t files < <(touched "$@")
	remember_pristine "${files[@]}"
	mapfile -t files < <(remembered)
	((${#files[@]})) || return 0
	scratch_dir
	pristine_copy "$SCRATCH" "${files[@]}"
	: >"$log"
	for patch in "$@"; do
		# --force: what is in the tree already is no reason to take it out.
		patch -d "$SCRATCH" -p1 --force --no-backup-if-mismatch --fuzz=0 <"$patch" >"$log.last" 2>&1 || refused "$patch" "$log.last"
		cat "$log.last" >>"$log"
	done
	install_files "$SCRATCH" "${files[@]}"
}

# refused PATCH LOG: ends, with the first hunk that patch refused, and how many more there are.
refused() {
	local series first more name=${1#"$WW_ROOT"/}
	first=$(awk '/^patching file / { f = $3 } /^Hunk #.* FAILED/ { print f ": hunk " substr($2, 2) ", line " $5 + 0; exit }' "$2")
	more=$(grep -c '^Hunk #.* FAILED' "$2") || true
	series=$(sed -n 's,^patches/\([^/]*\)/.*,\1,p' <<<"$name")
	die "$name does not apply to $VERSION${series:+ (SERIES=$SERIES)}: ${first:-no file to patch}$( ((more < 2)) || echo ", and $((more - 1)) more"); docs/hacking.md says how a series is made; log: $2"
}

# ---------------------------------------------------------------- the build

configure() { # what survives of the fragments is checked, line by line
	local line name lost='' before=$SRC/config.before key
	# A minute of stock, broken and fixed would go into configuring the same thrice.
	key=$({
		printf '%s\n' "$SOURCE_ID" "$tools" "${KERNEL_MAKE_FLAGS[@]}"
		cat "${FRAGMENTS[@]}" ${OWN_CONFIG:+"$OWN_CONFIG"}
		# A patch may add options.
		remembered | while read -r name; do [[ $name != *Kconfig* ]] || sha256sum <"$TREE/$name"; done
	} | sha)
	if [[ -e $TREE/.config && $(cat "$SRC/config.key" 2>/dev/null) == "$key $(sha <"$TREE/.config")" ]]; then return; fi
	rm -f "$before" "$SRC/config.key"
	[[ ! -e $TREE/.config ]] || cp -p "$TREE/.config" "$before"
	if [[ -z $OWN_CONFIG ]]; then kernel_make "$TREE" tinyconfig; else cp "$OWN_CONFIG" "$TREE/.config"; fi
	(cd "$TREE" && env -i PATH="$PATH" LC_ALL=C scripts/kconfig/merge_config.sh -m .config "${FRAGMENTS[@]}")
	kernel_make "$TREE" olddefconfig
	# The same configuration keeps its time, so that make has nothing to do.
	if cmp -s "$before" "$TREE/.config"; then mv "$before" "$TREE/.config"; fi

	while read -r line; do
		name=${line%%=*}
		if [[ $line == *=n || $line == *'=""' ]]; then
			# An option that is not even asked for will do.
			if grep "^$name=" "$TREE/.config" | grep -qvxF "$line"; then lost+=" $line"; fi
		else
			grep -qxF "$line" "$TREE/.config" || lost+=" $line"
		fi
	done < <(wanted_options)
	[[ -z $lost ]] || {
		echo "these options of ${FRAGMENTS[*]##*/} did not survive make olddefconfig:$lost"
		return 1
	}
	echo "$key $(sha <"$TREE/.config")" >"$SRC/config.key"
}

# wanted_options: the last word on each option, as CONFIG_X=value or CONFIG_X=n.
wanted_options() {
	sed -n -e 's/^# \(CONFIG_[A-Z0-9_]*\) is not set$/\1=n/p' -e '/^CONFIG_/p' "${FRAGMENTS[@]}" |
		awk -F= '{ last[$1] = $0 } END { for (n in last) print last[n] }' | sort
}

# export_kernel KEY DIR: what is kept of a build.
export_kernel() {
	local key=$1 dir=$2 kdir=$2/kdir f
	mkdir -p "$kdir"
	cp "$TREE/arch/x86/boot/bzImage" "$TREE/vmlinux" "$TREE/System.map" "$dir/"
	cp "$TREE/.config" "$dir/config"
	{
		echo "kernel: $key"
		echo "release: $(cat "$TREE/include/config/kernel.release")"
		echo "source: $SOURCE ($(paste -sd ' ' <<<"$SOURCE_ID"))"
		echo "config: ${OWN_CONFIG:-tinyconfig} + ${FRAGMENTS[*]#"$WW_ROOT"/}"
		shift 2
		for f in "$@"; do echo "patch: ${f#"$WW_ROOT"/} $(sha <"$f")"; done
		tool_versions | sed 's/^/tool: /'
	} >"$dir/info"

	# What a module is built against: the kernel's own packaging knows most of it.
	(cd "$TREE" && env -i PATH="$PATH" LC_ALL=C srctree=. SRCARCH=x86 CC=cc HOSTCC=cc MAKE=make \
		sh scripts/package/install-extmod-build "$kdir")
	# It leaves out what Rust modules need beyond the compiled crates: a module
	# that runs bindgen reads the kernel's binding headers and parameters.
	(
		cd "$TREE"
		find rust -type f \( -name '*.rmeta' -o -name '*.so' -o -name '*.h' -o -name '*.rs' -o -name '*_parameters' -o -name Makefile \) -print0
		printf '%s\0' .config System.map Kbuild Kconfig .rustfmt.toml .clippy.toml
		find scripts -maxdepth 1 -type f ! -name '*.o' ! -name '.*' -print0
	) | rsync -a --from0 --files-from=- "$TREE/" "$kdir/"
}

compile() {
	if [[ -z $OWN_CONFIG ]]; then
		kernel_make "$TREE" bzImage modules
	else
		# A distribution's has thousands of modules, and no guest here loads any.
		kernel_make "$TREE" bzImage modules_prepare
		cp "$TREE/vmlinux.symvers" "$TREE/Module.symvers"
	fi
}

build() { # KEY DIR PATCH...
	local key=$1 dir=$2
	shift 2
	prepare_tree
	project_make_flags
	apply "$key" "$@"
	run_logged "rustavailable" "$WW_CACHE/logs/rustavailable.log" kernel_make "$TREE" rustavailable
	run_logged "configuration of $key" "$WW_CACHE/logs/config-$key.log" configure
	[[ -z $OWN_CONFIG ]] || say "  of $CONFIG the lab has changed:
$(config_changes)"
	run_logged "kernel $key" "$WW_CACHE/logs/kernel-$key.log" compile
	scratch_dir
	run_logged "export of $key" "$WW_CACHE/logs/export-$key.log" export_kernel "$key" "$SCRATCH/kernel" "$@"
	publish "$SCRATCH/kernel" "$dir"
}

# ---------------------------------------------------------------- the distribution's

# installed_kernel: prints its directory, which has links and no copies.
installed_kernel() {
	local release image kdir dir
	[[ -z ${CONFIG_VARIANT:-}${CONFIG:-} ]] || die "CONFIG and CONFIG_VARIANT are for kernels that are built here, and debian is not"
	release=$(installed_release)
	[[ -n $release ]] || die "no kernel of the distribution's has headers with CONFIG_RUST=y in /lib/modules; docs/reference.md says how to install one on Debian 13"
	image=/boot/vmlinuz-$release
	[[ -r $image ]] || die "$image can't be read; install linux-image-$release"
	command -v busybox >/dev/null || die "no busybox, of which virtme-ng makes the guest's initramfs; apt-get install busybox-static"
	kdir=$("$WW_ROOT/scripts/crates.sh" "/lib/modules/$release/build")
	dir=$WW_CACHE/kernels/debian-$({
		stat -L -c '%n %s %Y' "$image"
		echo "$kdir"
	} | sha)
	if [[ ! -d $dir ]]; then
		scratch_dir
		ln -s "$image" "$SCRATCH/bzImage"
		ln -s "$kdir" "$SCRATCH/kdir"
		cp "$kdir/.config" "$SCRATCH/config"
		printf 'kernel: debian\nrelease: %s\n' "$release" >"$SCRATCH/info"
		publish "$SCRATCH" "$dir"
	fi
	printf '%s\n' "$dir"
}

# ---------------------------------------------------------------- verbs

case $* in
debian)
	installed_kernel
	exit
	;;
--keys)
	# Those of one version are those of all.
	LINUX='' SERIES=6.12
	find_series
	echo stock broken fixed debian "$(known_series | paste -sd ' ')"
	exit
	;;
esac
find_series

case ${1:-} in
--series)
	printf '%s\n' "$SERIES"
	exit
	;;
--proposals)
	proposals
	exit
	;;
--mutants)
	mutants
	exit
	;;
--patches)
	series_patches "${2:?KEY}"
	exit
	;;
'') die "usage: kernel.sh KEY... (stock, broken, fixed, $(known_series | paste -sd ' '))" ;;
esac
find_config
find_source

case $1 in
--tree)
	# It is there in whole or not at all; a tree of LINUX may be another by now.
	if [[ -n ${LINUX:-} || ! -d $TREE ]]; then
		take_build_lock
		prepare_tree
	fi
	printf '%s\n' "$TREE"
	exit
	;;
--pristine)
	read_patches "${3:?DIR KEY}"
	mapfile -t files < <(touched "${patches[@]}")
	# What is kept already needs no lock, and who builds a kernel has it for long. A tree of LINUX may be another by now.
	if [[ -n ${LINUX:-} ]] || ! all_remembered "${files[@]}"; then
		take_build_lock
		prepare_tree
		remember_pristine "${files[@]}"
	fi
	pristine_copy "$2" "${files[@]}"
	exit
	;;
esac

for fragment in "${FRAGMENTS[@]}"; do
	[[ -f $fragment ]] || die "no such configuration fragment: $fragment"
done
tools=$(tool_versions)

declare -A DIRS
missing=()
for key in "$@"; do
	if [[ $key == debian ]]; then
		DIRS[$key]=$(installed_kernel)
		continue
	fi
	read_patches "$key"
	digest=$({
		printf '%s\n' "$RECIPE" "$SOURCE_ID" "$tools"
		cat "${FRAGMENTS[@]}" ${OWN_CONFIG:+"$OWN_CONFIG"} "${patches[@]}" </dev/null
	} | sha)
	dir=$key${OWN_CONFIG:+-own}
	[[ $TOOLCHAIN == clang ]] || dir+=-$TOOLCHAIN
	dir=$WW_CACHE/kernels/$dir${CONFIG_VARIANT:+-$CONFIG_VARIANT}-$digest
	DIRS[$key]=$dir
	[[ -d $dir ]] || missing+=("$key")
done
for key in $(least_work "${missing[@]}"); do
	take_build_lock
	# Another make may have built it while we waited.
	if [[ ! -d ${DIRS[$key]} ]]; then
		read_patches "$key"
		build "$key" "${DIRS[$key]}" "${patches[@]}"
	fi
done
for key in "$@"; do printf '%s\n' "${DIRS[$key]}"; done
