#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: images.sh DIR
#
# Makes DIR/root.img and DIR/tree.img for the stand-in tree beside it, from this machine's own programs, in
# seconds: no distribution is needed for what it runs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
dir=$1
PATH=/usr/sbin:/usr/bin:/sbin:/bin
programs=(bash timeout sleep mkdir dd df tail mount umount mkfs.ext4)

root=$dir/root
mkdir -p "$root"/{usr/bin,usr/lib,usr/lib64,etc,proc,sys,dev,tmp,run,usr/local/bin}
mkdir -p "$root"/{xfstests,ww-shm,ww-test,ww-scratch,ww-results}
for name in bin sbin; do ln -s usr/bin "$root/$name"; done
ln -s bin "$root/usr/sbin"
for name in lib lib64; do ln -s "usr/$name" "$root/$name"; done
ln -s /proc/self/mounts "$root/etc/mtab"
for program in "${programs[@]}"; do
	path=$(type -P "$program")
	cp -L "$path" "$root/usr/bin/$program"
	ldd "$path" | grep -o '/[^ ]*' | while read -r library; do
		mkdir -p "$root${library%/*}"
		cp -L "$library" "$root$library"
	done
done

mkdir -p "$dir/tree/tools" "$dir/tree/tests"
cp "$here/check" "$dir/tree/"
printf '#!/bin/bash\n' >"$dir/tree/tools/mkgroupfile"
chmod +x "$dir/tree/tools/mkgroupfile"

for name in root tree; do
	truncate -s 64M "$dir/$name.img"
	mke2fs -q -F -t ext4 -O ^has_journal -m 0 -d "$dir/$name" "$dir/$name.img"
	rm -r "${dir:?}/$name"
done
