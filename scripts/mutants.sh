#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make mutants: small changes of src/ and rust/, MUTANTS of them, and whether the suites notice. All are
# woven into one module, each behind a switch (tests/mutants); one guest says which case reaches which.
# The tests of the pure logic try first what they compile. Then MUTANT_GUESTS guests side by side try one
# mutant after the other: by a minute of the suites and cases that reach it, and in the end what survived
# and has no reason in tests/mutants/equivalent.toml by all the other cases.
#
# build/mutants keeps the state: with the same seed and no changes, a run continues where the last one ended. If
# only tests have changed, noticed mutants stay noticed, survivors are tried again, and a case that keeps its name
# is assumed to reach the same mutants (make clean starts again).
# MUTANT_SECONDS=N replaces the minute. MUTANT_IDS=ID,ID tries only these.
# MUTANT_GLANCE=yes is for few mutants: finding out what cases reach, and trying a mutant, have a time limit.
# Survivors are no failure of this script.
set -euo pipefail
LIB=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=scripts/lib/all.sh
. "$LIB/all.sh"

MUTANTS=${MUTANTS:-300}
IDS=${MUTANT_IDS:-}
GLANCE=${MUTANT_GLANCE:-}
# Seconds for finding out what cases reach, and for trying a mutant.
REACH_SECONDS=${GLANCE:+90}
TRY_SECONDS=${MUTANT_SECONDS:-${GLANCE:+20}}
GUESTS_AT_A_TIME=${MUTANT_GUESTS:-2}
# shellcheck disable=SC2153 # of common.sh
WORK=$BUILD/mutants
# Inside the root.
work=build/mutants
[ "${SEED:-random}" != random ] || SEED=$((RANDOM * 32768 + RANDOM))
[[ $MUTANTS$SEED$GUESTS_AT_A_TIME =~ ^[0-9]+$ ]] || die "MUTANTS, SEED and MUTANT_GUESTS are numbers" "make mutants MUTANTS=6 SEED=random"
[[ $IDS =~ ^[0-9a-f,]*$ ]] || die "MUTANT_IDS is '$IDS'" "ids as make mutants prints them, with commas between"
SAMPLE=(--mutants "$MUTANTS" --seed "$SEED")
file=results.jsonl
[ -z "$IDS" ] || SAMPLE+=(--ids "$IDS") file=ids.jsonl

# mutants_in DIRECTORY COMMAND...
mutants_in() { in_root "/cache/$CARGO_TARGET/release/mutants" --results "$file" --work "$@"; }
mutants() { mutants_in "$work" "$@"; }

build_woven() {
	MODULE_SOURCE=/repo/$work/woven build_module "/cache/${KOUT##*/}" "/repo/$work/module" "${KMAKE[@]}" \
		'KRUSTFLAGS=--cap-lints=allow --error-format=json'
}

# Builds the tests of the pure logic, to be run without cargo.
build_woven_logic() {
	in_root CARGO_TARGET_DIR="/cache/$CARGO_TARGET/logic-mutants" RUSTFLAGS=-Awarnings CARGO_TERM_COLOR=never \
		sh -e -c 'cd "$1" && exec cargo test --locked --no-run --message-format=json --target x86_64-unknown-linux-gnu' \
		sh "$work/logic/woven/tests/logic"
}

# weave STAMP DIRECTORY BUILD [OPTION]: builds the woven module. Mutants that do not compile are dropped and the
# rest is built again, several times, as the compiler reports its errors in stages.
weave() {
	local stamp=$1 directory=$2 build=$3 round
	shift 3
	mkdir -p "$TOP/$directory"
	for round in 1 2 3 4 5 6 7 8 9 10; do
		mutants_in "$directory" weave "$@" || return
		echo "build $round"
		if "$build" >"$TOP/$directory/build.log" 2>&1; then
			echo "$stamp" >"$TOP/$directory/woven.stamp"
			return
		fi
		mutants_in "$directory" blame "$directory/build.log" || return
	done
	return 1
}

# without_tests FILE...: prints Rust files without their KUnit suites.
without_tests() { awk 'FNR == 1 { on = 1; print FILENAME } /^#\[kunit_tests\(/ { on = 0 } on' "$@"; }

