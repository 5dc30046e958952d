#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make coverage: boots the guests of make test and make test-all that run our driver under a QEMU plugin that
# records what they execute, and reports which lines of rust/, src/ and the core no guest has executed. The kernel
# coverage, which has debug information, replaces own. Debian's kernel has none, but the module built for it has.
# Left out are the kernel debug, which runs the same cases; benchmarks, including that of the selftest, which has a
# time limit; and the guests with all interleavings, of which "own" runs a third.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

WORK=$BUILD/coverage
LEFT_OUT=' bench-smoke bench-memory-smoke kmemleak interleave interleave-rest '

# Prints the guests of this run: entries as in suites.sh, the slow ones first, with twice their time limit.
coverage_guests() {
	local entry name kernel driver steps allowed coherent limit rest step kept short=()
	for entry in "${GUESTS_TEST[@]}" "${GUESTS_ALL[@]}"; do
		IFS='|' read -r name kernel driver steps allowed coherent limit rest <<<"$entry"
		if [ "$driver" != rust ] || [ "$kernel" = debug ]; then continue; fi
		kept=()
		for step in $steps; do
			[ "$step" != hmm-tests ] || step=hmm-tests-quick
			[[ $LEFT_OUT == *" $step "* ]] || kept+=("$step")
		done
		[ "${kept[*]}" != "load unload" ] || continue
		entry="coverage-$name|${kernel/#own/coverage}|$driver|${kept[*]}|$allowed|$coherent|$((2 * ${limit:-600}))|$rest"
		if [ -n "$limit" ]; then echo "$entry"; else short+=("$entry"); fi
	done
	printf '%s\n' "${short[@]}"
}

# report_arguments GUEST...: prints the arguments of the report, one per line.
report_arguments() {
	local entry name kernel rest
	for entry; do
		IFS='|' read -r name kernel rest <<<"$entry"
		echo --guest
		echo "/repo/build/vm/$name,/repo/build/$kernel/module/rust_dmirror.ko$([ "$kernel" = stock ] || echo ",$VMLINUX")"
	done
}

# lcov is not in ROOT_PACKAGES, since a change of those changes the key of everything in the cache.
provide_lcov() {
	in_root sh -c 'command -v genhtml' >/dev/null ||
		step "installing lcov in the build root" lcov \
			in_root sh -c 'apt-get update && apt-get install -y --no-install-recommends lcov' ||
		die "lcov could not be installed" "$(remedy "$LOGS/lcov.log")"
}

pages() {
	in_root genhtml --quiet --rc derive_function_end_line=0 --legend --title rust_dmirror --prefix /repo --prefix "/cache/${OWN_SOURCE##*/}" \
		--output-directory /repo/build/coverage/html /repo/build/coverage/lcov.info
}

# Plugins need TCG.
export DMIRROR_ACCEL=tcg
# As in make test-all.
export RACES=${RACES:-15} RACE_SECONDS=${RACE_SECONDS:-4}
lock_cache
open_results
provide_root
provide_lcov
provide_coverage
provide_kernel coverage
VMLINUX=/cache/${KOUT##*/}/vmlinux
mapfile -t guests < <(coverage_guests)
run_guests "${STRESS_SECONDS:-60}" "${guests[@]}"

rm -rf "$WORK/html"
mkdir -p "$WORK"
mapfile -t arguments < <(report_arguments "${guests[@]}")
conditions="Linux $KVERSION.$(git -C "$TOP" log -1 --format=' Commit %h.' 2>/dev/null) Guests: $(printf '%s\n' "${guests[@]}" | sed 's/|.*//; s/^coverage-//' | paste -sd ' ')."
if step "mapping addresses to lines" coverage-report in_root "$COVERAGE_REPORT" "${arguments[@]}" --repo /repo --kernel "/cache/${OWN_SOURCE##*/}" \
	--conditions "$conditions" --lcov /repo/build/coverage/lcov.info --table /repo/build/coverage/coverage.md; then
	passed "coverage: report"
else
	failed "coverage: report" "$LOGS/coverage-report.log"
fi
[ ! -s "$WORK/lcov.info" ] || check "making pages of it" coverage-html pages

say "lines that were executed"
sed 's/^/    /' "$LOGS/coverage-report.log"
say "results"
show_results
note "with source       build/coverage/html/index.html"
note "not executed      build/coverage/coverage.md"
note "to show it in the tree: cp build/coverage/coverage.md tests/"
note "total time        $(human_time "$SECONDS")"
closing
