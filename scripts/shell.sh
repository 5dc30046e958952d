#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make shell: the guest for people, on this terminal.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

lock_cache
provide_root
prepare_guest shell "${KERNEL:-stock}" "${DRIVER:-rust}" shell
say "booting $(kernel_title), $ACCEL; Ctrl-A X ends the machine"
# A later loglevel wins: a person wants to see warnings, not the boot.
unlock_cache
qemu shell 0 "$ACCEL" "loglevel=5 ${APPEND:-}" -serial mon:stdio
