#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: dkms.sh [RELEASE]
#
# Has DKMS keep wakewatch.ko for the kernel RELEASE (the running one), and for every kernel that is installed
# from now on: it is built again then, by dkms.conf. Root's. To be rid of it: dkms remove wakewatch/0.1 --all

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

RELEASE=${1:-$(uname -r)}
VERSION=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"$/\1/p' "$WW_ROOT/dkms.conf")
# What a module is made of, and what makes it.
PARTS=(Kbuild rust scripts dkms.conf COPYING)

((EUID == 0)) || die "modules are installed by root: sudo make dkms"
command -v dkms >/dev/null || die "no dkms; apt-get install dkms"
[[ -e /lib/modules/$RELEASE/build/Makefile ]] ||
	die "no headers of $RELEASE; apt-get install linux-headers-$RELEASE"
find_bindgen >/dev/null || die "no usable bindgen; run: make setup"

src=/usr/src/wakewatch-$VERSION
if [[ -n $(dkms status "wakewatch/$VERSION") ]]; then
	dkms remove "wakewatch/$VERSION" --all >/dev/null
fi
rm -rf "$src"
mkdir -p "$src"
(cd "$WW_ROOT" && cp -r "${PARTS[@]}" "$src/")
dkms add "wakewatch/$VERSION" >/dev/null
dkms install "wakewatch/$VERSION" -k "$RELEASE" ||
	die "not built; the whole log: /var/lib/dkms/wakewatch/$VERSION/build/make.log"
dkms status "wakewatch/$VERSION"
