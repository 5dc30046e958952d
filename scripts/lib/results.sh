# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The tally. Every check and every test case of a run is counted once, in a
# file, so that what runs in the background or in a script of its own counts too.

RESULTS=${DMIRROR_RESULTS:-$BUILD/results}

# A run starts with an empty tally, unless a script that has one started it.
open_results() {
	[ -z "${DMIRROR_RESULTS:-}" ] || return 0
	: >"$RESULTS"
	rm -rf "$BUILD/junit"
	mkdir -p "$BUILD/junit"
	export DMIRROR_RESULTS=$RESULTS
}

# count NAME PASSED FAILED SKIPPED [NOTE]
count() {
	printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "${5:-}" >>"$RESULTS"
}
passed() { count "$1" 1 0 0 "${2:-}"; }
failed() { count "$1" 0 1 0 "${2:-}"; }

# check TITLE LOG COMMAND...: a step that is a check of its own.
check() {
	if step "$@"; then passed "$2"; else failed "$2" "$LOGS/$2.log"; fi
}

# A table of everything that was counted since open_results.
show_results() {
	local name pass fail skip note colour
	printf '    %-34s %6s %6s %7s\n' '' passed failed skipped
	while IFS=$'\t' read -r name pass fail skip note; do
		colour=''
		[ "$fail" = 0 ] || colour=$RED
		printf '    %s%-34s %6d %6d %7d%s  %s\n' "$colour" "$name" "$pass" "$fail" "$skip" "${colour:+$PLAIN}" "$note"
	done <"$RESULTS"
}

# The checks that are not KTAP, as one more JUnit file.
junit_checks() {
	awk -F '\t' '
		function quote(text) {
			gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/"/, "\\&quot;", text)
			return text
		}
		$1 ~ /\./ { next } # RUN.STEP has a file of its own
		{
			cases = cases "  <testcase name=\"" quote($1) "\">" ($3 ? "<failure>" quote($5) "</failure>" : "") "</testcase>\n"
			tests++; failures += $3
		}
		END {
			print "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
			printf "<testsuite name=\"checks\" tests=\"%d\" failures=\"%d\">\n%s</testsuite>\n", tests, failures, cases
		}' "$RESULTS" >"$BUILD/junit/checks.xml"
}

# The last line of a run; returns 1 if anything failed or nothing was counted.
closing() {
	junit_checks
	awk -F '\t' '
		{ passed += $2; failed += $3; skipped += $4 }
		END {
			printf "%d passed, %d failed%s\n", passed, failed, skipped ? ", " skipped " skipped" : ""
			exit failed || !passed
		}' "$RESULTS"
}
