# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Decides whether a guest passed, by its kernel log, its test results, and whether
# it ran to its end. Nothing here depends on which tests ran.

# The kernel messages that fail a run.
mapfile -t GATE_REPORTS < <(grep -vE '^(#|$)' "$TOP/tests/kernel-reports")

# gate_console LOG [COUNT:REGEX...]: fails if the kernel log has a report. A run
# that provokes reports on purpose lists the lines that it expects; each must occur
# exactly COUNT times. A call trace must belong to a report.
gate_console() {
	local log=$1 reports
	shift
	reports=$(IFS='|'; echo "${GATE_REPORTS[*]}")
	[ -s "$log" ] || { echo "$log: the kernel said nothing at all"; return 1; }
	# The patterns are passed in the environment, because -v would interpret their backslashes.
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
		# The lines of our own init are no reports.
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

# gate_finished OUTPUT: whether the output has init's last frame. Without it, the guest ended early.
gate_finished() {
	grep -q '^#@ finished' "$1" && return
	echo "the guest ended before its steps did; the last one was: $(sed -n 's/^#@ begin //p' "$1" | tail -n 1)"
	return 1
}

# step_output OUTPUT STEP: prints the output of one step.
step_output() {
	awk -v step="$2" '
		{ sub(/\r$/, "") }
		$1 == "#@" && $2 == "begin" { on = ($3 == step); next }
		$1 == "#@" { on = 0; next }
		on' "$1"
}

# step_status OUTPUT STEP: prints its exit status, or nothing if it did not end.
step_status() { sed -n "s/^#@ end $2 \([0-9]*\).*/\1/p" "$1"; }

# kunit_log CONSOLE STEP: prints the KTAP that KUnit suites wrote to the kernel log
# during one step of the guest, without the timestamps.
kunit_log() {
	awk -v step="$2" '
		{ sub(/\r$/, "") }
		/dmirror-guest: begin / { on = ($NF == step) }
		/dmirror-guest: end / { on = 0 }
		on' "$1" | sed 's/^\[ *[0-9.]*\]\(\[ *[TC][0-9]*\]\)\? //' |
		awk '/^KTAP version/ { on = 1 } on'
}

# parse_ktap FILE NAME: reads the results by the kernel's own parser, which writes
# build/junit/NAME.xml. Sets PASSED, FAILED, SKIPPED. Returns 1 unless every case
# passed or was skipped and none is missing. FILE is below build/.
parse_ktap() {
	local file=$1 name=$2 log=$LOGS/ktap/$2.log rc=0 line
	mkdir -p "$JUNIT" "$LOGS/ktap"
	in_root PYTHONDONTWRITEBYTECODE=1 python3 "/cache/${KPKG##*/}/source/tools/testing/kunit/kunit.py" parse \
		--junit="${JUNIT/#"$TOP"//repo}/$name.xml" "/repo/${file#"$TOP"/}" >"$log" 2>&1 || rc=1
	# kunit.py calls the suite of every file "main". With many files, each needs its own name.
	[ ! -f "$JUNIT/$name.xml" ] ||
		sed -i "s/<testsuite name=\"main\"/<testsuite name=\"$name\"/" "$JUNIT/$name.xml"
	line=$(sed -n 's/.*Ran \([0-9]* tests: .*\)/\1/p' "$log" | tail -n 1)
	PASSED=$(ktap_count passed "$line")
	SKIPPED=$(ktap_count skipped "$line")
	FAILED=$(($(ktap_count failed "$line") + $(ktap_count crashed "$line") + $(ktap_count errors "$line")))
	if [ -z "$line" ] || { [ "$rc" -ne 0 ] && [ "$FAILED" -eq 0 ]; }; then
		# Only skips are no failure. No result at all is one.
		[ "$PASSED" -eq 0 ] && [ "$SKIPPED" -gt 0 ] || FAILED=$((FAILED + 1))
	fi
	[ "$FAILED" -eq 0 ]
}

ktap_count() {
	local count
	count=$(sed -n "s/.*$1: \([0-9]*\).*/\1/p" <<<"$2")
	echo "${count:-0}"
}

# skip_reasons FILE: prints one line for each reason, with its count.
skip_reasons() {
	sed -n 's/^[# ]*ok [0-9]* .*# SKIP *//p' "$1" | sort | uniq -c | sed 's/^ *//'
}
