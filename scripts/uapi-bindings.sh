#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# uapi-bindings.sh HEADER OUT [CLANG-ARGUMENT...]: writes Rust bindings of a header of include/uapi.
#
# The driver (Kbuild) and the programs of user space (build.rs) are both built with what this makes, so that a
# number or a layout stands in the header only. Constants lose the prefix that the module's name repeats in Rust.
# The module that includes OUT has zerocopy's derive macros in scope.
set -e
header=$1 out=$2
shift 2

# bindgen itself does not know what _IOWR() and sizeof come to; with --clang-macro-fallback it asks clang, which
# writes temporary files for that. An -include among the arguments keeps bindgen 0.71.1 from it.
"${BINDGEN:-bindgen}" "$header" \
	--allowlist-item '((rust|hmm)_dmirror|(RUST|HMM)_DMIRROR)_.*' \
	--clang-macro-fallback --clang-macro-fallback-build-dir "$(dirname "$out")" \
	--rust-target 1.85 --use-core --no-prepend-enum-name --no-doc-comments \
	--with-derive-default --with-derive-partialeq --with-derive-eq \
	--with-derive-custom-struct '.*=FromBytes,Immutable,IntoBytes' \
	-o "$out.new" -- "$@"
sed -Ei 's/\b(RUST|HMM)_DMIRROR_//g' "$out.new"
mv "$out.new" "$out"
