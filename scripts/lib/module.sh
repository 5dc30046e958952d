# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The module, built by the tree's own Kbuild against a kernel's output directory.

# build_module KOUT MO [MAKE-ARGUMENT...]: both directories as seen inside the
# build root. Leaves MO/rust_dmirror.ko; a second run rebuilds what changed.
build_module() {
	local kout=$1 mo=$2
	shift 2
	in_root sh -e -c '
		kout=$1 mo=$2 jobs=$3
		shift 3
		mkdir -p "$mo"
		exec make -C "$kout" M=/repo MO="$mo" -j"$jobs" "$@" modules
	' sh "$kout" "$mo" "$JOBS" "$@"
}
