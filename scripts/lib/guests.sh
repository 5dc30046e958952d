# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Runs in guests, from preparation to verdict:
#
#   guest NAME KERNEL DRIVER "STEP..."   provides everything and starts the boot
#   finish                               waits for all guests (common.sh)
#   judge_guests                         counts the results of all guests
#
# A STEP is a file in scripts/guest/steps. It prints KTAP. If it is listed in
# TEXT_STEPS it prints text, and its exit status is the result. Variables for one call:
#   LIMIT=SECONDS  STRESS=ITS-OPTIONS  BENCH_ARGUMENTS=ITS-OPTIONS  VM_MEMORY=3G  APPEND=KERNEL-ARGUMENTS  PARAMETERS=OF-THE-MODULE
#   ALLOWED=COUNT:REGEX[newline...]   kernel reports that this run provokes
#   RACES=LISTS  RACE_SECONDS=N  RACE_SEED=N   options of the step "races"
#   COHERENT=yes   with special purpose memory, and coherent devices on it
#   HARDWARE=numa  with two NUMA nodes, and two hugetlb pages of 1 GiB

TEXT_STEPS=' demo mm-selftests bench-hmm-tests bench-memory bench-memory-smoke '

# The number of the selftest's variants for private devices. A run in which fewer
# passed fails, even if the others were only skipped. One of them needs gup_test.
# With coherent devices each has a second variant, and none may be skipped. A series
# that is not listed fails.
declare -A PRIVATE_TESTS=([7.3]=39)

# The meaning of COHERENT=yes. The step bad-parameters uses these addresses.
COHERENT_MEMORY=3G
# There is no memory at the second range: bad-parameters tries to use it.
COHERENT_APPEND='memmap=512M$0x80000000 memmap=4M$0xe0000000'
COHERENT_PARAMETERS='spm_addr_dev0=0x80000000 spm_addr_dev1=0x90000000'

# The meaning of HARDWARE=numa. The second node is large enough for both hugetlb pages, which are aligned to their
# size.
NUMA_CPU=Nehalem,+pdpe1gb
NUMA_MEMORY=6G
NUMA_APPEND='hugepagesz=1G hugepages=1:2'

GUESTS=()
declare -A GUEST_STEPS GUEST_KERNEL GUEST_DRIVER GUEST_ALLOWED GUEST_GUP GUEST_KUNIT GUEST_COHERENT GUEST_MOVABLE GUEST_HARDWARE

# prepare_guest NAME KERNEL DRIVER STEPS
prepare_guest() {
	local name=$1 kernel=$2 driver=$3 steps=$4
	provide_kernel "$kernel"
	EXTRA_MODULES=()
	if [[ " $steps " =~ ' '(both-drivers|bench-memory)' ' ]]; then
		provide_driver c
		EXTRA_MODULES=("$MODULE")
	fi
	provide_driver "$driver"
	[[ " $steps" != *[' -']hmm-tests* && $steps != shell ]] || provide_hmm_tests
	MM_TESTS=()
	[[ " $steps " != *' mm-selftests '* ]] || provide_mm_selftests
	# The companion is built once for all guests of a run.
	[ -n "${COMPANION:-}" ] || [[ ! " $steps " =~ ' '(demo|companion|interleave[a-z-]*|good-parameters|load-fails|mm-selftests|races|rmmod-busy|stress|bench[a-z-]*)' ' && $steps != shell ]] ||
		provide_companion
	SWAP_DISK=''
	[[ " $steps " != *' stress '* ]] || provide_swap_disk
	choose_accel
	# shellcheck disable=SC2086 # parameters are words
	make_initramfs "$name" "$driver" "$steps" ${PARAMETERS:-} ${COHERENT:+$COHERENT_PARAMETERS} ||
		die "the initramfs of $name could not be made" "is the disk full?"
	GUESTS+=("$name")
	GUEST_STEPS[$name]=$steps
	GUEST_KERNEL[$name]=$kernel
	GUEST_DRIVER[$name]=$driver
	GUEST_ALLOWED[$name]=${ALLOWED:-}
	GUEST_COHERENT[$name]=${COHERENT:-}
	GUEST_MOVABLE[$name]=$([[ ${APPEND:-} != *movablecore=* ]] || echo yes)
	GUEST_HARDWARE[$name]=${HARDWARE:-}
	GUEST_GUP[$name]=$(! kernel_has GUP_TEST || echo yes)
	GUEST_KUNIT[$name]=$(! kernel_has KUNIT || [ "$driver" != rust ] || [[ ${APPEND:-} == *kunit.enable=0* ]] || echo yes)
}

