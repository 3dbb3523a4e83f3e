#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: [SERIES=6.12 | KERNEL=debian] setup.sh [--packages | --missing | --browser]
#
# Installs what the project needs and this machine lacks: Debian packages (as
# root), among them the source of the kernel that SERIES is, and in the cache a
# bindgen where Debian's does not serve, an fsx, a virtme-ng, a drgn, a
# kcidb-io and a tmt.
# With --packages only the first half: what is left to root for somebody else. --missing
# installs nothing, and prints what is missing and what it is for: root's part after a tab.
# --browser installs only that, which nothing else needs.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

# Older ones have a fault in TCG that kills a guest now and then: a static key
# is patched on one CPU while another runs the code ("Oops: int3").
QEMU_WANTED=8.1

# ---------------------------------------------------------------- what is needed

# One package a line, and what it is for.
PACKAGES_COMMON="
git             patches, and the identity of a kernel tree
make            everything
gcc             rustc links the kernel's host programs with it
libc6-dev       the same, and the static reproducer
binutils        the same: the linker; guest: nm
bc              kernel: timeconst.h
bison           kernel: Kconfig
flex            kernel: Kconfig
libelf-dev      kernel: objtool
pahole          kernel: BTF, for CONFIG_VARIANT=btf
perl            kernel: headers, checkpatch
python3         virtme-ng, drgn
python3-venv    both, and kcidb-io and tmt, each in an environment of its own
ca-certificates downloads of cargo and pip
xz-utils        kernel: the source package
rsync           kernel: copies of source trees
patch           the patch series
quilt           check: the series as quilt reads it
shellcheck      check: shell scripts
clang-$WW_LLVM        kernel: the C compiler, and libclang for bindgen
lld-$WW_LLVM          kernel: the linker
llvm-$WW_LLVM         kernel: llvm-nm and its kin
udev            guest: finds the port that carries the exit status
kmod            guest: insmod
iproute2        guest: the loopback interface
e2fsprogs       guest: mkfs.ext4
xfsprogs        guest: mkfs.xfs, for FORM=xfs
btrfs-progs     guest: mkfs.btrfs, for FORM=btrfs
util-linux      guest: taskset
mount           guest: losetup, swapon
procps          guest: sysctl, pkill
bpftrace        guest: what wakewatch is measured against, and trace events
debootstrap     xfstests: the root image
trace-cmd       guest: trace events
linux-perf      guest: trace events
fio             guest: writes, and verifies what it wrote
stress-ng       guest: work for file systems and memory
"

# Debian 12's rustc is too old; the security suite keeps a recent one for
# browsers, under other names.
# shellcheck disable=SC2034  # used by name
PACKAGES_bookworm="
rustc-web       kernel: the Rust compiler
rust-web-src    kernel: the library source that it compiles
cargo-web       the project's own programs, bindgen
rustfmt-web     check: Rust style
rust-web-clippy check: Rust lints
"
CONFLICTS_bookworm="rustc cargo rustfmt rust-clippy rustc-mozilla cargo-mozilla rustup"

# shellcheck disable=SC2034  # used by name
PACKAGES_trixie="
rustc           kernel: the Rust compiler
rust-src        kernel: the library source that it compiles
cargo           the project's own programs
rustfmt         check: Rust style
rust-clippy     check: Rust lints
bindgen         kernel: bindings
"
CONFLICTS_trixie="rustup"

# For the distribution's own kernel, as it was installed: KERNEL=debian.
PACKAGES_INSTALLED="
busybox-static  guest: its first file system
file            guest: virtme-ng asks it which version an image is
libssl-dev      kernel: what signs modules, made with the Rust crates
"

# Where the source of a series comes from, if not from the distribution's own suite.
source_suite() { # CODENAME SERIES
	case $1:$2 in
	*:6.12) ;;
	trixie:7.3) echo trixie-backports ;;
	*) return 1 ;;
	esac
}

# ---------------------------------------------------------------- what is there

installed() { # PACKAGE...: prints those that are
	# dpkg-query fails when it has never heard of one of them.
	{ dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true; } |
		sed -n 's/^installed //p' | sort -u
}

