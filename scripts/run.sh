#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make run: from a fresh machine to Debian's unpatched kernel with the module loaded, a
# huge page migrated both ways, the unmodified selftest passed, and a summary.
set -euo pipefail
LIB=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=scripts/lib/all.sh
. "$LIB/all.sh"

driver=${DRIVER:-rust}
lock_cache
open_results
provide_root
guest run stock "$driver" "load demo hmm-tests unload"
finish || true
judge_guests

say "what the demonstration shows (build/vm/run/demo.out)"
sed 's/^/    /' "$VM/run/demo.out"
say "results, driver $driver on $(uname_of_guest run)"
show_results
note "kernel log   build/vm/run/console.log"
note "test output  build/vm/run/output.log, JUnit in build/junit/, every step's log in build/logs/"
note "total time   $(human_time "$SECONDS")"
closing
