# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The kernel's other mm selftests, with our driver busy beside them and without
# it: what each case gives must be the same. The guests' step, mm-selftests,
# frames what each program prints.

# mm_cases FILE: "PROGRAM NUMBER RESULT DESCRIPTION", tab-separated, for each
# case; a program's end is a case, too. Addresses are no part of a name.
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

# mm_table ALONE AGAIN BUSY: a line for each case: verdict, program, the three
# results, name. A case passes if it gave the same each time. What gives one thing
# now and another then without our driver proves nothing about it, and what fails
# without it hardly more: both are skips, as is what a limit ended there. AGAIN may
# be the same file as ALONE.
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

# count_mm TABLE: each program is one row of the tally, its cases are counted, and
# what needs a word gets it.
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

# The guests, as scripts/test.sh lists them: one without the driver, and one with it.
# On the kernel without DEBUG_VM and lockdep: on the others these tests take three times as long.
MM_GUESTS=(
	"mm-busy|plain|rust|load mm-selftests unload|||1200"
	"mm-alone|plain|none|mm-selftests|||1200"
)

# compare_mm: what these guests gave; and only if something differs one more without
# the driver, which shows what is unsteady by itself.
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
