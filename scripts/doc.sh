#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make doc: the rustdoc of rust/ and src/, private items included, as the module is built for the kernel own
# (KERNEL=stock), or for a tree of one's own (KDIR). Links that lead nowhere are errors.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
[ -z "${KDIR:-}" ] || exec "$here/kdir.sh" "$KDIR" doc

# shellcheck source=scripts/lib/all.sh
. "$here/lib/all.sh"
lock_cache
provide_root
provide_kernel "${KERNEL:-own}"
step "documentation of rust/ and src/, as built for $KNAME" doc document_module ||
	die "the documentation could not be built" "look at $LOGS/doc.log; a warning of rustdoc is an error here"
say "build/doc/rust_dmirror/index.html: $(find "$BUILD/doc/rust_dmirror" -name '*.html' | wc -l) pages, in $(human_time "$SECONDS")"
