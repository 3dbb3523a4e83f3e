#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# With panic_on_report=1 the first report is the guest's end: passing is failing. The lab looks for
# the panic, and for the report before it.
#
# kernel: stock
# memory: 512M
# timeout: 60

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

plan 1
load_wakewatch panic_on_report=1
insmod "${WW_KO%.ko}_events.ko"
# The report is printed by a kworker, in its own time.
sleep 110
not_ok "the guest lives on after a report"
finish