provide_woven() {
	local tool stamp
	step "building the tool that weaves mutants" mutants-tool mutants_cargo build --release --locked ||
		die "tests/mutants could not be built" "$(remedy "$LOGS/mutants-tool.log")"
	tool=$(find "$TOP"/tests/mutants/{src,templates,Cargo.lock} -type f | sort | xargs cat | sha256sum | cut -c1-12)
	[ "$(cat "$WORK/tool.stamp" 2>/dev/null)" = "$tool" ] || rm -rf "$WORK"
	mkdir -p "$WORK"
	echo "$tool" >"$WORK/tool.stamp"
	# shellcheck disable=SC2153 # of provide_own
	stamp=$(digest "$(find "$TOP"/{Kbuild,include,rust,scripts/uapi-bindings.sh,src,tests/kunit} -type f | sort | xargs sha256sum)" "$tool" "$KOUT" "$OWN_STAMP")
	WOVEN_STAMP=$stamp
	# The parts of this that are no tests.
	CODE_STAMP=$(digest "$(cd "$TOP" && find rust src -name '*.rs' | sort | xargs bash -c "$(declare -f without_tests)"$'\nwithout_tests "$@"' bash)" \
		"$(cd "$TOP" && find Kbuild include rust scripts/uapi-bindings.sh src -type f ! -name '*.rs' | sort | xargs sha256sum)" "$tool" "$KOUT" "$OWN_STAMP")
	if [ "$(cat "$WORK/woven.stamp" 2>/dev/null)" = "$stamp" ]; then
		cached "the module with its mutants"
	else
		step "weaving the mutants in, and building the module" mutants-weave weave "$stamp" "$work" build_woven ||
			die "the module with its mutants could not be built" "look at $LOGS/mutants-weave.log and $WORK/build.log"
		note "$(grep 'woven in' "$LOGS/mutants-weave.log" | tail -n 1)"
	fi
	stamp=$(digest "$stamp" "$(find "$TOP/tests/logic" -type f ! -path '*/proptest-regressions/*' | sort | xargs sha256sum)")
	LOGIC_STAMP=$stamp
	if [ "$(cat "$WORK/logic/woven.stamp" 2>/dev/null)" = "$stamp" ]; then
		cached "the tests of the pure logic with its mutants"
	else
		step "the same for the tests of the pure logic" mutants-weave-logic weave "$stamp" "$work/logic" build_woven_logic --logic ||
			die "the tests of the pure logic could not be built with mutants" "look at $LOGS/mutants-weave-logic.log and $WORK/logic/build.log"
		note "$(grep 'woven in' "$LOGS/mutants-weave-logic.log" | tail -n 1)"
	fi
}

# boot_mutants NAME LIMIT FILE
boot_mutants() {
	local name=$1 limit=$2
	MODULE=$WORK/module/rust_dmirror.ko
	# Extra files for /lib, which need not be modules.
	EXTRA_MODULES=("$WORK/module/dmirror_mutant.ko" "$3")
	# shellcheck disable=SC2086 # parameters are words
	make_initramfs "$name" rust mutants $COHERENT_PARAMETERS
	VM_MEMORY=$COHERENT_MEMORY VM_QUIET=400 boot "$name" "$limit" "$KAPPEND $COHERENT_APPEND oops=panic kunit.autorun=0"
}

provide_reach() {
	local stamp
	if [ "$(cat "$WORK/code.stamp" 2>/dev/null)" != "$CODE_STAMP" ]; then
		rm -f "$WORK"/{reach.json,reach.stamp,run.stamp}
		echo "$CODE_STAMP" >"$WORK/code.stamp"
	fi
	stamp=$(digest "$WOVEN_STAMP" "$COMPANION" "$SWAP_DISK" "$REACH_SECONDS")
	RUN_STAMP="$stamp $LOGIC_STAMP"
	if [ "$(cat "$WORK/reach.stamp" 2>/dev/null)" = "$stamp" ]; then
		cached "which case reaches which mutant"
		return
	fi
	mutants known ${REACH_SECONDS:+--seconds "$REACH_SECONDS"} "$work/known.json" || die "reach.json is damaged" "make clean"
	step "running what is new once: which case reaches which mutant" mutants-reach boot_mutants mutants-reach 3600 "$WORK/known.json" ||
		die "the guest without a mutant failed" "look at $VM/mutants-reach"
	mutants reach build/vm/mutants-reach/output.log | sed 's/^/    /' ||
		die "the suites were not run to their end" "look at $VM/mutants-reach"
	echo "$stamp" >"$WORK/reach.stamp"
}

# tests_of_logic: tries the sample with the tests of the pure logic.
tests_of_logic() {
	local program
	program=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$WORK/logic/build.log" | tail -n 1)
	in_root sh -c 'cd "$1" && shift && exec "$@"' sh "$work/logic/woven/tests/logic" env PROPTEST_CASES=300 \
		"/cache/$CARGO_TARGET/release/mutants" --work "/repo/$work" --results "$file" logic "${SAMPLE[@]}" --woven "/repo/$work/logic" "$program"
}

# Prints the milliseconds that a fixed piece of work takes.
spin() {
	local start=${EPOCHREALTIME/./} n
	for ((n = 0; n < 200000; n++)); do :; done
	echo $(((${EPOCHREALTIME/./} - start) / 1000))
}