qemu_version() {
	qemu-system-x86_64 --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p'
}

distribution() { # prints the code name
	local ID='' VERSION_CODENAME='' PRETTY_NAME='this system'
	# shellcheck source=/dev/null
	[[ ! -r /etc/os-release ]] || . /etc/os-release
	[[ $(uname -m) == x86_64 ]] || die "the lab runs on x86_64 only, and this is $(uname -m)"
	case $ID:$VERSION_CODENAME in
	debian:bookworm | debian:trixie) echo "$VERSION_CODENAME" ;;
	*) die "only Debian 12 and 13 are set up automatically, and this is $PRETTY_NAME; scripts/setup.sh lists what is needed" ;;
	esac
}

# ---------------------------------------------------------------- packages

APT_GET=(apt-get -y -q --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300)
export DEBIAN_FRONTEND=noninteractive

apt_update() { # [OPTION...]
	# A foreign repository that fails is not ours to mind: the installation says
	# whether what is needed was found.
	apt-get -q "$@" update || echo "apt-get update: status $?"
}

# Debian's backports, by an apt configuration of our own: the system's sources
# stay as they are. The mirror is the one that the system uses.
BACKPORTS_OPTIONS=()
configure_backports() { # CODENAME
	# shellcheck disable=SC2016  # apt's own variables
	local dir=$WW_CACHE/apt index='$(REPO_URI) $(CODENAME) $(COMPONENT)'
	mkdir -p "$dir/lists/partial" "$dir/sources"
	apt-get indextargets --format "$index" 'Created-By: Packages' 'Origin: Debian' 'Architecture: amd64' |
		sort -u |
		while read -r uri codename component; do
			[[ $codename == "$1"* ]] || continue
			echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $codename $component"
			[[ $codename != "$1" || $component != main ]] ||
				echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $1-backports main"
		done >"$dir/sources/debian.list"
	BACKPORTS_OPTIONS=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$dir/sources"
		-o Dir::State::lists="$dir/lists")
	grep -q backports "$dir/sources/debian.list"
}

install_backport() { # CODENAME PACKAGE
	configure_backports "$1" || {
		echo "no mirror found with apt-get indextargets"
		return 1
	}
	apt_update "${BACKPORTS_OPTIONS[@]}"
	"${APT_GET[@]}" "${BACKPORTS_OPTIONS[@]}" -t "$1-backports" install "$2"
}

# The series of the kernels that are built, or of the installed one; not asked for a tree of one's own.
series_source() { # CODENAME: sets SOURCE_PACKAGE and SUITE
	local series
	SOURCE_PACKAGE='' SUITE=''
	[[ -z ${LINUX:-} ]] || return 0
	if [[ ${KERNEL:-} == debian ]]; then
		series=$(installed_release | grep -oE '^[0-9]+\.[0-9]+') || return 0
	else
		series=$("$WW_ROOT/scripts/kernel.sh" --series)
	fi
	SOURCE_PACKAGE=linux-source-$series
	SUITE=$(source_suite "$1" "$series") ||
		die "SERIES=$series: no suite of Debian $1 has $SOURCE_PACKAGE, Debian 13's backports have; give a tree of it instead: LINUX=/path/to/linux-$series.y"
}

# Sets TABLE, what is wanted and what for; MISSING, what of it is not here; and of QEMU, QEMU, which
# there is, and QEMU_MISSING.
look_for_packages() { # CODENAME
	local wanted more=''
	series_source "$1"
	TABLE=PACKAGES_$1
	[[ ${KERNEL:-} != debian ]] || more=$PACKAGES_INSTALLED
	TABLE=$(printf '%s\n' "$PACKAGES_COMMON" "${!TABLE}" "$more" "${SOURCE_PACKAGE:+$SOURCE_PACKAGE  the kernel}" | sed '/^$/d')
	wanted=$(awk '{print $1}' <<<"$TABLE")
	# shellcheck disable=SC2086  # lists of words
	MISSING=$(comm -23 <(sort <<<"$wanted") <(installed $wanted))
	QEMU_MISSING=
	QEMU=$(qemu_version) || true
	if ! at_least "$QEMU_WANTED" "$QEMU" && [[ -z $QEMU || ! -e $NO_BACKPORT ]]; then QEMU_MISSING=1; fi
}

