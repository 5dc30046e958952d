#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make stress: runs only the stress, for any time, in one guest.
set -euo pipefail
LIB=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=scripts/lib/all.sh
. "$LIB/all.sh"

seconds=${STRESS_SECONDS:-60}
lock_cache
open_results
provide_root
STRESS=$(stress_options "$seconds") LIMIT=$((300 + seconds)) guest stress "${KERNEL:-own}" rust "load stress unload"
finish || true
judge_guests

say "what the stress says (build/vm/stress/stress.out)"
sed -n 's/^#/    #/p' "$VM/stress/stress.out"
say "results on $(uname_of_guest stress)"
show_results
note "kernel log  build/vm/stress/console.log"
note "total time  $(human_time "$SECONDS")"
closing
