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
		group != last && last != "" { row(last, passed, failed, skipped, last_note); passed = failed = skipped = 0 }
		{ last = group; passed += $2; failed += $3; skipped += $4; last_note = group == $1 ? $5 : "" }
		group != $1 && $3 { row($1, $2, $3, $4, $5) }
		END { row(last, passed, failed, skipped, last_note) }' "$RESULTS"
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
	AT_EXIT=''
	junit_checks
	awk -F '\t' '
		{ passed += $2; failed += $3; skipped += $4 }
		END {
			printf "%d passed, %d failed%s\n", passed, failed, skipped ? ", " skipped " skipped" : ""
			exit failed || !passed
		}' "$RESULTS"
}