print_missing() { # PREFIX
	local name why
	while read -r name why; do
		if grep -qx "$name" <<<"$MISSING"; then printf '%s%-18s %s\n' "$1" "$name" "$why"; fi
	done <<<"$TABLE"
	[[ -z $QEMU_MISSING ]] || printf '%s%-18s %s\n' "$1" qemu-system-x86 "boots the guests (${QEMU:-none} here, $QEMU_WANTED or later wanted)"
}

NO_BACKPORT=$WW_CACHE/apt/no-backport

install_packages() {
	local codename conflicts source_missing
	codename=$(distribution)
	look_for_packages "$codename"
	if [[ -z $QEMU_MISSING ]] && ! at_least "$QEMU_WANTED" "$QEMU"; then
		say "setup: QEMU $QEMU has a known TCG fault (a guest may die in about one boot of 25); $QEMU_WANTED or later was not to be had, remove $NO_BACKPORT to try again"
	fi
	[[ -n $MISSING$QEMU_MISSING ]] || return 0
	source_missing=''
	if [[ -n $SUITE ]] && grep -qx "$SOURCE_PACKAGE" <<<"$MISSING"; then source_missing=1; fi

	say "setup: needed and not installed on this Debian $codename:"
	print_missing '  ' >&2

	if [[ $codename == bookworm ]]; then conflicts=$CONFLICTS_bookworm; else conflicts=$CONFLICTS_trixie; fi
	# shellcheck disable=SC2086
	conflicts=$(installed $conflicts | paste -sd ' ')
	if [[ -n $conflicts ]] && grep -q rust <<<"$MISSING"; then
		die "these installed packages are in the way and are not removed for you: $conflicts (apt-get remove $conflicts, then run this again)"
	fi
	((EUID == 0)) || die "not root, so nothing was installed; run: sudo make packages$([[ ${KERNEL:-} != debian ]] || echo " KERNEL=debian")"

	run_logged "apt-get update" "$WW_CACHE/logs/apt-update.log" apt_update
	[[ -z $source_missing ]] || MISSING=$(grep -vx "$SOURCE_PACKAGE" <<<"$MISSING") || true
	if [[ -n $MISSING ]]; then
		# shellcheck disable=SC2086
		run_logged "apt-get install" "$WW_CACHE/logs/apt-install.log" "${APT_GET[@]}" install $MISSING
	fi
	[[ -z $source_missing ]] ||
		run_logged "$SOURCE_PACKAGE from $SUITE" "$WW_CACHE/logs/apt-source.log" install_backport "$codename" "$SOURCE_PACKAGE"
	[[ -z $QEMU_MISSING ]] || install_qemu "$codename" "$QEMU" "$NO_BACKPORT"
}

install_qemu() { # CODENAME FOUND MARKER
	if [[ $1 == bookworm ]]; then
		# In a subshell, because a failure here is not the end.
		if (run_logged "QEMU from $1-backports" "$WW_CACHE/logs/apt-qemu.log" install_backport "$1" qemu-system-x86); then
			return
		fi
		mkdir -p "$(dirname "$3")"
		: >"$3"
		say "setup: $1-backports did not serve; taking Debian's own QEMU, which has a known TCG fault (a guest may die in about one boot of 25)"
	fi
	[[ -n $2 ]] ||
		run_logged "QEMU" "$WW_CACHE/logs/apt-qemu.log" "${APT_GET[@]}" install qemu-system-x86
}

install_browser() {
	local package=chromium-headless-shell
	! find_browser >/dev/null || return 0
	distribution >/dev/null
	say "setup: $package (230 MB), a browser without a screen, for the tests of the results page"
	((EUID == 0)) || die "not root, so nothing was installed; run: sudo scripts/setup.sh --browser"
	run_logged "apt-get update" "$WW_CACHE/logs/apt-update.log" apt_update
	run_logged "$package" "$WW_CACHE/logs/browser.log" "${APT_GET[@]}" install "$package"
}

