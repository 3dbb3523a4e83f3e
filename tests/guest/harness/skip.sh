#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A guest that skips everything.
#
# kernel: stock
# memory: 512M
# timeout: 10

# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/../lib.sh"

plan 1
skip_test "first" "nothing to do here"
finish