# Waits while the CPUs are busy with other work: a guest that does not get on has no verdicts.
await_calm() {
	local usual now
	usual=$(cat "$WORK/spin" 2>/dev/null || echo 100000)
	while now=$(spin) && [ "$now" -gt $((15 * usual)) ]; do
		echo "waiting: the machine is busy, $now ms instead of $usual"
		sleep 10
	done
	[ "$now" -ge "$usual" ] || echo "$now" >"$WORK/spin"
}

# worker NUMBER: boots guests until its share of the sample has been tried.
worker() {
	local number=$1 name=mutants-$1 plan=guest-$1/plan.json text empty=0 rest=''
	mkdir -p "$WORK/guest-$number"
	while true; do
		text=$(mutants plan "${SAMPLE[@]}" --seconds "${TRY_SECONDS:-60}" ${rest:+--rest} --guest "$number" --guests "$GUESTS_AT_A_TIME" "$work/$plan") || return
		printf '%s\n' "$text"
		if [ "$(tail -n 1 <<<"$text")" = 0 ]; then
			[ -z "$rest$GLANCE" ] || return 0
			rest=yes
			continue
		fi
		await_calm
		boot_mutants "$name" 3600 "$WORK/$plan" || true
		text=$(mutants collect "$work/$plan" "build/vm/$name/output.log" "build/vm/$name/console.log") || return
		printf '%s\n' "$text"
		if [ "$(tail -n 1 <<<"$text")" -gt 0 ]; then
			empty=0
		else
			empty=$((empty + 1))
			[ "$empty" -lt 5 ] || { echo "five boots without a result: look at $VM/$name"; return 1; }
		fi
	done
}

# Prints the verdict on each mutant: from the output of the guests, and where a guest ended early, from
# what "collect" found. Both kinds of files are written anew now and then, so a line may come twice.
VERDICTS=("$LOGS/mutants-logic.log")
for number in $(seq 0 $((GUESTS_AT_A_TIME - 1))); do
	VERDICTS+=("$VM/mutants-$number/output.log" "$LOGS/mutants-$number.log")
done
show_verdicts() {
	tail -q -n +1 -F --pid=$$ "${VERDICTS[@]}" 2>/dev/null |
		awk '/^# mutant [0-9]+: / && !seen[$3]++ { sub(/^# /, "    "); sub(/\r$/, ""); print; fflush() }'
}

lock_cache
open_results
provide_root
provide_kernel own
provide_companion
provide_swap_disk
choose_accel
HMM_TESTS='' MM_TESTS=()
provide_woven
provide_reach
if [ "$(cat "$WORK/run.stamp" 2>/dev/null)" != "$RUN_STAMP" ]; then
	# While the code is the same, verdicts on noticed mutants stay valid.
	if [ -e "$WORK/run.stamp" ] && [ -e "$WORK/results.jsonl" ]; then
		sed -i '/"noticed":true/!d' "$WORK/results.jsonl"
	else
		rm -f "$WORK/results.jsonl"
	fi
	rm -f "$WORK"/{hung,logic.passed}
	echo "$RUN_STAMP" >"$WORK/run.stamp"
fi
if [ -n "$IDS" ]; then
	rm -f "$WORK"/{ids.jsonl,hung,logic.passed}
	say "mutants $IDS"
else
	say "$MUTANTS mutants, seed $SEED"
fi
rm -f "${VERDICTS[@]}"
show_verdicts 6>&- 8>&- 9>&- &
shown=$!
step "trying them by the tests of the pure logic" mutants-logic tests_of_logic ||
	die "the tests of the pure logic fail, or could not be run" "look at $LOGS/mutants-logic.log"
for number in $(seq 0 $((GUESTS_AT_A_TIME - 1))); do
	start "booting guests for mutants, $((number + 1)) of $GUESTS_AT_A_TIME" "mutants-$number" worker "$number"
done
good=yes
finish || good=''
sleep 1
kill "$shown" 2>/dev/null || true

say "survivors, and figures"
if [ -n "$good" ] && text=$(mutants report "${SAMPLE[@]}" "$work/${IDS:+ids-}mutants.md"); then
	printf '%s\n' "$text" | sed 's/^/    /'
	passed mutants "${IDS:-seed $SEED}: $(tail -n 1 <<<"$text")"
else
	failed mutants "not all were tried"
fi
show_results
[ -z "$GLANCE" ] || note "a glance: cases that reach a survivor may have had no turn; make mutants MUTANTS=$MUTANTS SEED=$SEED tries all"
[ -n "$IDS$GLANCE" ] || note "the table is in build/mutants/mutants.md; to show it in the tree: cp build/mutants/mutants.md tests/mutants.md"
note "total time $(human_time "$SECONDS")"
closing
