# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Read by the steps of the experiment: runs one program while a huge folio is
# split, refused, refused with the rejected put, or zapped before it is split with
# and without the fix, and prints every stage that
# the patched kernel traces, as it happens: a kernel that breaks a moment later
# cannot take back what it has said.

# How long the program may take, and how long it may take to die.
limit=20
grace=5

event=/sys/kernel/tracing/events/migrate_device/migrate_device_stage
fail=/sys/kernel/debug/fail_function
rejected_put=/sys/module/migrate_device/parameters/rejected_put
zap_ignored=/sys/module/migrate_device/parameters/zap_ignored

# put FILE VALUE
put() { printf '%s' "$2" >"$1" || echo "experiment: cannot write '$2' to $1; is this kernel patched?"; }

# The next split is refused with -EAGAIN, those after it are not.
refuse_once() {
	put "$fail/inject" folio_split_unmapped
	put "$fail/folio_split_unmapped/retval" 0xfffffffffffffff5
	put "$fail/verbose" 0
	put "$fail/probability" 100
	put "$fail/times" 1
}

# How the program stands: its exit status, or what it is stuck in.
ended() {
	seconds=$1
	while [ ! -e /tmp/status ] && [ "$seconds" -gt 0 ]; do
		sleep 1
		seconds=$((seconds - 1))
	done
	[ -e /tmp/status ]
}

# under CONDITION PROGRAM...
under() {
	condition=$1
	shift
	rm -f /tmp/status
	# Of a split folio's 512 pages the first one tells enough.
	put "$event/filter" 'index == 0 && npages > 1'
	put "$event/enable" 1
	cat /sys/kernel/tracing/trace_pipe &
	reader=$!
	case $condition in
	refused) refuse_once ;;
	put) refuse_once && put "$rejected_put" 1 ;;
	zapped) put "$zap_ignored" 1 ;;
	esac
	(
		"$@"
		echo $? >/tmp/status
	) &
	if ended "$limit"; then
		echo "experiment: the program ended with status $(cat /tmp/status)"
	else
		killall -KILL "${1##*/}"
		if ended "$grace"; then
			echo "experiment: the program hung, and could be killed"
		else
			echo "experiment: the program hung, and cannot be killed"
		fi
	fi
	case $condition in
	refused | put)
		put "$fail/inject" '!folio_split_unmapped'
		put "$rejected_put" 0
		;;
	zapped) put "$zap_ignored" 0 ;;
	esac
	put "$event/enable" 0
	# What is in the pipe is read within a second. After an oops the kernel traces
	# no more, and the reader has ended by itself. A serial line that is just being
	# closed cannot be opened: init, which comes next, must find it at rest.
	sleep 1
	# An mm is checked when the last CPU that ran in it has run something else.
	for cpu in 1 2; do taskset "$cpu" true; done
	kill "$reader" 2>/dev/null
	wait "$reader" 2>/dev/null
	return 0
}
