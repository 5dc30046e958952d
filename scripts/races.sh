#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make races: runs RACES lists of threads for RACE_SECONDS each. Each thread repeats one operation on the same huge
# page. The module is loaded for each list, and must unload at once.
set -euo pipefail
LIB=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=scripts/lib/all.sh
. "$LIB/all.sh"

export RACES=${RACES:-1000} RACE_SECONDS=${RACE_SECONDS:-15} RACE_SEED=${RACE_SEED:-0}
lock_cache
open_results
provide_root
# There are fewer than three hundred lists. The limit includes loading and unloading.
most=$((RACES < 300 ? RACES : 300))
APPEND=kunit.enable=0 LIMIT=$((300 + most * (RACE_SECONDS + 15))) guest races "${KERNEL:-own}" rust races
finish || true
judge_guests

say "results on $(uname_of_guest races), seed $RACE_SEED"
show_results
note "what each list did  build/vm/races/races.out"
note "kernel log          build/vm/races/console.log"
note "total time          $(human_time "$SECONDS")"
closing
