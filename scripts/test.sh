#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make test: everything that checks the project and is fast enough to be run
# before each commit. make test-all (--all) adds the slow rest, and make
# mm-selftests (--mm) is only the comparison of other mm selftests.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

# The kernel's lints (they are in its Makefile); a warning ends the build.
clippy_module() {
	build_module "/cache/${KOUT##*/}" "/repo/build/$KNAME/clippy" "${KMAKE[@]}" CLIPPY=1 KRUSTFLAGS=-Dwarnings
}

clippy_companion() {
	companion_cargo clippy --release --locked --all-targets --target x86_64-unknown-linux-gnu -- -D warnings
}

# tests/logic with and without loom. It includes the module's pure files, which so are linted twice.
clippy_logic() {
	local loom
	for loom in '' yes; do
		LOOM=$loom logic_cargo clippy --locked --all-targets --target x86_64-unknown-linux-gnu -- -D warnings || return
	done
}

# cargo_tests TITLE ROW COMMAND...: counts the tests as cargo does; counts one failure if
# none ran, or if cargo failed before them.
cargo_tests() {
	local row=$2 bad=0 passed failed ignored
	step "$@" --locked --target x86_64-unknown-linux-gnu || bad=1
	read -r passed failed ignored <<<"$(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$LOGS/$row.log")"
	[ "$passed" -gt 0 ] || bad=1
	[ "$bad" = 0 ] || [ "$failed" -gt 0 ] || failed=1
	count "$row" "$passed" "$failed" "$ignored"
}

unit_tests() {
	cargo_tests "unit tests of the companion" companion-unit companion_cargo test --release
	cargo_tests "pure logic against models" logic logic_cargo test
	LOOM=yes cargo_tests "races in the pure logic" logic-loom logic_cargo test
	cargo_tests "report of make coverage" coverage-unit coverage_cargo test
	cargo_tests "finding and weaving of mutants" mutants-unit mutants_cargo test --release
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
	check "clippy, pure logic" clippy-logic clippy_logic
	check "clippy, coverage" clippy-coverage coverage_cargo clippy --locked --all-targets --target x86_64-unknown-linux-gnu -- -D warnings
	check "clippy, mutants" clippy-mutants mutants_cargo clippy --release --locked --all-targets --target x86_64-unknown-linux-gnu -- -D warnings
	unit_tests
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
	[ -z "${KASAN_BENCHMARK:-}" ] || run_guests 0 "${GUESTS_ALONE[@]}"
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
show_failures
closing
