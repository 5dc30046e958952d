# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The kernel's other mm selftests, run with our driver busy at the same time and
# without it: each case must have the same result. The step mm-selftests frames the
# output of each program.

# mm_cases FILE: prints "PROGRAM NUMBER RESULT DESCRIPTION", tab-separated, for
# each case. The end of a program counts as a case. Addresses are removed from names.
mm_cases() {
	awk '
		BEGIN { OFS = "\t" }
		{ sub(/\r$/, "") }
		$1 == "#mm" && $2 == "begin" { program = $3; next }
		$1 == "#mm" && $2 == "end" { print program, "end", "status " $4, "exit status"; program = ""; next }
		program == "" { next }
		match($0, /^(not )?ok [0-9]+/) {
			result = /^not/ ? "not ok" : "ok"
			text = substr($0, RLENGTH + 1)
			sub(/^ *(- )?/, "", text)
			if (match(text, /# *(SKIP|XFAIL)/)) {
				result = tolower(substr(text, RSTART)); sub(/^# */, "", result); sub(/ .*/, "", result)
			}
			number = $0; sub(/^(not )?ok /, "", number); sub(/[^0-9].*/, "", number)
			gsub(/0x[0-9a-f]+/, "ADDRESS", text)
			print program, number, result, text
		}
		match($0, /^1\.\.0 # *SKIP */) { print program, "plan", "skip", substr($0, RLENGTH + 1) }' "$1"
}

# mm_table ALONE AGAIN BUSY: prints a line for each case: verdict, program, the three
# results, name. A case passes if all results are the same. A case is skipped if,
# without our driver, it has different results in two runs, fails, or is ended by its
# limit: then it says nothing about the driver. AGAIN may be the same file as ALONE.
mm_table() {
	awk -F '\t' '
		BEGIN { OFS = "\t" }
		FNR == 1 { file++ }
		{ key = $1 SUBSEP $2 }
		!(key in name) { order[++cases] = key; program[key] = $1; name[key] = $4 }
		{ result[file, key] = $3 }
		function of(file, key) { return (file, key) in result ? result[file, key] : "missing" }
		END {
			for (i = 1; i <= cases; i++) {
				key = order[i]; p = program[key]
				alone = of(1, key); again = of(2, key); busy = of(3, key)
				killed = of(1, p SUBSEP "end") == "status 137"
				if (killed && alone ~ /^(missing|status 137)$/) verdict = "slow"
				else if (alone != again) verdict = "unsteady"
				else if (alone != busy) verdict = "FAIL"
				else if (alone == "skip") verdict = "skip"
				else if (alone == "not ok" || alone ~ /^status/ && alone !~ /^status [04]$/) verdict = "broken"
				else verdict = "pass"
				print verdict, p, alone, again, busy, name[key]
			}
		}' <(mm_cases "$1") <(mm_cases "$2") <(mm_cases "$3")
}

# count_mm TABLE: counts the cases of each program as one row of the tally, with a
# note on what did not pass.
count_mm() {
	local title passed failed skipped note
	while IFS=$'\t' read -r title passed failed skipped note; do
		count "$title" "$passed" "$failed" "$skipped" "$note"
		[ "$failed" = 0 ] || printf '%s\n' "${RED}    $title: $note${PLAIN}" >&2
	done < <(awk -F '\t' '
		BEGIN { OFS = "\t" }
		!($2 in known) { known[$2]; title[++programs] = $2 }
		{ tally[$2, $1]++ }
		function note(text) { notes[$2] = notes[$2] (notes[$2] == "" ? "" : "; ") text }
		$1 == "FAIL" { note($6 ": " $3 " without the driver, " $5 " beside it") }
		$1 == "unsteady" { note("not the same twice without the driver: " $6) }
		$1 == "broken" { note("without the driver, too: " $6 " " $3) }
		$1 == "slow" { note("ended by its limit without the driver") }
		END {
			for (i = 1; i <= programs; i++) {
				p = title[i]
				skips = tally[p, "skip"] + tally[p, "broken"] + tally[p, "slow"] + tally[p, "unsteady"]
				if (tally[p, "skip"]) notes[p] = notes[p] (notes[p] == "" ? "" : "; ") tally[p, "skip"] " skip by themselves"
				print "mm-selftests." p, tally[p, "pass"] + 0, tally[p, "FAIL"] + 0, skips + 0, notes[p]
			}
		}' "$1")
}

# The guests, in the format of suites.sh: one without the driver, one with it. They
# boot the kernel without DEBUG_VM and lockdep, with which these tests take three times as long.
MM_GUESTS=(
	"mm-busy|plain|rust|load mm-selftests unload|||1200"
	"mm-alone|plain|none|mm-selftests|||1200"
)

# compare_mm: compares the results of these guests. If any differ, runs the guest
# without the driver once more, to find cases whose results vary by themselves.
compare_mm() {
	local alone=$VM/mm-alone/mm-selftests.out busy=$VM/mm-busy/mm-selftests.out table=$BUILD/mm-selftests.txt
	mm_table "$alone" "$alone" "$busy" >"$table"
	if grep -q '^FAIL' "$table"; then
		say "something differs; once more without the driver"
		run_guests 0 "mm-again|plain|none|mm-selftests|||1200"
		mm_table "$alone" "$VM/mm-again/mm-selftests.out" "$busy" >"$table"
	fi
	count_mm "$table"
	note "each case of the mm selftests, without the driver and beside it: ${table#"$TOP"/}"
}
