#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A guest whose script never ends.
#
# kernel: stock
# memory: 512M
# timeout: 2 (seconds, of which the lab makes 8)

# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../lib.sh"

plan 2
ok "first"
sleep 1000
ok "second"
finish
