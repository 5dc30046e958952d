# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The programs of a run: the kernel's selftests and the C driver, built from the
# source package and kept in the cache; our companion; and the cargo workspaces of
# tests/, which need no guest.

build_hmm_tests() {
	in_root sh -e -c '
		source=$1 out=$2 tests=$1/tools/testing/selftests
		rm -rf "$out.new" && mkdir -p "$out.new/headers"
		make -C "$source" O="$out.new/headers" headers_install INSTALL_HDR_PATH="$out.new/uapi"
		# As tools/testing/selftests/mm/Makefile does, but static: the guest has no libraries.
		gcc -static -O2 -Wall -D_GNU_SOURCE= -U_FORTIFY_SOURCE -I"$tests" -I"$source" \
			-isystem "$out.new/uapi/include" -isystem "$source/tools/include/uapi" -o "$out.new/hmm-tests" \
			"$tests/mm/hmm-tests.c" "$tests/mm/vm_util.c" "$tests/mm/hugepage_settings.c" -lrt -lpthread -lm
		strip "$out.new/hmm-tests"
		rm -r "$out.new/headers" "$out.new/uapi"
		rm -rf "$out" && mv "$out.new" "$out"
	' sh "/cache/${KPKG##*/}/source" "/cache/${1##*/}"
}

hmm_tests_entry() { echo "hmm-tests-$(digest "$KVERSION" "$ROOT_KEY")"; }

# Sets HMM_TESTS to the packaged kernel's selftest, unmodified.
provide_hmm_tests() {
	local out
	out=$CACHE/$(hmm_tests_entry)
	HMM_TESTS=$out/hmm-tests
	if [ -x "$HMM_TESTS" ]; then
		cached "hmm-tests of $KRELEASE"
		return
	fi
	step "building hmm-tests of $KRELEASE" hmm-tests build_hmm_tests "$out" ||
		die "hmm-tests could not be built" "look at $LOGS/hmm-tests.log"
}

# The other mm selftests, see scripts/lib/mm.sh.
MM_SELFTESTS=(split_huge_page_test folio_split_race_test cow khugepaged uffd-unit-tests migration transhuge-stress)

# As their Makefile does, but static and without liburing. "migration" needs
# libnuma, which is unpacked beside it: adding it to the build root would change the
# key of everything in the cache.
build_mm_selftests() {
	in_root sh -e -c '
		source=$1 out=$2 tests=$1/tools/testing/selftests mm=$1/tools/testing/selftests/mm
		shift 2
		rm -rf "$out.new" && mkdir -p "$out.new/headers" "$out.new/include"
		make -C "$source" O="$out.new/headers" headers_install INSTALL_HDR_PATH="$out.new/uapi"
		echo "/* no liburing */" >"$out.new/include/local_config.h_gen"
		(cd "$out.new" && apt-get download libnuma-dev && dpkg-deb -x libnuma-dev_*.deb numa)
		for test; do
			libs="-lrt -lpthread -lm" sources=
			case $test in
			uffd-unit-tests) sources=$mm/uffd-common.c ;;
			migration) libs="-lnuma $libs" ;;
			esac
			gcc -static -O2 -Wall -Wunreachable-code -D_GNU_SOURCE= -U_FORTIFY_SOURCE -no-pie \
				-I"$tests" -I"$source" -I"$out.new/include" -I"$out.new/numa/usr/include" \
				-isystem "$out.new/uapi/include" -isystem "$source/tools/include/uapi" \
				-L"$out.new/numa/usr/lib/x86_64-linux-gnu" -o "$out.new/$test" \
				"$mm/$test.c" $sources "$mm/vm_util.c" "$mm/hugepage_settings.c" $libs
			strip "$out.new/$test"
		done
		cd "$out.new" && rm -r headers uapi include numa libnuma-dev_*.deb
		rm -rf "$out" && mv "$out.new" "$out"
	' sh "/cache/${KPKG##*/}/source" "/cache/${1##*/}" "${MM_SELFTESTS[@]}"
}

