# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Builds of the module by this tree's Kbuild against a kernel's output directory.

# build_module KOUT MO [MAKE-ARGUMENT...]: makes MO/rust_dmirror.ko; a second run
# rebuilds what changed. Directories are paths inside the build root. With
# MODULE_SOURCE=DIRECTORY, builds that tree in place of this one.
build_module() {
	local kout=$1 mo=$2
	shift 2
	in_root sh -e -c '
		kout=$1 source=$2 mo=$3 jobs=$4
		shift 4
		mkdir -p "$mo"
		exec make -C "$kout" M="$source" MO="$mo" -j"$jobs" "$@" modules
	' sh "$kout" "${MODULE_SOURCE:-/repo}" "$mo" "$JOBS" "$@"
}

# crate_flags NAME VARIABLE=VALUE...: has kbuild call rustc-too.sh in place of rustc for the crate, with these
# variables, for the kernel that was chosen last. Its files are in build/KERNEL/NAME.
crate_flags() {
	local mo=build/$KNAME/$1
	shift
	mkdir -p "$TOP/$mo"
	rm -f "$TOP/$mo/src/rust_dmirror_main.o"
	# shellcheck disable=SC2153 # set by provide_kernel
	in_root make -C "/cache/${KOUT##*/}" M=/repo MO="/repo/$mo" "${KMAKE[@]}" RUSTC_OR_CLIPPY='sh /repo/scripts/lib/rustc-too.sh' \
		DMIRROR_OUTSIDE="/cache=$CACHE /repo=$TOP /=$ROOT" "$@" src/rust_dmirror_main.o
}

# Writes the rustdoc to build/doc. A warning is an error.
document_module() { crate_flags doc DMIRROR_DOC=/repo/build/doc; }

# Writes rust-project.json: the kernel's crates by the kernel's own target, then the module's.
describe_module() {
	local mo=build/$KNAME/rust-analyzer
	mkdir -p "$TOP/$mo"
	in_root make -C "/cache/${KOUT##*/}" M=/repo MO="/repo/$mo" "${KMAKE[@]}" rust-analyzer &&
		crate_flags rust-analyzer "DMIRROR_PROJECT=/repo/$mo/rust-project.json" &&
		mv "$TOP/$mo/rust-project.json" "$TOP/rust-project.json"
}
