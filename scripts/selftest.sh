#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The runner's own test: does it turn red? Each planted fault must fail the
# run for its own reason, and a guest without one must pass.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

RUNNER=$TOP/tests/runner
WORK=$BUILD/selftest
rm -rf "$WORK"
mkdir -p "$WORK"

# expect green|red DESCRIPTION COMMAND...
expect() {
	local colour=$1 what=$2 rc=0
	shift 2
	"$@" >"$WORK/last" 2>&1 || rc=1
	if { [ "$colour" = green ] && [ "$rc" = 0 ]; } || { [ "$colour" = red ] && [ "$rc" = 1 ]; }; then
		passed "runner: $what"
	else
		failed "runner: $what" "should be $colour"
		printf '%s\n' "${RED}    runner: $what: should be $colour${PLAIN}" >&2
		sed 's/^/    | /' "$WORK/last" >&2
	fi
}

# every_line_red FILE: each line alone, below a clean log.
every_line_red() {
	local line bad=0
	while read -r line; do
		{ cat "$RUNNER/clean.txt"; printf '%s\n' "$line"; } >"$WORK/line.log"
		! gate_console "$WORK/line.log" >/dev/null || { echo "passes the gate: $line"; bad=1; }
	done <"$1"
	return "$bad"
}

# ktap LINE...: a file of results, parsed.
ktap() {
	printf '%s\n' "KTAP version 1" "$@" >"$WORK/results.ktap"
	parse_ktap "$WORK/results.ktap" planted
}

# selftest_of PASSED [SKIP-REASON [STEP]]: what a run of hmm-tests is judged by.
selftest_of() {
	local number
	{
		for number in $(seq "$1"); do echo "ok $number t"; done
		[ -z "${2:-}" ] || echo "ok $(($1 + 1)) t # SKIP $2"
	} >"$WORK/hmm.ktap"
	: >"$WORK/results.hmm"
	RESULTS=$WORK/results.hmm KSERIES=7.3 judge_hmm_tests planted "${3:-hmm-tests}" "$WORK/hmm.ktap" "$1"
	cat "$WORK/results.hmm"
	[ ! -s "$WORK/results.hmm" ]
}

# companion_skips KERNEL REASON [STEP]: whether the companion may skip a case there for that.
companion_skips() {
	echo "ok 1 t # SKIP $2" >"$WORK/companion.ktap"
	: >"$WORK/results.companion"
	# shellcheck disable=SC2034 # read by judge_companion
	GUEST_DRIVER["planted"]=rust GUEST_KERNEL["planted"]=$1
	RESULTS=$WORK/results.companion judge_companion planted "${3:-companion}" "$WORK/companion.ktap"
	cat "$WORK/results.companion"
	[ ! -s "$WORK/results.companion" ]
}

# judged NAME PATTERN: whether what judge_guest counted for a planted guest
# has a failure that PATTERN matches.
judged_red() {
	awk -F '\t' -v pattern="$2" '$3 > 0 && $1 ~ pattern { found = 1 } { print } END { exit !found }' "$WORK/results.$1"
}
# Each failure that was counted for a planted guest, and nothing else, is a failed case in JUnit.
judged_in_junit() {
	local rows cases file
	rows=$(awk -F '\t' '$3 { rows++ } END { print rows + 0 }' "$WORK/results.$1")
	RESULTS=$WORK/results.$1 junit_checks
	cases=0
	for file in "$JUNIT/planted-$1".*.xml "$JUNIT/checks.xml"; do
		cases=$((cases + $(grep -cE '<(failure|error)[ />]' "$file")))
	done
	echo "$rows rows failed, $cases cases did"
	grep '<testcase' "$JUNIT/checks.xml"
	[ "$cases" -eq "$rows" ]
}
judged_green() { awk -F '\t' '{ print; bad += $3; good += $2 } END { exit bad || !good }' "$WORK/results.$1"; }

# stepped STATUS LINE...: a step that printed these results and ended so, or did
# not end; judged as one of the guest planted-step.
stepped() {
	local status=$1 dir=$WORK/vm/planted-step
	shift
	mkdir -p "$dir"
	printf '%s\n' "KTAP version 1" "$@" >"$dir/load.out"
	echo "#@ begin load${status:+$'\n'#@ end load $status}" >"$dir/output.log"
	: >"$WORK/results.step"
	VM=$WORK/vm RESULTS=$WORK/results.step judge_ktap planted-step load "$dir/load.out"
	judged_green step
}

# failure_told NAME ROW NOTE: whether the failures below a table say so of a row.
failure_told() { RESULTS=$WORK/results.$1 RED='' PLAIN='' show_failures | grep -xF "    failed: $2  $3"; }

# row_in_junit ROW FAILED FILE-SAYS: whether the checks have a failed case for a
# row, beside a file of its own that says so much, if anything.
row_in_junit() {
	rm -f "$JUNIT/$1.xml"
	[ -z "${3:-}" ] || echo "<testsuite>$3</testsuite>" >"$JUNIT/$1.xml"
	printf '%s\t1\t%s\t0\twhy\n' "$1" "$2" >"$WORK/results.row"
	RESULTS=$WORK/results.row junit_checks
	rm -f "$JUNIT/$1.xml"
	cat "$JUNIT/checks.xml"
	grep -qF "<testcase name=\"$1\"><failure>why" "$JUNIT/checks.xml"
}

