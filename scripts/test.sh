#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make test: everything that checks the project and is fast enough to be run
# before each commit. make test-all (--all) adds the slow rest, and make
# mm-selftests (--mm) is only the comparison of other mm selftests.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

# What is booted: name, kernel, driver, steps, and the kernel reports that are
# expected, COUNT:REGEX; "coherent" gives it coherent devices; its limit in seconds,
# where it needs more than the others; what the kernel's command line has besides; and
# "numa" gives it two nodes, and hugetlb pages of 1 GiB.
# Kernels are in provide_kernel (lib/kernel.sh), steps in guest/steps; two guests of a list run side by side.
GUESTS_TEST=(
	"own-hmm|own|rust|load hmm-tests stress unload||coherent"
	"own|own|rust|load demo companion interleave-sample unload bad-parameters rmmod-busy||coherent|1200"
	"stock|stock|rust|load demo companion hmm-tests bench-smoke unload bench-memory-smoke good-parameters rmmod-busy|||1200"
)
# The C driver, for the record: where it is known wrong, cases fail as expected,
# and three of them make it warn (K8, T19). The kernel "debug" takes its time: the
# benchmark of the selftest must end in two minutes, which it does without what
# notes, poisons or looks for each page.
GUESTS_ALL=(
	"debug|debug|rust|load companion unload rmmod-busy kmemleak||coherent|1800"
	"debug-hmm|debug|rust|load hmm-tests-quick unload kmemleak||coherent|1200"
	"debug-hmm-whole|debug|rust|load hmm-tests unload|||1200|page_owner=off page_poison=0 kmemleak=off mitigations=off"
	"debug-stress|debug|rust|load stress unload kmemleak||coherent|1200"
	"interleave|own|rust|load interleave unload|||2400"
	"stock-interleave|stock|rust|load interleave unload|||2400"
	"c|stock|c|load companion unload|3:WARNING: .*dmirror_do_fault"
	"stress|own|rust|load split-before stress unload"
	"races|own|rust|races||||kunit.enable=0"
	"movable|own|rust|load companion unload|||1200|movablecore=1G"
	"numa|own|rust|load companion unload|||1200||numa"
)

# run_guests SECONDS-OF-STRESS GUEST...
run_guests() {
	local entry name kernel driver steps allowed coherent limit append hardware seconds=$1
	shift
	for entry; do
		IFS='|' read -r name kernel driver steps allowed coherent limit append hardware <<<"$entry"
		# Two at a time, the long ones first: more would fight for two processors, and tests for their time.
		LEAVE=1 finish || true
		STRESS=$(stress_options "$seconds") LIMIT=$((${limit:-600} + seconds)) ALLOWED=$allowed COHERENT=$coherent APPEND=$append HARDWARE=$hardware \
			guest "$name" "$kernel" "$driver" "$steps"
	done
	finish || true
	judge_guests
}

# The kernel's lints (they are in its Makefile); a warning ends the build.
clippy_module() {
	build_module "/cache/${KOUT##*/}" "/repo/build/$KNAME/clippy" "${KMAKE[@]}" CLIPPY=1 KRUSTFLAGS=-Dwarnings
}

clippy_companion() {
	companion_cargo clippy --release --locked --all-targets --target x86_64-unknown-linux-gnu -- -D warnings
}

clippy_mutants() {
	mutants_cargo clippy --release --locked --all-targets -- -D warnings
}

# unit_tests NAME COMMAND...: counted as cargo counts them, or as one failure if it did not come that far.
unit_tests() {
	local name=$1 bad=0 passed failed ignored
	shift
	step "unit tests: $name" "$name-unit" "$@" || bad=1
	read -r passed failed ignored <<<"$(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$LOGS/$name-unit.log")"
	[ "$bad" = 0 ] || [ "$failed" -gt 0 ] || failed=1
	count "$name-unit" "$passed" "$failed" "$ignored"
}

shellcheck_all() {
	in_root sh -e -c '
		{ find scripts tests .ci -name "*.sh"; find scripts/guest tests/runner/steps -type f; echo .ci/run; } |
			sort -u | xargs shellcheck -x'
}

test_everything() {
	provide_kernel own
	check "format of the Rust files" rustfmt "$TOP/scripts/format.sh" --check
	check "shellcheck" shellcheck shellcheck_all
	check "clippy, module" clippy-module clippy_module
	check "clippy, companion" clippy-companion clippy_companion
	check "clippy, mutants" clippy-mutants clippy_mutants
	unit_tests companion companion_cargo test --release --locked --target x86_64-unknown-linux-gnu
	unit_tests mutants mutants_cargo test --release --locked
	"$TOP/scripts/selftest.sh" || failed "runner: its own test" "ended before its end"
	run_guests "$STRESS_FAST" "${GUESTS_TEST[@]}"
}

# A script that counts into the same tally, as what it counted or as one failure.
other_script() {
	local name=$1 rows
	say "make $name"
	rows=$(wc -l <"$RESULTS")
	if "$TOP/scripts/$name.sh"; then
		[ "$(wc -l <"$RESULTS")" -gt "$rows" ] || passed "$name"
	else
		# It may have counted the failure itself.
		tail -n +$((rows + 1)) "$RESULTS" | awk -F '\t' '$3 { bad = 1 } END { exit !bad }' || failed "$name" "exit status"
	fi
}

test_slow_rest() {
	# make races has all of them.
	export RACES=${RACES:-15} RACE_SECONDS=${RACE_SECONDS:-4}
	run_guests "${STRESS_SECONDS:-120}" "${GUESTS_ALL[@]}" "${MM_GUESTS[@]}"
	compare_mm
	other_script experiment
	other_script defects
}

# Hours are for the last stress of a run.
STRESS_FAST=60
[ "${1:-}" = --all ] || STRESS_FAST=${STRESS_SECONDS:-60}

lock_cache
open_results
provide_root
tested=$BUILD/tested
digest=$(tree_digest "$TOP") || {
	digest=''
	note "without git nothing tells whether this very tree was tested before"
}
if [ "${1:-}" = --mm ]; then
	run_guests 0 "${MM_GUESTS[@]}"
	compare_mm
elif [ "${1:-}" = --all ] && [ -n "${DMIRROR_TESTED:-}" ] && [ -n "$digest" ] && [ "$(head -n 1 "$tested" 2>/dev/null)" = "$digest" ]; then
	# .ci/run calls both targets on one tree: the second counts the first's results.
	say "make test ran on this very tree; its results count, it is not run again"
	provide_packages
	tail -n +2 "$tested" >"$RESULTS"
	[ ! -d "$BUILD/tested-junit" ] || cp "$BUILD/tested-junit"/* "$JUNIT/"
else
	rm -f "$tested"
	test_everything
	{ echo "$digest"; cat "$RESULTS"; } >"$tested"
	rm -rf "$BUILD/tested-junit"
	cp -r "$JUNIT" "$BUILD/tested-junit"
fi
[ "${1:-}" != --all ] || test_slow_rest

say "results"
show_results
note "kernel logs and test output in build/vm/, JUnit in build/junit/, every step's log in build/logs/"
note "total time $(human_time "$SECONDS")"
closing
