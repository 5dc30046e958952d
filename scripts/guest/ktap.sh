# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# A few lines of KTAP for steps written in shell.

ktap_number=0
ktap_failed=0

# plan COUNT
plan() {
	echo "KTAP version 1"
	echo "1..$1"
}

# check DESCRIPTION COMMAND...: one test case; what the command prints becomes
# its diagnostics.
check() {
	ktap_number=$((ktap_number + 1))
	ktap_name=$1
	shift
	if ktap_text=$("$@" 2>&1); then
		ktap_result=ok
	else
		ktap_result='not ok'
		ktap_failed=1
	fi
	[ -z "$ktap_text" ] || printf '%s\n' "$ktap_text" | sed 's/^/# /'
	echo "$ktap_result $ktap_number - $ktap_name"
}

# sections: where the code of all modules is, which make coverage must know. After each insmod: the next
# one may be put elsewhere.
sections() {
	[ -n "${COVERAGE:-}" ] || return 0
	for ktap_file in /sys/module/*/sections/.*text*; do
		[ ! -f "$ktap_file" ] || echo "# $ktap_file $(cat "$ktap_file")"
	done | sed 's|/sys/module/\([^/]*\)/sections/|section \1 |'
}

not() { ! "$@"; }
