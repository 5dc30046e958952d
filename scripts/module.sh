#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make module: builds only the module, for Debian's kernel or for a tree of one's own
# (KDIR).
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[ -z "${KDIR:-}" ] || exec "$here/kdir.sh" "$KDIR"

# shellcheck source=scripts/lib/all.sh
. "$here/lib/all.sh"
lock_cache
provide_root
provide_stock
provide_rust_driver
say "${MODULE#"$TOP"/}, for $KRELEASE"
