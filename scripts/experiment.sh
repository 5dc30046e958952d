#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make experiment: is a reference leaked when the core refuses to split a huge
# folio in the middle of a migration? Watched stage by stage on a kernel that
# traces it, with both drivers, with and without DEBUG_VM; where the PMD was
# zapped before, with and without our fix; then with the put that was proposed
# for it, on kernels that this is expected to break.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

EXPERIMENT=$TOP/tests/experiment
WORK=$BUILD/experiment
KERNELS=(own plain)
DRIVERS=(c rust)
PROGRAMS=(hmm-tests dmirror)
CONDITIONS=(clean refused put zapped fixed)

# What the kernel has to say under the rejected put: COUNT:REGEX for the gate,
# each exactly so often, and in short for the table, a regex as well. Under the
# other conditions it has to say nothing. How many of the 512 freed pages are
# counted as the wrong kind depends on what they are by then.
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
# On plain nothing stops the kernel. Something may trip over the page that is in
# two lists before the program ends and its counters are checked: hmm-tests goes
# on, and it is one time in three; dmirror ends at once, and it was seen only once,
# when the close of the device freed memory.
TRIPS='NULL pointer|Oops|CPU stall'
may_trip() { [[ $1 == *-plain-*-put-* ]]; }
# Pages that were freed under their owner's feet are soon another process's, and
# one time in thirty its counters are off too: by a few, which no rule foresees.
# The program's own are off by a huge page.
SPREAD='Bad rss-counter state .*val:-?[0-9]{1,2} '

# can CONDITION PROGRAM: hmm-tests zaps nothing beside a migration.
can() { [ "$2" = dmirror ] || [[ $1 != zapped && $1 != fixed ]]; }

# steps_of GUEST: a kernel that is broken on purpose gets nothing more to do.
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
		# With memory cgroups, plain spins in folio_lruvec_lock() on the page that
		# belongs to none any more, and never comes to what the mail saw.
		[[ $name != *-plain-*-put-* ]] || append+=' cgroup_disable=memory'
		start "booting $name: $(steps_of "$name"), $ACCEL" "vm-$name" boot "$name" 60 "$append"
	done
	finish || true
}

# What the kernel complained of during one step of a guest, in short.
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

# during STEP LOG: what the kernel said from the step's begin to its end.
during() {
	awk -v step="$1" '
		/dmirror-guest: begin / { on = ($NF == step) }
		/dmirror-guest: end / { on = 0 }
		on' "$2"
}

# judge_log KERNEL GUEST: the kernel's log by the gate, and that the guest came
# to its end. plain, when it is broken on purpose, need not: there the report has
# to come, and what else comes is told.
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
		# An oops makes the console print the line again that it cut short.
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

# as_wanted SAID WANTED: each of the reports came, in whatever order, or the crash
# that may come instead.
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

# One line for each run, for the table.
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

# The module must work on this kernel when nothing is switched on. `make test`
# says so with its guests "own" and "own-hmm", which boot this very kernel.
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
