#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make test: everything that checks the project and is fast enough to be run
# before each commit. make test-all (--all) adds the slow rest.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

# What is booted: name, kernel, driver, steps. Kernels are in provide_kernel
# (lib/kernel.sh), steps in guest/steps; guests of a list run side by side.
GUESTS_TEST=(
	"stock|stock|rust|load demo companion hmm-tests unload"
	"own|own|rust|load demo companion hmm-tests unload"
)
GUESTS_ALL=(
	"reference|stock|c|load hmm-tests unload"
)

run_guests() {
	local entry name kernel driver steps
	for entry; do
		IFS='|' read -r name kernel driver steps <<<"$entry"
		LIMIT=420 guest "$name" "$kernel" "$driver" "$steps"
	done
	finish || true
	judge_guests
}

# The kernel's own format, wherever the file is.
rustfmt_all() {
	in_root sh -e -c '
		find rust src tests -name "*.rs" -not -path "tests/selftests/*" -exec \
			rustfmt --check --edition 2021 --config-path "$1/.rustfmt.toml" {} +
		cd tests/selftests && cargo fmt --check' sh "/cache/${KPKG##*/}/source"
}

# The kernel's lints (they are in its Makefile); a warning ends the build.
clippy_module() {
	build_module "/cache/${KOUT##*/}" "/repo/build/$KNAME/clippy" "${KMAKE[@]}" CLIPPY=1 KRUSTFLAGS=-Dwarnings
}

clippy_companion() {
	companion_cargo clippy --release --locked --all-targets --target x86_64-unknown-linux-gnu -- -D warnings
}

test_companion() {
	companion_cargo test --release --locked --target x86_64-unknown-linux-gnu
}

shellcheck_all() {
	in_root sh -e -c '
		{ find scripts tests .ci -name "*.sh"; find scripts/guest tests/runner/steps -type f; echo .ci/run; } |
			sort -u | xargs shellcheck -x'
}

# What the checks depend on: the names and contents of every file of the tree.
tree_digest() {
	cd "$TOP"
	git ls-files -co --exclude-standard -z | xargs -0 sha256sum 2>/dev/null | sha256sum | cut -d' ' -f1
}

test_everything() {
	provide_kernel own
	check "format of the Rust files" rustfmt rustfmt_all
	check "shellcheck" shellcheck shellcheck_all
	check "clippy, module" clippy-module clippy_module
	check "clippy, companion" clippy-companion clippy_companion
	check "unit tests of the companion" companion-unit test_companion
	"$TOP/scripts/selftest.sh" || failed "runner: its own test" "ended before its end"
	run_guests "${GUESTS_TEST[@]}"
}

test_slow_rest() {
	local rows
	run_guests "${GUESTS_ALL[@]}"
	if [ -x "$TOP/scripts/experiment.sh" ]; then
		say "make experiment"
		rows=$(wc -l <"$RESULTS")
		if "$TOP/scripts/experiment.sh"; then
			[ "$(wc -l <"$RESULTS")" -gt "$rows" ] || passed experiment
		else
			# It may have counted the failure itself.
			tail -n +$((rows + 1)) "$RESULTS" | awk -F '\t' '$3 { bad = 1 } END { exit !bad }' || failed experiment "exit status"
		fi
	fi
}

lock_cache
open_results
provide_root
tested=$BUILD/tested
digest=$(tree_digest)
if [ "${1:-}" = --all ] && [ -n "${DMIRROR_TESTED:-}" ] && [ "$(head -n 1 "$tested" 2>/dev/null)" = "$digest" ]; then
	# .ci/run calls both targets on one tree: the second counts the first's results.
	say "make test ran on this very tree; its results count, it is not run again"
	provide_packages
	tail -n +2 "$tested" >"$RESULTS"
	[ ! -d "$BUILD/tested-junit" ] || cp "$BUILD/tested-junit"/* "$BUILD/junit/"
else
	rm -f "$tested"
	test_everything
	{ echo "$digest"; cat "$RESULTS"; } >"$tested"
	rm -rf "$BUILD/tested-junit"
	cp -r "$BUILD/junit" "$BUILD/tested-junit"
fi
[ "${1:-}" != --all ] || test_slow_rest

say "results"
show_results
note "kernel logs and test output in build/vm/, JUnit in build/junit/, every step's log in build/logs/"
note "total time $(human_time "$SECONDS")"
closing
