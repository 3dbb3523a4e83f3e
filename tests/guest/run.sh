#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run.sh NAME...: several guest scripts in one boot, each a KTAP subtest. Marks
# in the kernel log tell the lab which kernel lines belong to which script.

dir=$(dirname "$(readlink -f "$0")")
failed=0
skipped=0
n=0

printf 'KTAP version 1\n1..%d\n' "$#"
for name in "$@"; do
	n=$((n + 1))
	echo "ww-lab: begin $name" >/dev/kmsg
	# Its name comes right after its version line.
	WW_NAME=$name /bin/bash "$dir/$name.sh" 2>&1 |
		sed -u -e 's/^/  /' -e "0,/^  KTAP version/s,^  KTAP version.*,&\n  # Subtest: $name,"
	status=${PIPESTATUS[0]}
	echo "ww-lab: end $name $status" >/dev/kmsg
	case $status in
	0) printf 'ok %d %s\n' "$n" "$name" ;;
	4)
		skipped=$((skipped + 1))
		printf 'ok %d %s # SKIP\n' "$n" "$name"
		;;
	*)
		failed=$((failed + 1))
		printf 'not ok %d %s\n# exit status %d\n' "$n" "$name" "$status"
		;;
	esac
done

[ "$failed" -eq 0 ] || exit 1
[ "$skipped" -lt "$n" ] || exit 4
exit 0
