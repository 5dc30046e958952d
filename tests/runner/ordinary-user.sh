# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# ordinary-user.sh NEWEST: run by scripts/ordinary-user.sh as an ordinary user, in a checkout of theirs.
# NEWEST is what a lookup of the newest kernel says to root.
set -euo pipefail
path=$PATH
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/all.sh"

# must DESCRIPTION COMMAND...
must() {
	note "$1"
	"${@:2}" || die "not so: $1" "${*:2}"
}

must "an ordinary user" test "$(id -u)" -ne 0
must "no sbin in PATH" test "$path" = "${path//sbin/}"
lock_cache
must "all packages are there" need_packages
provide_root
resolve_kernel
must "root of the build root" test "$(in_root id -u)" = 0
in_root sh -c 'echo 1 >/repo/build/inside && echo 1 >/cache/inside'
must "what is written there into build/ and the cache is this user's" test -O "$BUILD/inside" -a -O "$CACHE/inside"
must "there are more ids than one" in_root chown 1:1 /cache/inside
newest=$(in_root sh -c 'scripts/lib/newest-kernel.sh "$@" 2>&1 || true' sh /cache/newest "${KERNEL_SERIES[@]}")
must "the lookup of the newest kernel says what it says to root: $1" test "$newest" = "$1"
must "make clean" make -s clean
must "build/ is gone" test ! -e "$BUILD"
must "make clean-cache" make -s clean-cache
must "the cache is gone" test ! -e "$CACHE"
say "an ordinary user comes as far as root does"
