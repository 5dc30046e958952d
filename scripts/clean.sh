#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# clean.sh build|update: forget what this checkout built, or which kernel is
# the newest. The rest of the cache is keyed by what it is made from.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case $1 in
build) rm -rf "$BUILD" ;;
update)
	rm -f "$CACHE/kernel-release"
	say "the next run looks for the newest packaged kernel"
	;;
esac
