#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make experiment: does the core leak a reference when it refuses to split a huge
# folio during a migration? Traces the counts stage by stage, with both drivers, with
# and without DEBUG_VM; if the PMD was zapped before, with and without our fix; and
# with the proposed folio_put(), which is expected to crash the kernel.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

EXPERIMENT=$TOP/tests/experiment
WORK=$BUILD/experiment
KERNELS=(own plain)
DRIVERS=(c rust)
PROGRAMS=(hmm-tests dmirror)
CONDITIONS=(clean refused put zapped fixed)

# The kernel reports that are expected with the rejected put: COUNT:REGEX for the
# gate, with the exact count, and a short form for the table, also a regex. In the
# other conditions there must be no report. How many of the 512 freed pages are
# counted as the wrong type depends on what they are used for by then.
declare -A BREAKS=(
	[own]='1:BUG: Bad page state in process
1:page dumped because: PAGE_FLAGS_CHECK_AT_FREE
1:page dumped because: VM_BUG_ON_FOLIO\(.*folio_ref_count
1:kernel BUG at include/linux/mm\.h
1:Oops: invalid opcode'
	[plain]='1:BUG: Bad rss-counter state .*type:MM_FILEPAGES val:-5[01][0-9]
1:BUG: Bad rss-counter state .*type:MM_ANONPAGES val:5[01][0-9]'
)
declare -A BREAKS_SHORT=(
	[own]='Bad page state; kernel BUG; Oops'
	[plain]='Bad rss-counter; FILEPAGES -5..; ANONPAGES 5..'
)
# The kernel plain has no checks that stop it. It may crash on the page that is in
# two lists before the program ends and its counters are checked. With hmm-tests,
# which continues, that happens one time in three. With dmirror, which ends at once,
# it was seen only once, when closing the device freed memory.
TRIPS='NULL pointer|Oops|CPU stall'
may_trip() { [[ $1 == *-plain-*-put-* ]]; }
# The freed pages are soon used by another process. One time in thirty its counters
# are wrong as well, by a few pages. Those of the program are wrong by a huge page.
SPREAD='Bad rss-counter state .*val:-?[0-9]{1,2} '

# can CONDITION PROGRAM: hmm-tests zaps nothing beside a migration.
can() { [ "$2" = dmirror ] || [[ $1 != zapped && $1 != fixed ]]; }

# steps_of GUEST: prints its steps. On a kernel that is crashed on purpose, nothing else runs.
steps_of() {
	local program condition steps=load
	case $1 in
	*-put-*) steps+=" put-${1#*-put-}" ;;
	*)
		for condition in clean refused zapped fixed; do
			for program in "${PROGRAMS[@]}"; do
				! can "$condition" "$program" || steps+=" $condition-$program"
			done
		done
		;;
	esac
	echo "$steps"
}

# guest_of KERNEL DRIVER CONDITION PROGRAM
guest_of() { [ "$3" = put ] && echo "experiment-$1-$2-put-$4" || echo "experiment-$1-$2"; }

# The three guests of one kernel and one driver, side by side.
run_guests() {
	local kernel=$1 driver=$2 name append debug
	provide_kernel "$kernel"
	grep -qx 'CONFIG_DEBUG_VM=y' "$KOUT/.config" && debug=yes || debug=no
	[ "$kernel-$debug" = own-yes ] || [ "$kernel-$debug" = plain-no ] ||
		die "the kernel $kernel has DEBUG_VM=$debug" "own has it and plain has not: look at tests/kernel/*.config"
	provide_driver "$driver"
	choose_accel
	for name in "experiment-$kernel-$driver" "${PROGRAMS[@]/#/experiment-$kernel-$driver-put-}"; do
		STEP_DIR=$WORK/steps make_initramfs "$name" "$driver" "$(steps_of "$name")" ||
			die "the initramfs of $name could not be made" "is the disk full?"
		# KUnit has its own run; here it would only take time.
		append=kunit.enable=0
		# With memory cgroups, plain spins in folio_lruvec_lock() on the page that no
		# longer belongs to one, and never gets to what the mail saw.
		[[ $name != *-plain-*-put-* ]] || append+=' cgroup_disable=memory'
		start "booting $name: $(steps_of "$name"), $ACCEL" "vm-$name" boot "$name" 60 "$append"
	done
	finish || true
}