mm_selftests_entry() {
	echo "mm-selftests-$(digest "$KVERSION" "$ROOT_KEY" "$(declare -f build_mm_selftests)" "${MM_SELFTESTS[*]}")"
}

# Sets MM_TESTS to these programs.
provide_mm_selftests() {
	local out
	out=$CACHE/$(mm_selftests_entry)
	MM_TESTS=("${MM_SELFTESTS[@]/#/$out/}")
	if [ -d "$out" ]; then
		cached "mm selftests of $KRELEASE"
		return
	fi
	step "building mm selftests of $KRELEASE: ${MM_SELFTESTS[*]}" mm-selftests build_mm_selftests "$out" ||
		die "the mm selftests could not be built" "look at $LOGS/mm-selftests.log"
}

# build_of_source OUT MODULE CCFLAGS FILE...: builds one of the kernel's modules from
# FILEs of the packaged source, for the kernel that was chosen last.
build_of_source() {
	local out=$1 module=$2 ccflags=$3
	shift 3
	in_root sh -e -c '
		source=$1 kout=$2 out=$3 module=$4 ccflags=$5 files=$6
		shift 6
		rm -rf "$out.new" && mkdir -p "$out.new"
		for file in $files; do cp "$source/$file" "$out.new/"; done
		printf "%s\n" "obj-m := $module.o" "ccflags-y += $ccflags" >"$out.new/Kbuild"
		make -C "$kout" M="$out.new" "$@" modules
		rm -rf "$out" && mv "$out.new" "$out"
	' sh "/cache/${KPKG##*/}/source" "/cache/${KOUT##*/}" "/cache/${out##*/}" "$module" "$ccflags" "$*" "${KMAKE[@]}"
}

# module_entry NAME KERNEL-ENTRY: prints the cache entry of such a module.
module_entry() { echo "$1-$(digest "$KVERSION" "$2")"; }

build_c_driver() {
	# shellcheck disable=SC2016 # for make
	build_of_source "$1" test_hmm '-I$(src)' lib/test_hmm.c lib/test_hmm_uapi.h
}

# Sets MODULE to the C driver, test_hmm.ko, for the kernel that was chosen last.
provide_c_driver() {
	local out
	out=$CACHE/$(module_entry test_hmm "${KOUT##*/}")
	MODULE=$out/test_hmm.ko
	if [ -f "$KOUT/lib/test_hmm.ko" ]; then
		MODULE=$KOUT/lib/test_hmm.ko
		cached "C driver test_hmm for $KNAME"
	elif [ -f "$MODULE" ]; then
		cached "C driver test_hmm for $KNAME"
	else
		step "building the C driver test_hmm for $KNAME" "test_hmm-$KNAME" build_c_driver "$out" ||
			die "test_hmm.ko could not be built" "look at $LOGS/test_hmm-$KNAME.log"
	fi
}

# One disk, whose pages are allocated when they are written.
build_swap_disk() {
	build_of_source "$1" brd '-DCONFIG_BLK_DEV_RAM_COUNT=1 -DCONFIG_BLK_DEV_RAM_SIZE=262144' drivers/block/brd.c
}

# Sets SWAP_DISK to brd.ko, the kernel's RAM disk, to swap to: the guests have no
# other disk.
provide_swap_disk() {
	local out
	out=$CACHE/$(module_entry brd "${KOUT##*/}")
	SWAP_DISK=$out/brd.ko
	if [ -f "$SWAP_DISK" ]; then
		cached "a disk to swap to, for $KNAME"
	else
		step "building a disk to swap to, for $KNAME" "brd-$KNAME" build_swap_disk "$out" ||
			die "brd.ko could not be built" "look at $LOGS/brd-$KNAME.log"
	fi
}

