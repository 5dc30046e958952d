#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make defects: runs cases for the known defects of the C driver with both drivers, and
# for bugs of the core on kernels with and without our patches. A case that crashes its
# kernel has its own guest.
#
# The C driver, and the unpatched kernel, must fail exactly as recorded with the case
# (tests/selftests/src/test: cases/defects, core_bug.rs). Our driver, and the patched
# kernel, must pass. CORE_BUGS=all runs all cases about the core, not a sample.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

WORK=$BUILD/defects
TABLE=$BUILD/defects.md
KNOWN=$TOP/tests/defects.md
ALL='t?.*,t??.*,k?.*,k??.*'

# broken_guest NAME DRIVER KERNEL COHERENT OOPS CASES ARGUMENTS: a guest of which only
# the cases are judged, by the table.
broken_guest() {
	local name=$1 driver=$2 kernel=$3 coherent=$4 oops=$5 cases=$6 append="$7 CASES=$6 kunit.enable=0" limit=75
	# After an oops, nothing more can be learnt, and the guest may not end by itself.
	[ "$oops" = no ] || append+=' oops=panic'
	[[ $cases != *,* ]] || limit=240
	[ "$coherent" = yes ] || coherent=''
	COHERENT=$coherent prepare_guest "$name" "$kernel" "$driver" "load defects" >/dev/null
	COHERENT=$coherent APPEND=$append LIMIT=$limit boot_guest "$name" "$kernel" "$driver"
	unset 'GUESTS[-1]'
}

case ${CORE_BUGS:=sample} in
sample | all) ;;
*) die "CORE_BUGS is '$CORE_BUGS'" "sample or all" ;;
esac

lock_cache
open_results
provide_root
provide_packages
provide_companion
rm -rf "$WORK" "$TABLE"
mkdir -p "$WORK"
"$COMPANION" defects --core-bugs "$CORE_BUGS" plan >"$WORK/plan"
for kernel in stock own; do
	provide_kernel "$kernel"
	provide_c_driver
done

# Our driver: all cases in one guest, on the kernel with the most checks.
COHERENT=yes APPEND="CASES=$ALL" LIMIT=400 guest defects-rust own rust "load defects unload"
APPEND="CORE_BUGS=$CORE_BUGS kunit.enable=0" LIMIT=300 guest defects-mended own rust "load core-bugs unload"
# Two guests at a time: the machine may have two CPUs only, and races need both.
while IFS=$'\t' read -r name driver kernel coherent oops cases append <&3; do
	broken_guest "$name" "$driver" "$kernel" "$coherent" "$oops" "$cases" "$append"
	LEAVE=1 finish || true
done 3<"$WORK/plan"
finish || true
judge_guests

say "what the drivers do, on Linux $KVERSION"
: >"$WORK/verdicts"
"$COMPANION" defects --core-bugs "$CORE_BUGS" table --vm "$VM" --rust defects-rust --mended defects-mended --table "$TABLE" --verdicts "$WORK/verdicts" || true
[ -s "$WORK/verdicts" ] || failed "defects: table" "was not made"
while IFS=$'\t' read -r what ok seen; do
	if [ "$ok" = 1 ]; then passed "defects: $what" "$seen"; else failed "defects: $what" "$seen"; fi
	printf '    %s%-34s %s%s\n' "$([ "$ok" = 1 ] || echo "$RED")" "$what" "$seen" "$PLAIN"
done <"$WORK/verdicts"
if cmp -s "$TABLE" "$KNOWN"; then
	passed "defects: the table in the tree"
else
	failed "defects: the table in the tree" "differs; if that is right: cp build/defects.md tests/defects.md"
	diff -u "$KNOWN" "$TABLE" | sed 's/^/    | /' >&2 || true
fi

[ -n "${AT_EXIT:-}" ] || exit 0
say "results"
show_results
note "the table is in build/defects.md, what each guest printed in build/vm/defects-*"
note "total time $(human_time "$SECONDS")"
closing