# Prints the kernel reports during one step of a guest, in short form.
complaints() {
	during "$2" "$VM/$1/console.log" |
		sed -nE 's/.*BUG: (Bad page state) .*/\1/p
			s/.*(kernel BUG) at .*/\1/p
			s/.*BUG: (Bad rss-counter) state .*type:MM_([A-Z_]*) val:(-?[0-9]*).*/\1\n\2 \3/p
			s/.*BUG: kernel (NULL pointer).*/\1/p
			s/.*rcu: INFO: .*(stall).*/CPU \1/p
			s/.*\] Oops: .*/Oops/p' |
		awk '!seen[$0]++' | paste -sd ';' | sed 's/;/; /g'
}

# during STEP LOG: prints the kernel log from the begin of the step to its end.
during() {
	awk -v step="$1" '
		/dmirror-guest: begin / { on = ($NF == step) }
		/dmirror-guest: end / { on = 0 }
		on' "$2"
}

# judge_log KERNEL GUEST: judges the kernel log by the gate, and checks that the guest
# ran to its end. If plain is crashed on purpose, it need not: there the expected
# report must be in the log, and others are printed.
judge_log() {
	local kernel=$1 name=$2 log=$VM/$2/console.log text said allowed=()
	[[ $name != *-put-* ]] || mapfile -t allowed <<<"${BREAKS[$kernel]}"
	if text=$(gate_finished "$VM/$name/output.log"); then
		passed "$name: end of run"
	elif [[ $name == *-plain-*-put-* ]]; then
		note "$name: memory was corrupt, and the guest did not come to its end"
	else
		failed "$name: end of run" "$text"
	fi
	if [[ $name == *-put-* ]]; then
		# After an oops, the console prints the interrupted line again.
		awk '/\*\* replaying previous printk message/ { held = 0; next }
			held { print line }
			{ line = $0; held = 1 }
			END { if (held) print line }' "$log" >"$VM/$name/whole.log"
		log=$VM/$name/whole.log
	fi
	if [[ $name == *-plain-*-put-* ]]; then
		sed '/dmirror-guest: begin put-/q' "$log" >"$VM/$name/gated.log"
		grep 'Bad rss-counter' "$log" | grep -vE "$SPREAD" >>"$VM/$name/gated.log" || true
		said=$(complaints "$name" "put-${name#*-put-}")
		[[ ! $said =~ $TRIPS ]] || note "$name: memory was corrupt, and the kernel tripped over it: $said"
		! grep -qE "$SPREAD" "$log" || note "$name: memory was corrupt, and other processes' counters are off too: $said"
		if may_trip "$name" && [[ $said =~ $TRIPS && $said != *rss-counter* ]]; then allowed=(); fi
		log=$VM/$name/gated.log
	fi
	if text=$(gate_console "$log" "${allowed[@]}"); then
		passed "$name: kernel log"
	else
		failed "$name: kernel log" "$VM/$name/console.log"
		printf '%s\n' "${RED}    $name: the kernel's log is not as expected:${PLAIN}" "$text" | sed '2,$s/^/    | /' >&2
	fi
	[ ! -f "$VM/$name/retried" ] || note "$name: $(cat "$VM/$name/retried")"
}