# stress_options SECONDS: prints the options of the stress, with those of the user.
stress_options() { echo "--seconds $1${STRESS_SEED:+ --seed $STRESS_SEED}${STRESS_OPTIONS:+ $STRESS_OPTIONS}"; }

guest() {
	prepare_guest "$@"
	boot_guest "$@"
}

# boot_guest NAME KERNEL DRIVER: boots the guest that prepare_guest has just prepared.
boot_guest() {
	local memory=${VM_MEMORY:-} cpu=${VM_CPU:-} numa='' append=''
	[ -z "${COHERENT:-}" ] || memory=${memory:-$COHERENT_MEMORY}
	case ${HARDWARE:-} in
	numa) memory=$NUMA_MEMORY cpu=$NUMA_CPU numa=yes append=$NUMA_APPEND ;;
	esac
	VM_MEMORY=$memory VM_CPU=$cpu VM_NUMA=$numa start "booting $1: kernel $2 ($(kernel_title)), driver $3, $ACCEL" "vm-$1" boot "$1" "${LIMIT:-300}" \
		"$KAPPEND ${COHERENT:+$COHERENT_APPEND} $append ${APPEND:-}"
}

kernel_title() { [ "$KNAME" = stock ] && echo "Debian's $KRELEASE, unpatched" || echo "our build of $KVERSION"; }

# judge_console NAME
judge_console() {
	local name=$1 allowed=() text
	[ -z "${GUEST_ALLOWED[$name]:-}" ] || mapfile -t allowed <<<"${GUEST_ALLOWED[$name]:-}"
	if text=$(gate_finished "$VM/$name/output.log"); then
		passed "$name end of run"
	else
		failed "$name end of run" "$text"
	fi
	if text=$(gate_console "$VM/$name/console.log" "${allowed[@]}"); then
		passed "$name kernel log"
	else
		failed "$name kernel log" "$(head -n 1 <<<"$text")"
		printf '%s\n' "${RED}    $name: the kernel's log fails the run:${PLAIN}" "$text" | sed '2,$s/^/    | /' >&2
	fi
}

# The reasons for which the companion may skip a case. Without coherent devices:
SKIPS_NOT_COHERENT=(
	'no coherent device: insmod with spm_addr_dev0= and spm_addr_dev1='
	'no coherent devices'
)
# One of these two: with or without movablecore= on the kernel's command line.
SKIPS_MOVABLE=('there is a zone for movable memory')
SKIPS_NOT_MOVABLE=('no zone for movable memory: boot with movablecore=')
# Without HARDWARE=numa:
SKIPS_NOT_NUMA=('no hugetlb pages of 1 GiB: boot with hugepagesz=1G hugepages=2, and a CPU with pdpe1gb')
# On Debian's kernel, which has no fault injection, and has a bug that is fixed in the kernels built here.
SKIPS_STOCK=(
	'this kernel has no fail-nth'
	'this kernel cannot let page allocations fail'
	'this kernel has no /sys/kernel/debug/fail_function'
	'this kernel cannot hold a migration back'
	'K12: this kernel may not survive'
	'K13: this kernel may not survive'
)

# failed_cases FILE: their names, at most ten, without the suites that they are in.
failed_cases() { sed -n 's/^[# ]*not ok [0-9]* *-* *\([^#]*[^# ]\).*/\1/p' "$1" | head -n 10; }

# judge_ktap NAME STEP FILE: counts the cases. Other failures are counted as rows
# of their own, "NAME.STEP: WHAT".
judge_ktap() {
	local name=$1 step=$2 file=$3 row=$1.$2 status note=''
	parse_ktap "$file" "$row" || true
	[ "$SKIPPED" -eq 0 ] || note="skipped: $(skip_reasons "$file" | paste -sd ';')"
	if [ "$FAILED" -gt 0 ]; then
		note=$(failed_cases "$file" | paste -sd ';')
		note=${note:+not ok: $note}
		note=${note:-results are missing}
	fi
	count "$row" "$PASSED" "$FAILED" "$SKIPPED" "$note"
	[ "$FAILED" -eq 0 ] || sed -n 's/^\(.*not ok [0-9]\)/    | \1/p' "$file" | head -n 20 >&2
	if [ "$step" != kunit ]; then
		status=$(step_status "$VM/$name/output.log" "$step")
		case $status in
		0 | 4) ;;
		'') failed "$row: end" "did not end" ;;
		# A failed case explains this status.
		*) [ "$FAILED" -gt 0 ] || failed "$row: end" "exit status $status" ;;
		esac
	fi
	case $step in
	hmm-tests | hmm-tests-quick) judge_hmm_tests "$name" "$step" "$file" "$PASSED" ;;
	companion | interleave* | core-bugs | defects | stress) judge_companion "$name" "$step" "$file" ;;
	esac
}

