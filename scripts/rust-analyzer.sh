#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make rust-analyzer: writes rust-project.json, by which rust-analyzer finds the module and the kernel's crates
# as they are built for the kernel own (KERNEL=stock), or for a tree of one's own (KDIR).
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[ -z "${KDIR:-}" ] || exec "$here/kdir.sh" "$KDIR" rust-analyzer

# shellcheck source=scripts/lib/all.sh
. "$here/lib/all.sh"
lock_cache
provide_root
provide_kernel "${KERNEL:-own}"
step "rust-project.json, as built for $KNAME" rust-analyzer describe_module ||
	die "rust-project.json could not be made" "look at $LOGS/rust-analyzer.log"
say "rust-project.json, with the kernel's crates and this one, in $(human_time "$SECONDS")"
