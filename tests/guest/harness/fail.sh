#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A guest with one failing test among good ones.
#
# kernel: stock
# memory: 512M
# timeout: 10

# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../lib.sh"

plan 3
ok "first"
not_ok "second"
ok "third"
finish
