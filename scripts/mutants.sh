#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make mutants: small changes of src/ and rust/, MUTANTS of them, and whether the suites notice. All are
# woven into one module, each behind a switch (tests/mutants); one guest says which case reaches which,
# then MUTANT_GUESTS guests side by side try one mutant after the other, by the cases that reach it.
#
# What is in build/mutants stays there: with the same seed, and nothing changed, a run goes on where the
# last one ended. Survivors are no failure of this script.
set -euo pipefail
LIB=$(dirname "${BASH_SOURCE[0]}")/lib
# shellcheck source=scripts/lib/all.sh
. "$LIB/all.sh"

MUTANTS=${MUTANTS:-300}
GUESTS_AT_A_TIME=${MUTANT_GUESTS:-2}
WORK=$BUILD/mutants
# Inside the root.
work=build/mutants
[ "${SEED:-random}" != random ] || SEED=$((RANDOM * 32768 + RANDOM))
[[ $MUTANTS$SEED$GUESTS_AT_A_TIME =~ ^[0-9]+$ ]] || die "MUTANTS, SEED and MUTANT_GUESTS are numbers" "make mutants MUTANTS=6 SEED=random"

mutants() { in_root "/cache/$CARGO_TARGET/release/mutants" --work "$work" "$@"; }

# What does not compile is dropped, and the rest woven again: the compiler's errors come in stages.
weave() {
	local round
	for round in 1 2 3 4 5 6 7 8 9 10; do
		mutants weave || return
		echo "build $round"
		if MODULE_SOURCE=/repo/$work/woven build_module "/cache/${KOUT##*/}" "/repo/$work/module" "${KMAKE[@]}" \
			'KRUSTFLAGS=--cap-lints=allow --error-format=json' >"$WORK/build.log" 2>&1; then
			echo "$1" >"$WORK/woven.stamp"
			return
		fi
		mutants blame "$work/build.log" || return
	done
	return 1
}

provide_woven() {
	local tool stamp
	step "building the tool that weaves mutants" mutants-tool mutants_cargo build --release --locked ||
		die "tests/mutants could not be built" "$(remedy "$LOGS/mutants-tool.log")"
	tool=$(find "$TOP"/tests/mutants/{src,templates,Cargo.lock} -type f | sort | xargs cat | sha256sum | cut -c1-12)
	[ "$(cat "$WORK/tool.stamp" 2>/dev/null)" = "$tool" ] || rm -rf "$WORK"
	mkdir -p "$WORK"
	echo "$tool" >"$WORK/tool.stamp"
	# shellcheck disable=SC2153 # of provide_own
	WOVEN_STAMP=$(digest "$(find "$TOP"/{Kbuild,include,rust,src,tests/kunit} -type f | sort | xargs sha256sum)" "$tool" "$KOUT" "$OWN_STAMP")
	if [ "$(cat "$WORK/woven.stamp" 2>/dev/null)" = "$WOVEN_STAMP" ]; then
		cached "the module with its mutants"
		return
	fi
	step "weaving the mutants in, and building the module" mutants-weave weave "$WOVEN_STAMP" ||
		die "the module with its mutants could not be built" "look at $LOGS/mutants-weave.log and $WORK/build.log"
	note "$(grep 'woven in' "$LOGS/mutants-weave.log" | tail -n 1)"
}

# boot_mutants NAME LIMIT [PLAN]
boot_mutants() {
	local name=$1 limit=$2
	MODULE=$WORK/module/rust_dmirror.ko
	# Not only modules: what is to be in /lib.
	EXTRA_MODULES=("$WORK/module/dmirror_mutant.ko" ${3:+"$3"})
	# shellcheck disable=SC2086 # parameters are words
	make_initramfs "$name" rust mutants $COHERENT_PARAMETERS
	VM_MEMORY=$COHERENT_MEMORY VM_QUIET=150 boot "$name" "$limit" "$KAPPEND $COHERENT_APPEND oops=panic"
}

provide_reach() {
	local stamp
	stamp=$(digest "$WOVEN_STAMP" "$COMPANION" "$SWAP_DISK")
	RUN_STAMP="$stamp $SEED"
	if [ "$(cat "$WORK/reach.stamp" 2>/dev/null)" = "$stamp" ]; then
		cached "which case reaches which mutant"
		return
	fi
	step "running everything once: which case reaches which mutant" mutants-reach boot_mutants mutants-reach 3600 ||
		die "the guest without a mutant failed" "look at $VM/mutants-reach"
	mutants reach build/vm/mutants-reach/output.log | sed 's/^/    /' ||
		die "the suites were not run to their end" "look at $VM/mutants-reach"
	echo "$stamp" >"$WORK/reach.stamp"
}

# worker NUMBER: one guest after the other, until its share of the sample has been tried.
worker() {
	local number=$1 name=mutants-$1 text empty=0
	mkdir -p "$WORK/guest-$number"
	while true; do
		text=$(mutants plan --mutants "$MUTANTS" --seed "$SEED" --guest "$number" --guests "$GUESTS_AT_A_TIME" \
			"$work/guest-$number/plan.json") || return
		printf '%s\n' "$text"
		[ "$(tail -n 1 <<<"$text")" -gt 0 ] || return 0
		boot_mutants "$name" 3600 "$WORK/guest-$number/plan.json" || true
		text=$(mutants collect "build/vm/$name/output.log" "build/vm/$name/console.log") || return
		printf '%s\n' "$text"
		if [ "$(tail -n 1 <<<"$text")" -gt 0 ]; then
			empty=0
		else
			empty=$((empty + 1))
			[ "$empty" -lt 3 ] || { echo "three boots without a result: look at $VM/$name"; return 1; }
		fi
	done
}

# Prints the verdict on each mutant: from the output of the guests, and where a guest ended early, from
# what "collect" found. Both kinds of files are written anew now and then, so a line may come twice.
show_verdicts() {
	local files=() number
	for number in $(seq 0 $((GUESTS_AT_A_TIME - 1))); do
		files+=("$VM/mutants-$number/output.log" "$LOGS/mutants-$number.log")
	done
	rm -f "${files[@]}"
	tail -q -n +1 -F --pid=$$ "${files[@]}" 2>/dev/null |
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
	rm -f "$WORK/results.jsonl" "$WORK/hung"
	echo "$RUN_STAMP" >"$WORK/run.stamp"
fi
say "$MUTANTS mutants, seed $SEED"
show_verdicts 6>&- 8>&- 9>&- &
shown=$!
for number in $(seq 0 $((GUESTS_AT_A_TIME - 1))); do
	start "booting guests for mutants, $((number + 1)) of $GUESTS_AT_A_TIME" "mutants-$number" worker "$number"
done
good=yes
finish || good=''
sleep 1
kill "$shown" 2>/dev/null || true

say "survivors, and figures"
if [ -n "$good" ] && text=$(mutants report --mutants "$MUTANTS" --seed "$SEED" "$work/mutants.md"); then
	printf '%s\n' "$text" | sed 's/^/    /'
	passed mutants "seed $SEED: $(tail -n 1 <<<"$text")"
else
	failed mutants "not all were tried"
fi
show_results
note "the table is in build/mutants/mutants.md; to show it in the tree: cp build/mutants/mutants.md tests/mutants.md"
note "total time $(human_time "$SECONDS")"
closing
