# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The kernel's other mm selftests, with our driver busy beside them and without
# it: what each case gives must be the same. Their step,
# mm-selftests, frames what each program prints.

# mm_cases FILE: "PROGRAM RUN NUMBER RESULT DESCRIPTION", tab-separated, for each
# case; a program's end is a case, too. Addresses and times are no part of a name.
mm_cases() {
	awk '
		BEGIN { OFS = "\t" }
		{ sub(/\r$/, "") }
		$1 == "#mm" && $2 == "begin" { program = $3; run = $4; next }
		$1 == "#mm" && $2 == "end" { print program, run, "end", "status " $4, "exit status"; program = ""; next }
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
			print program, run, number, result, text
		}
		match($0, /^1\.\.0 # *SKIP */) { print program, run, "plan", "skip", substr($0, RLENGTH + 1) }' "$1"
}

# compare_mm ALONE BUSY TABLE: counts each case once, and writes a line for each to
# TABLE. A case passes if it gave the same in both runs without the driver and in
# the one beside it. What gives one thing now and another then without our driver
# proves nothing about it, and what fails without it hardly more: both are skips,
# with their names.
compare_mm() {
	local title passed failed skipped note
	while IFS=$'\t' read -r title passed failed skipped note; do
		count "$title" "$passed" "$failed" "$skipped" "$note"
		[ "$failed" = 0 ] || printf '%s\n' "${RED}    $title: $note${PLAIN}" >&2
	done < <(awk -F '\t' -v table="$3" '
		BEGIN { OFS = "\t"; printf "" >table }
		{ key = $1 SUBSEP $3 }
		!(key in name) { order[++cases] = key; program[key] = $1; name[key] = $5 }
		!($1 in known) { known[$1]; title[++programs] = $1 }
		FILENAME == ARGV[1] { alone[key, $2] = $4; next }
		{ busy[key] = $4 }
		function result(value) { return value == "" ? "missing" : value }
		function note(text) { notes[p] = notes[p] (notes[p] == "" ? "" : "; ") text }
		END {
			for (i = 1; i <= cases; i++) {
				key = order[i]; p = program[key]; text = name[key]
				first = result(alone[key, 1]); second = result(alone[key, 2]); now = result(busy[key])
				# A limit ended it, and then there is no second run, and no end of the list.
				if (alone[p SUBSEP "end", 1] == "status 137") {
					second = first
					if (first ~ /^(missing|status 137)$/) now = first
				}
				if (first != second) {
					verdict = "skip"
					note("not the same twice without the driver: " text " (" first ", " second "; beside it " now ")")
				} else if (first != now) {
					verdict = "FAIL"
					note(text ": " first " without the driver, " now " beside it")
				} else if (first == "skip") {
					verdict = "skip"
					skips[p]++
				} else if (first ~ /^(not ok|missing)$/ || first ~ /^status/ && first !~ /^status [04]$/) {
					verdict = "skip"
					note("without the driver, too: " text " " first)
				} else
					verdict = "pass"
				tally[p, verdict]++
				print verdict, p, first, second, now, text >table
			}
			for (i = 1; i <= programs; i++) {
				p = title[i]
				if (skips[p]) note(skips[p] " skipped by themselves")
				print "mm-selftests." p, tally[p, "pass"] + 0, tally[p, "FAIL"] + 0, tally[p, "skip"] + 0, notes[p]
			}
		}' <(mm_cases "$1") <(mm_cases "$2"))
}
