#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# clean.sh build|update|cache: forget what this checkout built, which kernel is
# the newest, or everything. What is in the cache is keyed by what it is made from.
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
	# A run that is under way must not have the kernel changed.
	lock_cache
	rm -f "$CACHE/kernel-release"
	say "the next run looks for the newest packaged kernel"
	;;
cache) remove_cache ;;
esac
