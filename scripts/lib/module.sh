# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The module, built by the tree's own Kbuild against a kernel's output directory.

# build_module KOUT MO [MAKE-ARGUMENT...]: both directories as seen inside the
# build root. Leaves MO/rust_dmirror.ko; a second run rebuilds what changed. With
# MODULE_SOURCE=DIRECTORY, seen as those are, it is another tree than this one.
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
