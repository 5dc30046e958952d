#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make interleavings: all of tests/interleavings.md on one KERNEL, in two guests side by
# side. make test-all does that on own and stock, and on debug, where a cell takes
# seconds, a sample.
set -euo pipefail
LIB=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=scripts/lib/all.sh
. "$LIB/all.sh"

kernel=${KERNEL:-own} last=''
[ "$kernel" != debug ] || last=kmemleak
lock_cache
open_results
provide_root
for half in even odd; do
	APPEND="HALF=$half kunit.enable=0" LIMIT=7200 guest "interleavings-$half" "$kernel" rust "load interleave unload $last"
done
finish || true
release=$(uname_of_guest interleavings-even)
judge_guests

say "results on $release ($kernel)"
show_results
note "what each cell did  build/vm/interleavings-*/interleave.out"
note "total time          $(human_time "$SECONDS")"
closing