# judge_skips ROW FILE REASON...: counts each skip for another reason as a failure.
judge_skips() {
	local row=$1 file=$2 reason
	shift 2
	while read -r reason; do
		[ -z "$reason" ] || printf '%s\n' "$@" | grep -xF -- "$reason" >/dev/null || failed "$row: unexpected skip" "$reason"
	done <<<"$(sed -n 's/^[# ]*ok [0-9]* .*# SKIP *//p' "$file" | sort -u)"
}

# judge_companion NAME STEP FILE: the companion skips what the guest lacks. Here it is known what the guest has, so
# other skips are failures. With the C driver, its cases themselves say what is skipped.
judge_companion() {
	local name=$1 step=$2 file=$3 expected=()
	[ "${GUEST_DRIVER[$name]:-}" = rust ] || return 0
	if [ "$step" != stress ]; then
		[ -n "${GUEST_COHERENT[$name]:-}" ] || expected+=("${SKIPS_NOT_COHERENT[@]}")
		[ "${GUEST_HARDWARE[$name]:-}" = numa ] || expected+=("${SKIPS_NOT_NUMA[@]}")
		[ "${GUEST_KERNEL[$name]:-}" != stock ] || expected+=("${SKIPS_STOCK[@]}")
		if [ -n "${GUEST_MOVABLE[$name]:-}" ]; then expected+=("${SKIPS_MOVABLE[@]}"); else expected+=("${SKIPS_NOT_MOVABLE[@]}"); fi
	fi
	judge_skips "$name.$step" "$file" "${expected[@]}"
}

# judge_hmm_tests NAME STEP FILE PASSED: the same for the selftest, of which also enough cases must have passed.
judge_hmm_tests() {
	local name=$1 step=$2 file=$3 good=$4 least=${PRIVATE_TESTS[$KSERIES]:-} expected=()
	[ -n "$least" ] || {
		failed "$name.$step: enough" "nothing says how many must pass on Linux $KSERIES: PRIVATE_TESTS in scripts/lib/guests.sh"
		return
	}
	# The quick variant leaves the benchmark out.
	[ "$step" = hmm-tests ] || least=$((least - 1))
	if [ -z "${GUEST_GUP[$name]:-}" ]; then
		expected+=('Skipping test, could not find gup_test driver')
		least=$((least - 1))
	fi
	if [ -n "${GUEST_COHERENT[$name]:-}" ]; then
		least=$((2 * least))
	else
		expected+=('DEVICE_COHERENT not available')
	fi
	judge_skips "$name.$step" "$file" "${expected[@]}"
	[ "$good" -ge "$least" ] || failed "$name.$step: enough" "$good passed, $least were expected"
}

# judge_guest NAME
judge_guest() {
	local name=$1 step file
	judge_console "$name"
	for step in ${GUEST_STEPS[$name]}; do
		file=$VM/$name/$step.out
		step_output "$VM/$name/output.log" "$step" >"$file"
		if [[ $TEXT_STEPS == *" $step "* ]]; then
			if [ "$(step_status "$VM/$name/output.log" "$step")" = 0 ]; then
				passed "$name $step"
			else
				failed "$name $step" "$file"
				tail -n 20 "$file" | sed 's/^/    | /' >&2
			fi
		else
			judge_ktap "$name" "$step" "$file"
		fi
	done
	if [ -n "${GUEST_KUNIT[$name]:-}" ]; then
		# insmod runs the KUnit suites. If the kernel has KUnit and the log has no suite, that is a failure.
		kunit_log "$VM/$name/console.log" "${GUEST_STEPS[$name]%% *}" >"$VM/$name/kunit.out"
		judge_ktap "$name" kunit "$VM/$name/kunit.out"
	fi
	[ ! -f "$VM/$name/retried" ] || note "$name: $(cat "$VM/$name/retried")"
}

judge_guests() {
	local name
	for name in "${GUESTS[@]}"; do
		judge_guest "$name"
	done
	GUESTS=()
}

# uname_of_guest NAME: prints the release that the guest's kernel has announced.
uname_of_guest() { sed -n 's/.*Linux version \([^ ]*\).*/\1/p' "$VM/$1/console.log" | head -n 1; }