# as_wanted SAID WANTED: whether each of the expected reports is there, in any order,
# or the crash that may happen instead.
as_wanted() {
	local said=$1 wanted=$2 report reports
	[ "$said" != "$wanted" ] || return 0
	[ -n "$wanted" ] || return 1
	[[ $wanted != *'or a crash' || ! $said =~ $TRIPS ]] || return 0
	IFS=';' read -ra reports <<<"${wanted%; or a crash}"
	for report in "${reports[@]}"; do
		[[ $said =~ ${report# } ]] || return 1
	done
}

# Prints one line for each run, for the table.
list_runs() {
	local kernel driver program condition name step said wanted
	for kernel in "${KERNELS[@]}"; do
		for driver in "${DRIVERS[@]}"; do
			for program in "${PROGRAMS[@]}"; do
				for condition in "${CONDITIONS[@]}"; do
					can "$condition" "$program" || continue
					name=$(guest_of "$kernel" "$driver" "$condition" "$program")
					step=$condition-$program
					step_output "$VM/$name/output.log" "$step" >"$VM/$name/$step.out"
					said=$(complaints "$name" "$step")
					wanted=''
					[ "$condition" != put ] || wanted=${BREAKS_SHORT[$kernel]}
					if [ "$condition" = put ] && may_trip "$name"; then wanted+='; or a crash'; fi
					printf '%s\t' "$kernel" "$driver" "$program" "$condition" "../vm/$name/$step.out" \
						"${said:-nothing}" "${wanted:-nothing}"
					as_wanted "$said" "$wanted" && echo yes || echo no
				done
			done
		done
	done
}

explain() {
	cat <<'TEXT'

Does migrate_vma_split_unmapped_folio() leak a reference? Not where the mail looked, and yes
where it did not.

A refused split leaks nothing. The folio_get() in migrate_vma_split_unmapped_folio() is
balanced by the put at the end of __split_huge_pmd_locked(freeze = true), which has happened
before folio_split_unmapped() can refuse: 1, 2, 1 in every column. What is left is the
reference of the isolation, and finalize puts that one. A refused split ends with one
reference for each of 512 mappings, 512/512/9.

A PMD that was zapped before does leak (K20). Between setup and pages, mmap_lock is held for
reading only, and MADV_DONTNEED needs no more. If it has removed the migration entry,
split_huge_pmd_address() finds no PMD to split and puts nothing: 1, 2, 2. The split is refused
for the reference too many, and the folio stays for ever, with one reference and no mapping:
1/0/9. Our driver's ledger sees it, on any kernel: that is why its program fails there. patches/0013 takes the reference under the PMD lock, and only if there is a PMD to
split. 0014 also asks whether it is this folio's: another one may be mapped there by then, and
would be frozen and put (K24).

The patch in the mail puts the isolation's reference: 1, then 0. It frees a folio to which
512 migration entries still point. With DEBUG_VM the kernel finds the locked page in the free
path ("Bad page state") and stops at the next folio_get ("kernel BUG"). Without it the entries
are never turned back into mappings, finalize frees the page again, and at the end of the
process the counters are off by what was lost ("Bad rss-counter state"), as the mail saw; or,
with memory cgroups, the kernel spins on the lock of a list that the page no longer belongs to.
So a put is right exactly if the PMD was zapped, and frees a mapped folio if it was not: the
place for the question is the PMD lock.

The two blocks of traces in that mail carry each other's labels: 0, 1, 0, printed there under
"Without this patch", is what the rejected put gives (column put of plain), and 513, 512, under
"With this patch", is what upstream's code gives.
TEXT
}

lock_cache
open_results
provide_root
provide_packages
provide_hmm_tests
provide_companion
rm -rf "$WORK"
mkdir -p "$WORK/steps"
cp "$TOP/scripts/guest/steps/load" "$EXPERIMENT/under.sh" "$EXPERIMENT/steps"/* "$WORK/steps/"

# That the module works on this kernel without these switches is tested by the guests
# "own" and "own-hmm" of `make test`.
if ! counted own.companion own-hmm.hmm-tests-quick; then
	LIMIT=420 guest experiment-check own rust "load companion hmm-tests-quick unload"
	finish || true
	judge_guests
fi

for kernel in "${KERNELS[@]}"; do
	for driver in "${DRIVERS[@]}"; do
		run_guests "$kernel" "$driver"
	done
done
for kernel in "${KERNELS[@]}"; do
	for driver in "${DRIVERS[@]}"; do
		for program in '' "${PROGRAMS[@]/#/-put-}"; do
			judge_log "$kernel" "experiment-$kernel-$driver$program"
		done
	done
done

list_runs >"$WORK/runs"
say "the split of a huge folio, stage by stage: references / mappings / order"
note "own has DEBUG_VM, plain has not; c is test_hmm, rust is rust_dmirror;"
note "hmm-tests is the kernel's migrate_anon_huge_err; dmirror is our split.flag_to_device,"
note "and split.zapped_while_held, which discards the page while migrate_vma_pages() is held back"
: >"$WORK/verdicts"
"$COMPANION" experiment "$EXPERIMENT/expected" "$WORK/runs" "$WORK/verdicts" | tee "$WORK/table" || true
[ -s "$WORK/verdicts" ] || failed "experiment: table" "was not made"
while IFS=$'\t' read -r what ok note; do
	if [ "$ok" = 1 ]; then passed "experiment: $what" "$note"; else failed "experiment: $what" "$note"; fi
done <"$WORK/verdicts"
explain

[ -n "${AT_EXIT:-}" ] || exit 0
say "results"
show_results
note "the table is in build/experiment/table, what each guest printed in build/vm/experiment-*"
note "total time $(human_time "$SECONDS")"
closing
