#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make bench: both drivers in the same boot of Debian's own kernel, in turns, by
# the companion and by the kernel's hmm-tests (time); processes side by side, on one
# CPU, two, and four (cpus); what enters the kernel often once more where that is
# cheap, as it is on a CPU that needs no page-table isolation (nopti); what they take
# in memory (memory); shortly, in a guest whose time are instructions (icount); and of
# that the migrations of huge pages once more where the page allocator does not clear,
# as Debian's does, what is about to be copied to (unzeroed). Where there is one CPU,
# whose instructions are all counted, a worker cannot make anything ready beforehand:
# there huge_ready is 0. The migrations and faults are counted once more with a module
# that has no ledger and no tracepoint: what those cost while they are off (unobserved).
# BENCH="time icount" leaves the others out.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

seconds=${BENCH_SECONDS:-720}
parts=${BENCH:-time cpus nopti memory icount unzeroed unobserved}
WORK=$BUILD/bench

# bench_guest NAME LIMIT STEPS ARGUMENTS
bench_guest() {
	# The host's own first touch of a page of the guest costs more than most of what is measured.
	PREALLOC=yes VM_MEMORY=${VM_MEMORY:-6G} LIMIT=$2 BENCH_ARGUMENTS="$4 ${BENCH_OPTIONS:-}" guest "$1" "${KERNEL:-stock}" rust "$3"
	# Nothing runs beside it that is ours.
	finish || true
}

lock_cache
open_results
provide_root
rm -rf "$WORK"
mkdir -p "$WORK"
report=()
for part in $parts; do
	case $part in
	time)
		# A third of the time is for hmm-tests; a round that began is finished.
		HMM_TESTS_SECONDS=$((seconds / 3)) bench_guest bench $((900 + seconds)) \
			"load both-drivers bench bench-hmm-tests" "--seconds $((seconds * 2 / 3))"
		report+=(--bench "$VM/bench/bench.out" --hmm-tests "$VM/bench/bench-hmm-tests.out")
		where="QEMU, $([ "$ACCEL" = kvm ] && echo KVM || echo "software emulation (TCG): the ratios say something, the rates nothing of any hardware")."
		;;
	icount)
		PARAMETERS=huge_ready=0 DMIRROR_ACCEL=icount bench_guest bench-icount 1800 "load both-drivers bench" "--plan few --rounds 3"
		report+=(--icount "$VM/bench-icount/bench.out")
		;;
	unzeroed)
		PARAMETERS=huge_ready=0 APPEND=init_on_alloc=0 DMIRROR_ACCEL=icount bench_guest bench-unzeroed 1800 "load both-drivers bench" \
			"--plan huge --rounds 3"
		report+=(--unzeroed "$VM/bench-unzeroed/bench.out")
		;;
	unobserved)
		# Held against icount, of which it is a part.
		[[ " $parts " == *' icount '* ]] || die "BENCH=unobserved has nothing to be held against" "BENCH='icount unobserved'"
		UNOBSERVED=yes PARAMETERS=huge_ready=0 DMIRROR_ACCEL=icount bench_guest bench-unobserved 1800 "load both-drivers bench" \
			"--plan few --rounds 3 --filter device,;system,;fault"
		report+=(--unobserved "$VM/bench-unobserved/bench.out")
		;;
	nopti)
		APPEND=nopti bench_guest bench-nopti 900 "load both-drivers bench" "--plan few --seconds 180"
		report+=(--nopti "$VM/bench-nopti/bench.out")
		;;
	memory)
		bench_guest bench-memory 900 bench-memory ""
		report+=(--memory "$VM/bench-memory/bench-memory.out")
		;;
	cpus)
		for cpus in 1 2 4; do
			VM_CPUS=$cpus bench_guest "bench-cpus-$cpus" 600 "load both-drivers bench" "--plan side-by-side --rounds 5 --seconds 60"
			report+=(--side-by-side "$VM/bench-cpus-$cpus/bench.out")
		done
		;;
	*) die "BENCH is '$part'" "time, cpus, nopti, memory, icount, unzeroed, unobserved, or nothing for all" ;;
	esac
done
judge_guests

# The report is made from what there is: a failed row says so in it.
if step "making the table and the plot" bench-report "$COMPANION" bench-report "${report[@]}" \
	--conditions "Kernel: $(kernel_title). ${where:-}$(git -C "$TOP" log -1 --format=' Commit %h.' 2>/dev/null)" \
	--table "$WORK/bench.md" --json "$WORK/bench.json" --svg "$WORK/bench.svg"; then
	passed "bench: report"
	say "figures"
	sed 's/^/    /' "$LOGS/bench-report.log"
else
	failed "bench: report" "$LOGS/bench-report.log"
fi
say "results on $(kernel_title)"
show_results
note "build/bench: bench.md, bench.svg, bench.json with all samples"
note "to show these in the tree: cp build/bench/bench.md build/bench/bench.svg tests/bench/"
note "total time $(human_time "$SECONDS")"
closing
