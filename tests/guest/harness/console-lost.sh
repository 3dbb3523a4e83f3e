#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The console shows nothing of what comes now.
#
# kernel: stock
# timeout: 20

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../lib.sh"

plan 1
dmesg -n 1
ok "the console is lost"
finish
