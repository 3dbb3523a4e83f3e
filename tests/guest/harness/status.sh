#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A guest whose script says ok and then exits with a failure.
#
# kernel: stock
# memory: 512M
# timeout: 10

printf 'KTAP version 1\n1..1\nok 1 first\n'
exit 3
