#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# No race at all: one page is written and synced. What wakewatch says of it separates a
# kernel that holds a reference at the end of writeback from one that does not.
#
# kernel: any
# memory: 1G
# timeout: 60

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

plan 2
setup_loop
# Whatever mkfs and mount have left to write is not part of this.
sync
load_wakewatch
before=$(ww_stat end_writeback)
check "one page is written and synced" "$WW_REPRO" sync "$WW_MNT"
if [ "$(ww_stat end_writeback)" -gt "$before" ]; then
	ok "wakewatch saw the end of its writeback"
else
	not_ok "wakewatch saw the end of its writeback"
fi
diag "unreferenced: $(ww_stat unreferenced)"
finish
