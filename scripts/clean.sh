#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# clean.sh build|update|cache: forget what this checkout built, which kernel is
# the newest, or everything. What is in the cache is keyed by what it is made from.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

case $1 in
build) rm -rf "$BUILD" ;;
update)
	rm -f "$CACHE/kernel-release"
	say "the next run looks for the newest packaged kernel"
	;;
cache)
	lock_cache
	say "removing $CACHE"
	# Not all of the build root's files belong to a user without root.
	as_root_ids rm -rf "$CACHE"
	;;
esac