# ---------------------------------------------------------------- in the cache

install_bindgen() {
	local dir=$WW_CACHE/tools/bindgen-$WW_BINDGEN_VERSION
	! find_bindgen >/dev/null || return 0
	say "setup: bindgen-cli $WW_BINDGEN_VERSION into $dir (Debian's is missing or older than 0.65)"
	scratch_dir
	run_logged "bindgen-cli" "$WW_CACHE/logs/bindgen.log" env CARGO_TARGET_DIR="$SCRATCH/target" \
		/usr/bin/cargo install bindgen-cli --version "$WW_BINDGEN_VERSION" --locked --root "$SCRATCH/root"
	publish "$SCRATCH/root" "$dir"
	find_bindgen >/dev/null || die "the bindgen just installed does not run: $dir/bin/bindgen --version"
}

install_fsx() {
	[[ ! -x $WW_FSX ]] || return 0
	say "setup: fsx $WW_FSX_VERSION into ${WW_FSX%/bin/fsx} (exercises files in a guest, and verifies them)"
	[[ -n ${SCRATCH:-} ]] || scratch_dir
	run_logged "fsx" "$WW_CACHE/logs/fsx.log" env CARGO_TARGET_DIR="$SCRATCH/target" \
		/usr/bin/cargo install fsx --version "$WW_FSX_VERSION" --locked --root "$SCRATCH/root"
	publish "$SCRATCH/root" "${WW_FSX%/bin/fsx}"
}

# install_venv PACKAGE VERSION PROGRAM WHY: of PyPI's, in an environment of its own.
install_venv() {
	local dir=$WW_CACHE/tools/$1-$2
	[[ ! -e $dir/.complete ]] || return 0
	say "setup: $1 $2 into $dir ($4)"
	# A virtual environment has its own path written into it, so it is made in
	# place and a mark at the end says that it is whole.
	rm -rf "$dir"
	mkdir -p "${dir%/*}"
	# /usr/bin/python3: the one that python3-venv belongs to.
	run_logged "$1 environment" "$WW_CACHE/logs/venv.log" /usr/bin/python3 -m venv "$dir"
	run_logged "$1" "$WW_CACHE/logs/$1.log" \
		"$dir/bin/pip" install --quiet --disable-pip-version-check "$1==$2"
	"$dir/bin/$3" --version >&2 || die "the $1 just installed does not run: $dir/bin/$3 --version"
	: >"$dir/.complete"
}

if [[ ${1:-} == --missing ]]; then
	codename=$(distribution)
	look_for_packages "$codename"
	print_missing $'\t'
	find_bindgen >/dev/null || echo "bindgen-cli $WW_BINDGEN_VERSION"
	[[ -x $WW_FSX ]] || echo "fsx $WW_FSX_VERSION"
	[[ -e ${WW_VNG%/bin/vng}/.complete ]] || echo "virtme-ng $WW_VIRTME_VERSION"
	[[ -e ${WW_DRGN%/bin/drgn}/.complete ]] || echo "drgn $WW_DRGN_VERSION"
	[[ -e ${WW_KCIDB%/bin/python}/.complete ]] || echo "kcidb-io $WW_KCIDB_VERSION"
	[[ -e ${WW_TMT%/bin/tmt}/.complete ]] || echo "tmt $WW_TMT_VERSION"
	exit
fi
if [[ ${1:-} == --browser ]]; then
	install_browser
	exit
fi
install_packages
[[ ${1:-} != --packages ]] || exit 0
install_bindgen
install_fsx
install_venv virtme-ng "$WW_VIRTME_VERSION" vng "boots the guests"
install_venv drgn "$WW_DRGN_VERSION" drgn "reads memory dumps and live kernels"
install_venv kcidb-io "$WW_KCIDB_VERSION" python "knows what is valid, of results for machines"
install_venv tmt "$WW_TMT_VERSION" tmt "spreads tests over machines; its plans are checked"
say "setup: everything is there"