# Sets MODULE to rust_dmirror.ko, built from this tree for the kernel that was chosen
# last. With UNOBSERVED=yes, without ledger and tracepoint.
provide_rust_driver() {
	local variant=module${UNOBSERVED:+-unobserved}
	MODULE=$BUILD/$KNAME/$variant/rust_dmirror.ko
	step "building rust_dmirror for $KNAME${UNOBSERVED:+, without ledger and tracepoint}" "$variant-$KNAME" \
		build_module "/cache/${KOUT##*/}" "/repo/build/$KNAME/$variant" "${KMAKE[@]}" ${UNOBSERVED:+DMIRROR_UNOBSERVED=y} ||
		die "rust_dmirror.ko could not be built for $KNAME" "look at $LOGS/$variant-$KNAME.log"
}

# provide_driver rust|c|none
provide_driver() {
	case $1 in
	rust) provide_rust_driver ;;
	c) provide_c_driver ;;
	none) MODULE='' ;;
	*) die "there is no driver '$1'" "DRIVER=rust or DRIVER=c" ;;
	esac
}

# cargo identifies what it has built by path and time. Inside the root every checkout
# is /repo, so each needs its own target directory.
CARGO_TARGET=cargo-$(digest "$ROOT_KEY" "$TOP")

# cargo COMMAND [ARGUMENT...] for the plugin and the report of make coverage.
coverage_cargo() {
	in_root CARGO_TARGET_DIR="/cache/$CARGO_TARGET/coverage" CARGO_TERM_COLOR=never \
		sh -e -c 'cd tests/coverage && exec cargo "$@"' sh "$@"
}

# Sets COVERAGE_PLUGIN, for QEMU, and COVERAGE_REPORT, which reads the plugin's output. Both are paths inside the
# build root.
provide_coverage() {
	COVERAGE_PLUGIN=/cache/$CARGO_TARGET/coverage/release/libdmirror_coverage_plugin.so
	COVERAGE_REPORT=/cache/$CARGO_TARGET/coverage/release/dmirror-coverage
	step "building the plugin and the report" coverage-build coverage_cargo build --release --locked ||
		die "tests/coverage could not be built" "$(remedy "$LOGS/coverage-build.log")"
}

# cargo COMMAND [ARGUMENT...] for the companion, in the build root.
companion_cargo() {
	in_root CARGO_TARGET_DIR="/cache/$CARGO_TARGET" RUSTFLAGS="-C target-feature=+crt-static" \
		CARGO_TERM_COLOR=never sh -e -c 'cd tests/selftests && exec cargo "$@"' sh "$@"
}

# logic_cargo COMMAND [ARGUMENT...] for tests/logic. LOOM=yes selects the tests for loom, with
# a target directory of their own, since their flags would cause a full rebuild.
logic_cargo() {
	in_root CARGO_TARGET_DIR="/cache/$CARGO_TARGET/logic${LOOM:+-loom}" RUSTFLAGS="${LOOM:+--cfg loom}" \
		${PROPTEST_CASES:+PROPTEST_CASES="$PROPTEST_CASES"} \
		CARGO_TERM_COLOR=never sh -e -c 'cd tests/logic && exec cargo "$@"' sh "$@"
}

# Sets COMPANION to dmirror, a static program. --target keeps the static flag away
# from procedural macros, which cannot be static.
provide_companion() {
	COMPANION=$CACHE/$CARGO_TARGET/x86_64-unknown-linux-gnu/release/dmirror
	step "building the companion program" companion \
		companion_cargo build --release --locked --target x86_64-unknown-linux-gnu ||
		die "the companion could not be built" "$(remedy "$LOGS/companion.log")"
}

# cargo COMMAND [ARGUMENT...] for the check of imports between files.
layers_cargo() {
	in_root CARGO_TARGET_DIR="/cache/$CARGO_TARGET/layers" CARGO_TERM_COLOR=never sh -e -c 'cd tests/layers && exec cargo "$@"' sh "$@"
}

# cargo COMMAND [ARGUMENT...] for the host's part of make mutants, in the build root.
mutants_cargo() {
	in_root CARGO_TARGET_DIR="/cache/$CARGO_TARGET" CARGO_TERM_COLOR=never sh -e -c 'cd tests/mutants && exec cargo "$@"' sh "$@"
}
