#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# clean.sh build|update|cache: removes build/, the record of the newest kernel, or
# the whole cache.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

case $1 in
build)
	[ -d "$BUILD" ] || exit 0
	lock_build
	rm -rf "$BUILD"
	;;
update)
	# The kernel must not change during a run.
	lock_cache
	rm -f "$CACHE/kernel-release"
	say "the next run looks for the newest packaged kernel"
	;;
cache) remove_cache ;;
esac
