# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The interactive guest of `make shell`: ext4 on loop on shmem huge pages, wakewatch
# loaded, then a shell with lib.sh's functions at hand.

# shellcheck source=tests/guest/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# A shell that one leaves is no test that ended early.
trap - EXIT
setup_loop
load_wakewatch
cd "$WW_MNT" || exit 1
cat <<TEXT

  ext4 under test   $WW_MNT (on $ww_loop, $(fs_dev), on $WW_SHM/fs.img)
  wakewatch         $WW_DEBUGFS: enable amplify stats reports
  shared with host  $WW_OUT
  amplify WORD...   sets the delay, for example: amplify where=after-clear us=60000
  ww_stat NAME      shows a counter; the guest ends with the shell

TEXT
PS1='guest:\w\$ '
