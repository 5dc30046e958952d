# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The guests that make test, make test-all and make coverage boot.

# A guest: name, kernel, driver, steps, the kernel reports that are expected (COUNT:REGEX,
# separated by ;), "coherent" for coherent devices, a limit in seconds if the default is too
# short, arguments for the kernel's command line, and "numa" for two nodes and hugetlb pages
# of 1 GiB.
# Kernels are in provide_kernel (lib/kernel.sh), steps in guest/steps. Two guests of a list run at a time.
#
# The selftest's benchmark must end in two minutes. Under lockdep, beside another guest, it took 110 s on one day
# and longer on another, so it runs on stock only, with both kinds of devices.
GUESTS_TEST=(
	"own-hmm|own|rust|load hmm-tests-quick stress unload||coherent"
	"own|own|rust|load demo companion interleave-sample unload bad-parameters rmmod-busy||coherent|1800"
	"stock|stock|rust|load demo companion hmm-tests bench-smoke unload bench-memory-smoke good-parameters rmmod-busy||coherent|1800"
)
# With the C driver, cases of its known defects are expected to fail, and three of
# them make it warn (K8, T19). The core warns once, where a device cannot make its
# memory (K25). Ids are explained in docs/defects.md.
GUESTS_ALL=(
	"debug|debug|rust|load companion unload rmmod-busy kmemleak||coherent|1800"
	"debug-hmm|debug|rust|load hmm-tests-quick unload kmemleak||coherent|1200"
	"debug-stress|debug|rust|load stress unload kmemleak||coherent|1200"
	"debug-interleave|debug|rust|load interleave-sample unload kmemleak|||1800"
	"interleave|own|rust|load interleave-rest unload|||2400"
	"stock-interleave|stock|rust|load interleave unload|||2400"
	"c|stock|c|load companion unload|3:WARNING: .*dmirror_do_fault"
	"stress|own|rust|load split-before stress unload"
	"races|own|rust|load-fails races|1:WARNING: .* at add_pages;1:vmemmap alloc failure|||kunit.enable=0"
	"movable|own|rust|load companion unload|||1200|movablecore=1G"
	"numa|own|rust|load companion unload|||1200||numa"
)

# The kernel "debug" is slow. The selftest's benchmark has a limit of two minutes,
# which it meets only on a fast machine, without page_owner, page poisoning and
# kmemleak, and with no other guest at the same time: only with KASAN_BENCHMARK=yes.
GUESTS_ALONE=(
	"debug-hmm-whole|debug|rust|load hmm-tests unload|||1200|page_owner=off page_poison=0 kmemleak=off mitigations=off"
)

# run_guests SECONDS-OF-STRESS GUEST...
run_guests() {
	local entry name kernel driver steps allowed coherent limit append hardware seconds=$1
	shift
	for entry; do
		IFS='|' read -r name kernel driver steps allowed coherent limit append hardware <<<"$entry"
		# Two at a time, the long ones first: on two CPUs, with more of them, tests would run into time limits.
		LEAVE=1 finish || true
		STRESS=$(stress_options "$seconds") LIMIT=$((${limit:-600} + seconds)) ALLOWED=${allowed//;/$'\n'} COHERENT=$coherent APPEND=$append HARDWARE=$hardware \
			guest "$name" "$kernel" "$driver" "$steps"
	done
	finish || true
	judge_guests
}
