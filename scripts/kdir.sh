#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kdir.sh TREE [module|doc|rust-analyzer]: builds the module against a configured
# kernel tree with the user's own tools, or makes its documentation or
# rust-project.json. TREE may be the output directory of an O= build. Checks for
# everything that could be missing before make fails half-way through.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
kdir=$(cd "$1" 2>/dev/null && pwd) || {
	echo "error: KDIR=$1 is not a directory" >&2
	exit 1
}
problems=0

# missing WHAT REMEDY
missing() {
	[ "$problems" -gt 0 ] || echo "error: $kdir cannot build this module yet:" >&2
	problems=$((problems + 1))
	printf '  - %s\n    try: %s\n' "$1" "$2" >&2
}

config() { sed -n "s/^CONFIG_$1=//p" "$kdir/.config" | tr -d '"'; }
give_up() {
	[ "$problems" -eq 0 ] || exit 1
}

[ -f "$kdir/Makefile" ] || missing "no Makefile: not a kernel tree" "KDIR=/path/to/linux, or the O= directory of a build"
[ -f "$kdir/.config" ] || missing "no .config: the tree is not configured" "make -C $kdir defconfig rust.config, then the symbols that README.md names"
give_up

while read -r symbol why; do
	[ "$(config "$symbol")" = y ] || missing "CONFIG_$symbol is not set" "$why"
done <<'SYMBOLS'
MODULES              enable it
RUST                 enable it; if menuconfig hides it, `make rustavailable` says which tool is missing
TRANSPARENT_HUGEPAGE enable it
DEVICE_PRIVATE       enable it, and what it depends on: ZONE_DEVICE, MEMORY_HOTPLUG, MEMORY_HOTREMOVE
HMM_MIRROR           something must select it: TEST_HMM=m does, and so do nouveau, xe and amdgpu's SVM
SYMBOLS

rustc=${RUSTC:-rustc}
bindgen=${BINDGEN:-bindgen}
# kbuild takes a tree built by clang with LLVM=1 only.
llvm=${LLVM:-}
cc=${CC:-gcc}
if [ "$(config CC_IS_CLANG)" = y ]; then
	llvm=${llvm:-1}
	cc=${CC:-clang}
	# LLVM=-19 and LLVM=/path/ choose one of several clangs.
	case $llvm in -*) cc=clang$llvm ;; */) cc=${llvm}clang ;; esac
fi
for tool in make "$cc" "$rustc" "$bindgen"; do
	command -v "$tool" >/dev/null || missing "$tool is not installed" "install it, or give its path: RUSTC=, BINDGEN=, CC="
done

# Metadata of one rustc cannot be read by another.
built=$(config RUSTC_VERSION_TEXT)
if [ -n "$built" ] && command -v "$rustc" >/dev/null && [ "$("$rustc" --version)" != "$built" ]; then
	missing "the tree was configured with '$built', but $rustc is '$("$rustc" --version)'" \
		"RUSTC=/path/to/that/rustc, or make -C $kdir olddefconfig modules_prepare with this one"
fi

if [ "$(config RUST)" = y ]; then
	for file in libcore.rmeta libkernel.rmeta libbindings.rmeta libmacros.so; do
		[ -f "$kdir/rust/$file" ] || {
			missing "no rust/$file: the tree's Rust metadata was not built (header packages ship none)" \
				"make -C $kdir ${llvm:+LLVM=$llvm }modules_prepare"
			break
		}
	done
fi
[ -f "$kdir/Module.symvers" ] ||
	missing "no Module.symvers: the kernel's exported symbols are not known" "make -C $kdir ${llvm:+LLVM=$llvm }, or copy it from the kernel's build"
give_up

lock_build
# A kernel's Makefile sets its tools itself; only what stands on the command line wins.
kdir_make() {
	local mo=$BUILD/$1
	shift
	mkdir -p "$mo"
	make -C "$kdir" M="$TOP" MO="$mo" ${llvm:+LLVM="$llvm"} \
		${RUSTC:+RUSTC="$RUSTC"} ${RUSTDOC:+RUSTDOC="$RUSTDOC"} ${BINDGEN:+BINDGEN="$BINDGEN"} ${CC:+CC="$CC"} \
		-j"$JOBS" "$@" 6>&-
}

# As crate_flags of lib/module.sh.
kdir_crate_flags() {
	rm -f "$BUILD/$1/src/rust_dmirror_main.o"
	kdir_make "$@" RUSTC_OR_CLIPPY="sh $TOP/scripts/lib/rustc-too.sh" src/rust_dmirror_main.o
}

case ${2:-module} in
module)
	kdir_make module modules
	echo "build/module/rust_dmirror.ko"
	;;
doc)
	kdir_crate_flags kdir/doc DMIRROR_DOC="$BUILD/doc"
	echo "build/doc/rust_dmirror/index.html"
	;;
rust-analyzer)
	project=kdir/rust-analyzer/rust-project.json
	kdir_make kdir/rust-analyzer rust-analyzer
	kdir_crate_flags kdir/rust-analyzer DMIRROR_PROJECT="$BUILD/$project"
	mv "$BUILD/$project" "$TOP/rust-project.json"
	echo "rust-project.json"
	;;
esac