# plant NAME LIMIT STEPS: boots a guest whose steps are tests/runner/steps.
plant() {
	STEP_DIR=$RUNNER/steps EXTRA_MODULES=("$BUILD/$KNAME/runner"/*.ko)
	make_initramfs "planted-$1" none "$3"
	GUEST_STEPS["planted-$1"]=$3
	start "booting with a planted fault: $1" "planted-$1" boot "planted-$1" "$2" ''
}

lock_cache
open_results
# What the planted runs count must not be counted as ours.
JUNIT=$WORK/junit
mkdir -p "$JUNIT"
provide_root
provide_kernel own
choose_accel
MODULE='' HMM_TESTS='' COMPANION=''

say "the runner's own test: planted logs"
cp "$RUNNER/clean.txt" "$WORK/clean.log"
expect green "a clean kernel log passes" gate_console "$WORK/clean.log"
expect green "each kind of kernel report fails" every_line_red "$RUNNER/reports.txt"
: >"$WORK/empty.log"
expect red "an empty kernel log fails" gate_console "$WORK/empty.log"
{ cat "$RUNNER/clean.txt"; grep 'Bad rss-counter' "$RUNNER/reports.txt"; } >"$WORK/one.log"
expect green "an expected report passes" gate_console "$WORK/one.log" '1:Bad rss-counter'
expect red "an expected report that comes too often fails" gate_console "$WORK/one.log" '0:Bad rss-counter'
expect red "an expected report that does not come fails" gate_console "$WORK/clean.log" '1:Bad rss-counter'
expect red "another report than the expected one fails" gate_console "$WORK/one.log" '1:Bad page state'
printf '%s\n' '[ 1.0] Oops: int3: 0000 [#1] SMP' '[ 1.0] RIP: 0010:try_to_wake_up+0x1/0x2' >"$WORK/int3.log"
expect green "int3 in the scheduler is known as the emulator's" emulator_fault "$WORK/int3.log"
sed 's/try_to_wake_up/migrate_vma_pages/' "$WORK/int3.log" >"$WORK/int3-elsewhere.log"
expect red "int3 elsewhere is not" emulator_fault "$WORK/int3-elsewhere.log"
{ echo '[ 0.9] WARNING: mm/memory.c:1'; cat "$WORK/int3.log"; } >"$WORK/int3-later.log"
expect red "int3 after another report is not" emulator_fault "$WORK/int3-later.log"

say "the runner's own test: planted results"
expect green "two passes pass" ktap 1..2 "ok 1 a" "ok 2 b"
expect green "a skip passes" ktap 1..2 "ok 1 a" "ok 2 b # SKIP no device"
expect red "a failed case fails" ktap 1..2 "ok 1 a" "not ok 2 b"
expect red "a missing case fails" ktap 1..3 "ok 1 a" "ok 2 b"
expect red "no case at all fails" ktap "# nothing"
expect green "38 of the selftest's cases and no gup_test pass" selftest_of 38 'Skipping test, could not find gup_test driver'
expect red "37 fail" selftest_of 37 'Skipping test, could not find gup_test driver'
expect red "a skip for another reason fails" selftest_of 38 'Not enough huge pages'
# shellcheck disable=SC2034 # read by judge_hmm_tests
GUEST_GUP["planted"]=yes
expect red "38 fail where there is gup_test" selftest_of 38 'DEVICE_COHERENT not available'
expect green "39 pass there" selftest_of 39 'DEVICE_COHERENT not available'
# shellcheck disable=SC2034 # read by judge_hmm_tests
GUEST_COHERENT["planted"]=yes
expect red "a coherent variant may not skip where there are coherent devices" selftest_of 78 'DEVICE_COHERENT not available'
expect red "77 fail there" selftest_of 77
expect green "78 pass there" selftest_of 78
expect red "75 without the benchmarks fail there" selftest_of 75 '' hmm-tests-quick
expect green "76 pass" selftest_of 76 '' hmm-tests-quick
GUEST_GUP["planted"]=
expect green "76 of all pass where both variants have no gup_test" selftest_of 76 'Skipping test, could not find gup_test driver'
expect red "75 fail there" selftest_of 75 'Skipping test, could not find gup_test driver'

expect green "the companion may skip on stock what needs fault injection" companion_skips stock 'this kernel has no fail-nth'
expect red "not on own" companion_skips own 'this kernel has no fail-nth'
expect red "nor anything else on stock" companion_skips stock 'no memory cgroup: none'
expect red "nor coherent devices where there are some" companion_skips stock 'no coherent devices'
expect red "the stress skips nothing" companion_skips stock 'no swap is active' stress

say "the runner's own test: JUnit"
expect green "a failed check is a failed case" row_in_junit 'defects: c, t1.refault' 1
expect green "so is one with a dot and no file of its own" row_in_junit 'mm-selftests.cow' 1
expect green "and one whose file does not say so" row_in_junit 'planted.mute' 1 '<testcase/>'
expect red "one whose file says so is not said twice" row_in_junit 'planted.said' 1 '<testcase><failure>why</failure></testcase>'
expect green "a step that passes" stepped 0 1..1 "ok 1 a"
expect red "a step that passes and does not end fails" stepped '' 1..1 "ok 1 a"
expect green "and no end is in JUnit" judged_in_junit step
expect red "a step that passes and ends with status 1 fails" stepped 1 1..1 "ok 1 a"
expect green "and its status is in JUnit" judged_in_junit step
expect red "no result at all fails" stepped 0 "# nothing"
expect green "and that there is none is in JUnit" judged_in_junit step
expect red "a failed case fails its step once" stepped 1 1..2 "not ok 1 a" "ok 2 b"
expect green "and is in JUnit once" judged_in_junit step
expect green "and has its name below the table" failure_told step planted-step.load "not ok: a"
expect red "what passed has not" failure_told step planted-step.load "b"

# mm_output RESULT: what a run of two programs printed, the first with that result,
# or ended by its limit before it had one.
mm_output() {
	case $1 in
	killed) printf '%s\n' "#mm begin cow" 1..2 "ok 2 - b" "#mm end cow 137" ;;
	*) printf '%s\n' "#mm begin cow" 1..2 "$1 1 - it is read at 0x7f$RANDOM" "ok 2 - b" "#mm end cow 0" ;;
	esac
	printf '%s\n' "#mm begin uffd" "1..0 # SKIP no userfaultfd" "#mm end uffd 4"
}

# mm_compared EXPECTED ALONE AGAIN BESIDE: whether these results are counted as
# EXPECTED, "passed failed skipped".
mm_compared() {
	local run=0 result counts
	for result in "${@:2}"; do
		run=$((run + 1))
		mm_output "$result" >"$WORK/mm-$run"
	done
	: >"$WORK/mm-results"
	mm_table "$WORK/mm-1" "$WORK/mm-2" "$WORK/mm-3" >"$WORK/mm-table"
	RESULTS=$WORK/mm-results count_mm "$WORK/mm-table"
	counts=$(awk -F '\t' '{ p += $2; f += $3; s += $4 } END { print p, f, s }' "$WORK/mm-results")
	echo "counted $counts instead of $1"
	[ "$counts" = "$1" ]
}

say "the runner's own test: comparing mm selftests"
expect green "the same three times passes" mm_compared "4 0 1" ok ok ok
expect green "a failure beside the driver fails" mm_compared "3 1 1" ok ok 'not ok'
expect green "so does a success only beside the driver" mm_compared "3 1 1" 'not ok' 'not ok' ok
expect green "what always fails proves nothing" mm_compared "3 0 2" 'not ok' 'not ok' 'not ok'
expect green "nor does what fails now and then" mm_compared "3 0 2" ok 'not ok' 'not ok'
expect green "what a limit ended without the driver says little" mm_compared "2 0 3" killed killed ok
expect green "what a limit ended beside it fails" mm_compared "2 2 1" ok ok killed
expect green "a case that is missing beside the driver fails" mm_compared "3 1 1" ok ok '#'

# shellcheck source=tests/runner/checkout.sh
. "$RUNNER/checkout.sh"

step "building the planted modules" planted-modules in_root sh -e -c '
	mkdir -p "$2" && exec make -C "$1" M=/repo/tests/runner MO="$2" LLVM=1 modules' \
	sh "/cache/${KOUT##*/}" "/repo/build/$KNAME/runner" || die "the planted modules could not be built" "look at $LOGS/planted-modules.log"
plant good 60 "good"
# On a busy machine a boot takes its time.
plant hang 30 "good hang"
finish 2>"$WORK/finish.log" || true
plant early 60 "early good"
plant warn 60 "warn good"
plant kunit 60 "kunit-load good"
GUEST_KUNIT["planted-kunit"]=yes
finish || true
for name in good hang early warn kunit; do
	RESULTS=$WORK/results.$name judge_guest "planted-$name" >"$WORK/judge.$name" 2>&1
done
expect green "a guest without a fault passes" judged_green good
expect red "a guest that hangs is not green" judged_green hang
expect green "a guest that hangs fails by its end" judged_red hang 'end of run'
expect green "a guest that hangs shows the end of its log" grep -q '| .*begin hang' "$WORK/finish.log"
expect green "a guest that reboots in a step fails by its end" judged_red early 'end of run'
expect green "and by the missing results" judged_red early 'early'
expect green "a planted WARN fails by the kernel's log" judged_red warn 'kernel log'
expect green "a planted KUnit failure fails by its case" judged_red kunit 'kunit.kunit$'
expect green "and by the kernel's log" judged_red kunit 'kernel log'
for name in hang early warn kunit; do
	expect green "each of its failures is in JUnit: $name" judged_in_junit "$name"
done

[ -n "${AT_EXIT:-}" ] || exit 0
JUNIT=$BUILD/junit
show_results
closing
