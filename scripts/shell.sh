#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make shell: boots a guest with a shell on this terminal.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

lock_cache
provide_root
prepare_guest shell "${KERNEL:-stock}" "${DRIVER:-rust}" shell
say "booting $(kernel_title), $ACCEL; Ctrl-A X ends the machine"
# The last loglevel on the command line counts: shows warnings, but not the boot messages.
unlock_cache
qemu shell 0 "$ACCEL" "loglevel=5 ${APPEND:-}" -serial mon:stdio
