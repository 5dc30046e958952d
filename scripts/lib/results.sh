# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The tally. Every check and every test case of a run is counted once, in a
# file, so that what runs in the background or in a script of its own counts too.

RESULTS=${DMIRROR_RESULTS:-$BUILD/results}
JUNIT=$BUILD/junit

# A run starts with an empty tally, unless a script that has one started it.
open_results() {
	[ -z "${DMIRROR_RESULTS:-}" ] || return 0
	: >"$RESULTS"
	rm -rf "$JUNIT"
	mkdir -p "$JUNIT"
	export DMIRROR_RESULTS=$RESULTS
	# The closing line must reach the terminal even from inside a redirection.
	exec 7>&1
	AT_EXIT=close_early
}

# Whatever ends a run before its end leaves the closing line all the same, and
# it is not a good one.
close_early() {
	failed "run" "ended before its end"
	closing >&7 || true
}

# count NAME PASSED FAILED SKIPPED [NOTE]
count() {
	printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "${5:-}" >>"$RESULTS"
}
passed() { count "$1" 1 0 0 "${2:-}"; }
failed() { count "$1" 0 1 0 "${2:-}"; }

# counted ROW...: whether each of these rows is in the tally.
counted() {
	local row
	for row; do
		cut -f 1 "$RESULTS" | grep -xF "$row" >/dev/null || return 1
	done
}

# check TITLE LOG COMMAND...: a step that is a check of its own.
check() {
	if step "$@"; then passed "$2"; else failed "$2" "$LOGS/$2.log"; fi
}

# A table of everything that was counted since open_results; what is named
# "GROUP: CHECK" is one row per group, and a row for each check that failed.
show_results() {
	awk -F '\t' -v red="$RED" -v plain="$PLAIN" '
		function row(name, passed, failed, skipped, note) {
			printf "    %s%-28s %6d %6d %7d%s  %s\n", failed ? red : "", name, passed, failed, skipped, failed ? plain : "", substr(note, 1, 110)
		}
		BEGIN { printf "    %-28s %6s %6s %7s\n", "", "passed", "failed", "skipped" }
		{ group = $1; sub(/: .*/, "", group) }
		group != last && last != "" { row(last, passed, failed, skipped, last_note); passed = failed = skipped = 0; last_note = "" }
		{ last = group; passed += $2; failed += $3; skipped += $4 }
		group == $1 { last_note = $5 }
		group != $1 && $3 { row($1, $2, $3, $4, $5) }
		END { row(last, passed, failed, skipped, last_note) }' "$RESULTS"
}

# The failures once more, below a long table: of a run elsewhere often only its end is kept.
show_failures() {
	awk -F '\t' -v red="$RED" -v plain="$PLAIN" '
		$3 && ++bad <= 15 { printf "    %sfailed: %s%s  %s\n", red, $1, plain, substr($5, 1, 200) }
		END { if (bad > 15) printf "    and %d more\n", bad - 15 }' "$RESULTS"
}

# What no JUnit file of its own tells, as one more file, a case for each row. RUN.STEP.xml is what the
# kernel's parser wrote of a step; it counts what is missing, but has no case for it.
junit_checks() {
	JUNIT=$JUNIT awk -F '\t' '
		function quote(text) {
			gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/"/, "\\&quot;", text)
			return text
		}
		# Whether a file tells of a row, and of its failure if it has one.
		function told(row, failures,   file, line, got, bad) {
			file = ENVIRON["JUNIT"] "/" row ".xml"
			while ((got = (getline line < file)) > 0)
				if (line ~ /<(failure|error)[ \/>]/) bad = 1
			close(file)
			return got == 0 && (bad || !failures)
		}
		told($1, $3) { next }
		{
			cases = cases "  <testcase name=\"" quote($1) "\">"
			if ($3) cases = cases "<failure>" quote($5) "</failure>"
			else if (!$2 && $4) cases = cases "<skipped>" quote($5) "</skipped>"
			cases = cases "</testcase>\n"
			tests++; failures += $3 > 0; skipped += !$3 && !$2 && $4
		}
		END {
			print "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
			printf "<testsuite name=\"checks\" tests=\"%d\" failures=\"%d\" skipped=\"%d\">\n%s</testsuite>\n", tests, failures, skipped, cases
		}' "$RESULTS" >"$JUNIT/checks.xml"
}

# The last line of a run; returns 1 if anything failed or nothing was counted.
closing() {
	AT_EXIT=''
	junit_checks
	awk -F '\t' '
		{ passed += $2; failed += $3; skipped += $4 }
		END {
			printf "%d passed, %d failed%s\n", passed, failed, skipped ? ", " skipped " skipped" : ""
			exit failed || !passed
		}' "$RESULTS"
}
