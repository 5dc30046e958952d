# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# A run in a guest, from what it needs to what it proved:
#
#   guest NAME KERNEL DRIVER "STEP..."   provides everything, starts the boot
#   finish                               waits (common.sh)
#   judge_guests                         counts the results of all of them
#
# A STEP is a file in scripts/guest/steps. It prints KTAP, or text if it is
# listed in TEXT_STEPS, and then its exit status is the result. Set for one call:
#   LIMIT=SECONDS  STRESS=ITS-OPTIONS  BENCH_ARGUMENTS=ITS-OPTIONS  VM_MEMORY=3G  APPEND=KERNEL-ARGUMENTS  PARAMETERS=OF-THE-MODULE
#   ALLOWED=COUNT:REGEX[newline...]   the kernel reports that this run provokes
#   RACES=LISTS  RACE_SECONDS=N  RACE_SEED=N   of the step races
#   COHERENT=yes   with special purpose memory, and coherent devices on it
#   HARDWARE=numa  with two NUMA nodes, and two hugetlb pages of 1 GiB

TEXT_STEPS=' demo mm-selftests bench-hmm-tests bench-memory bench-memory-smoke '

# The selftest's private variants: a run in which fewer passed is no pass, even
# if the rest only skipped. One of them needs gup_test. With coherent devices each
# has a second variant, and none may skip.
declare -A PRIVATE_TESTS=([7.3]=39)

# What COHERENT=yes stands for; the step bad-parameters knows the addresses.
COHERENT_MEMORY=3G
# The second range is no memory, and nobody may use it as such.
COHERENT_APPEND='memmap=512M$0x80000000 memmap=4M$0xe0000000'
COHERENT_PARAMETERS='spm_addr_dev0=0x80000000 spm_addr_dev1=0x90000000'

# What HARDWARE=numa stands for. Each of the pages is aligned to its size, and there is room for both on
# the second node.
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
	[ -n "${COMPANION:-}" ] || [[ ! " $steps " =~ ' '(demo|companion|interleave[a-z-]*|good-parameters|load-fails|mm-selftests|races|stress|bench[a-z-]*)' ' && $steps != shell ]] ||
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

# stress_options SECONDS: with what the person wants besides.
stress_options() { echo "--seconds $1${STRESS_SEED:+ --seed $STRESS_SEED}${STRESS_OPTIONS:+ $STRESS_OPTIONS}"; }

guest() {
	prepare_guest "$@"
	boot_guest "$@"
}

# boot_guest NAME KERNEL DRIVER: what prepare_guest has just prepared.
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

# Reasons for which the companion skips a case, each where it may. Without coherent devices:
SKIPS_NOT_COHERENT=(
	'no coherent device: insmod with spm_addr_dev0= and spm_addr_dev1='
	'no coherent devices'
)
# One of these two: with movablecore= among the kernel's arguments, or without.
SKIPS_MOVABLE=('there is a zone for movable memory')
SKIPS_NOT_MOVABLE=('no zone for movable memory: boot with movablecore=')
# Without HARDWARE=numa:
SKIPS_NOT_NUMA=('no hugetlb pages of 1 GiB: boot with hugepagesz=1G hugepages=2, and a CPU with pdpe1gb')
# On Debian's kernel, which has no fault injection, and a bug that the kernels built here have not.
SKIPS_STOCK=(
	'this kernel has no fail-nth'
	'this kernel cannot let page allocations fail'
	'this kernel has no /sys/kernel/debug/fail_function'
	'this kernel cannot hold a migration back'
	'K12: this kernel may not survive'
	'K13: this kernel may not survive'
)

# failed_cases FILE: their names, at most ten, without the suites that they are in.
failed_cases() { sed -n 's/^[# ]*not ok [0-9]* *-* *\([^ ]*\).*/\1/p' "$1" | head -n 10; }

# judge_ktap NAME STEP FILE: counts the cases, and what they do not say as rows
# of their own: "NAME.STEP: WHAT".
judge_ktap() {
	local name=$1 step=$2 file=$3 row=$1.$2 status note=''
	parse_ktap "$file" "$row" || true
	[ "$SKIPPED" -eq 0 ] || note="skipped: $(skip_reasons "$file" | paste -sd ';')"
	[ "$FAILED" -eq 0 ] || note="not ok: $(failed_cases "$file" | paste -sd ' ')"
	count "$row" "$PASSED" "$FAILED" "$SKIPPED" "$note"
	[ "$FAILED" -eq 0 ] || sed -n 's/^\(.*not ok [0-9]\)/    | \1/p' "$file" | head -n 20 >&2
	if [ "$step" != kunit ]; then
		status=$(step_status "$VM/$name/output.log" "$step")
		case $status in
		0 | 4) ;;
		'') failed "$row: end" "did not end" ;;
		# A failed case is a reason for it.
		*) [ "$FAILED" -gt 0 ] || failed "$row: end" "exit status $status" ;;
		esac
	fi
	case $step in
	hmm-tests | hmm-tests-quick) judge_hmm_tests "$name" "$step" "$file" "$PASSED" ;;
	companion | interleave* | core-bugs | defects | stress) judge_companion "$name" "$step" "$file" ;;
	esac
}

# judge_skips ROW FILE REASON...: each other reason for a skip is a failure.
judge_skips() {
	local row=$1 file=$2 reason
	shift 2
	while read -r reason; do
		[ -z "$reason" ] || printf '%s\n' "$@" | grep -xF -- "$reason" >/dev/null || failed "$row: unexpected skip" "$reason"
	done <<<"$(sed -n 's/^[# ]*ok [0-9]* .*# SKIP *//p' "$file" | sort -u)"
}

# judge_companion NAME STEP FILE: it skips what it does not find; here it is known what is there. What
# it skips with the C driver is in its cases.
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

# judge_hmm_tests NAME STEP FILE PASSED: the same for the selftest, and enough of it must have run.
judge_hmm_tests() {
	local name=$1 step=$2 file=$3 good=$4 least=${PRIVATE_TESTS[$KSERIES]:-1} expected=()
	# The quick one goes without the benchmark.
	[ "$least" = 1 ] || [ "$step" = hmm-tests ] || least=$((least - 1))
	if [ -z "${GUEST_GUP[$name]:-}" ]; then
		expected+=('Skipping test, could not find gup_test driver')
		[ "$least" = 1 ] || least=$((least - 1))
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
		# insmod runs the module's suites; a kernel that has KUnit and shows none is a failure.
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

# The release that a guest's kernel announced first of all.
uname_of_guest() { sed -n 's/.*Linux version \([^ ]*\).*/\1/p' "$VM/$1/console.log" | head -n 1; }
