# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What decides whether a guest passed: its kernel log, its test results, and
# whether it came to its end. Nothing here knows what the tests were.

# What a kernel says that is wrong.
mapfile -t GATE_REPORTS < <(grep -vE '^(#|$)' "$TOP/tests/kernel-reports")

# gate_console LOG [COUNT:REGEX...]: fails if the kernel log holds a report.
# A run that provokes reports on purpose lists the lines that it expects, and
# each must come exactly COUNT times. A call trace must belong to a report.
gate_console() {
	local log=$1 reports
	shift
	reports=$(IFS='|'; echo "${GATE_REPORTS[*]}")
	[ -s "$log" ] || { echo "$log: the kernel said nothing at all"; return 1; }
	# The patterns go through the environment: -v would interpret their backslashes.
	REPORTS=$reports ALLOWED=$(printf '%s\n' "$@") awk '
		BEGIN {
			count = split(ENVIRON["ALLOWED"], lines, "\n")
			for (i = 1; i <= count; i++) {
				if (lines[i] == "") continue
				colon = index(lines[i], ":")
				allowed++
				expected[allowed] = substr(lines[i], 1, colon - 1)
				pattern[allowed] = substr(lines[i], colon + 1)
			}
			last = -1000
		}
		function show(what) {
			bad = 1
			if (++shown <= 20) printf "%s: line %d: %s\n", what, NR, $0
		}
		{ sub(/\r$/, "") }
		# What our own init announces is no report.
		/dmirror-guest: / { next }
		{
			for (i = 1; i <= allowed; i++)
				if ($0 ~ pattern[i]) { seen[i]++; last = NR; next }
		}
		$0 ~ ENVIRON["REPORTS"] { show("kernel report"); last = NR; next }
		/Call Trace:/ && NR - last > 60 { show("call trace without a report") }
		/^(\[[^]]*\])? *not ok [0-9]+/ { show("failed KUnit case") }
		END {
			for (i = 1; i <= allowed; i++)
				if (seen[i] + 0 != expected[i]) {
					printf "expected %d times, came %d times: %s\n", expected[i], seen[i], pattern[i]
					bad = 1
				}
			exit bad
		}' "$log"
}

# The words of init's last frame: without it the guest ended early.
gate_finished() {
	grep -q '^#@ finished' "$1" && return
	echo "the guest ended before its steps did; the last one was: $(sed -n 's/^#@ begin //p' "$1" | tail -n 1)"
	return 1
}

# step_output OUTPUT STEP: what one step printed.
step_output() {
	awk -v step="$2" '
		{ sub(/\r$/, "") }
		$1 == "#@" && $2 == "begin" { on = ($3 == step); next }
		$1 == "#@" { on = 0; next }
		on' "$1"
}

# step_status OUTPUT STEP: its exit status, nothing if it never ended.
step_status() { sed -n "s/^#@ end $2 \([0-9]*\).*/\1/p" "$1"; }

# kunit_log CONSOLE STEP: the KTAP that KUnit suites wrote to the kernel's log
# during one step of the guest. A console line may be cut by nothing else.
kunit_log() {
	awk -v step="$2" '
		{ sub(/\r$/, "") }
		/dmirror-guest: begin / { on = ($NF == step) }
		/dmirror-guest: end / { on = 0 }
		on' "$1" | sed 's/^\[ *[0-9.]*\]\(\[ *[TC][0-9]*\]\)\? //' |
		awk '/^KTAP version/ { on = 1 } on'
}

# parse_ktap FILE NAME: the kernel's own parser reads the results and writes
# build/junit/NAME.xml. Sets PASSED, FAILED, SKIPPED; returns 1 unless every
# case passed or was skipped and none is missing. FILE is below build/.
parse_ktap() {
	local file=$1 name=$2 log=$LOGS/ktap/$2.log rc=0 line
	mkdir -p "$JUNIT" "$LOGS/ktap"
	in_root PYTHONDONTWRITEBYTECODE=1 python3 "/cache/${KPKG##*/}/source/tools/testing/kunit/kunit.py" parse \
		--junit="${JUNIT/#"$TOP"//repo}/$name.xml" "/repo/${file#"$TOP"/}" >"$log" 2>&1 || rc=1
	# Every result is in a suite that kunit.py calls "main"; people read many files.
	[ ! -f "$JUNIT/$name.xml" ] ||
		sed -i "s/<testsuite name=\"main\"/<testsuite name=\"$name\"/" "$JUNIT/$name.xml"
	line=$(sed -n 's/.*Ran \([0-9]* tests: .*\)/\1/p' "$log" | tail -n 1)
	PASSED=$(ktap_count passed "$line")
	SKIPPED=$(ktap_count skipped "$line")
	FAILED=$(($(ktap_count failed "$line") + $(ktap_count crashed "$line") + $(ktap_count errors "$line")))
	if [ -z "$line" ] || { [ "$rc" -ne 0 ] && [ "$FAILED" -eq 0 ]; }; then
		# Nothing but skips is not a failure of the tests; no result at all is.
		[ "$PASSED" -eq 0 ] && [ "$SKIPPED" -gt 0 ] || FAILED=$((FAILED + 1))
	fi
	[ "$FAILED" -eq 0 ]
}

ktap_count() {
	local count
	count=$(sed -n "s/.*$1: \([0-9]*\).*/\1/p" <<<"$2")
	echo "${count:-0}"
}

# skip_reasons FILE: one line per reason, with how often it came.
skip_reasons() {
	sed -n 's/^[# ]*ok [0-9]* .*# SKIP *//p' "$1" | sort | uniq -c | sed 's/^ *//'
}
