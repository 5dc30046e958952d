#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make format: formats all Rust files with the kernel's settings. With --check, only
# lists those that would change.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

lock_cache
provide_root
provide_packages
in_root bash -c '
	status=0
	config=$1/.rustfmt.toml
	shift
	mapfile -d "" files < <(find . -name "*.rs" -not -path "./build/*" -not -path "./tests/selftests/*" -not -path "./tests/coverage/*" -not -path "./tests/mutants/*" -not -path "./tests/layers/*" -print0)
	rustfmt "$@" --color never --edition 2021 --config-path "$config" "${files[@]}" || status=1
	for crate in selftests coverage mutants layers; do
		(cd "tests/$crate" && cargo fmt -- "$@" --color never) || status=1
	done
	exit "$status"' bash "/cache/${KPKG##*/}/source" "$@"
