#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A guest that panics between two tests.
#
# kernel: stock
# memory: 512M
# timeout: 10

# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../lib.sh"

plan 2
ok "first"
echo c >/proc/sysrq-trigger
ok "second"
finish
