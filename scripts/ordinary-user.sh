#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the first steps of an ordinary user, up to commands in the build root, when root runs the tests. The user
# has no privileges, no sbin in PATH, a home, a checkout and a cache of their own, and subordinate ids. The build
# root is the existing one, read-only. The system is not changed: the entries for the user in /etc exist in a mount
# namespace only. A line "skip: WHY" says what this system lacks for it.
set -euo pipefail
# shellcheck source=scripts/lib/all.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/all.sh"

USER_NAME=dmirror-user
USER_ID=61357
# Ids that are not given to users or containers.
FIRST_SUBORDINATE=3000000000

skip() {
	echo "skip: $*"
	exit 0
}

[ "$(id -u)" = 0 ] || skip "this user is one"
for tool in newuidmap newgidmap setpriv; do
	command -v "$tool" >/dev/null || skip "there is no $tool"
done
for file in /etc/subuid /etc/subgid; do
	[ -f "$file" ] || skip "there are no subordinate ids: no $file"
done
# In a container, only some ids may exist.
awk -v last=$((FIRST_SUBORDINATE + 65536)) '$1 <= 0 && $1 + $3 >= last { found = 1 } END { exit !found }' /proc/self/uid_map ||
	skip "this container has not enough user ids"

remove_work() { rm -rf --one-file-system "$work"; }

# newest OF: prints the newest kernel by the archive's lists, without updating them.
newest() {
	in_root sh -c 'scripts/lib/newest-kernel.sh "$@" 2>&1 || true' sh /cache/newest "${KERNEL_SERIES[@]}"
	rm -f "$CACHE/newest"
}

lock_cache
provide_root
# Root may not have needed these packages yet.
need_packages
resolve_kernel
expected=$(newest)

AT_EXIT=remove_work
work=$(mktemp -d /tmp/dmirror-user.XXXXXX)
chmod 755 "$work"
user_cache=$work/home/.cache/rust-dmirror
mkdir -p "$user_cache" "$work/checkout" "$work/etc" "$work/root"
# Not mounted below the cache: binding the cache would bind this mount too, which the user may not unmount.
ln -s "$work/root" "$user_cache/$ROOT_KEY"
tar -C "$TOP" -c --exclude=./build --exclude=./.git . | tar -C "$work/checkout" -x
cp "$CACHE/kernel-release" "$user_cache/"
chown -hR "$USER_ID:$USER_ID" "$work/home" "$work/checkout"
cp /etc/passwd /etc/group /etc/subuid /etc/subgid "$work/etc/"
echo "$USER_NAME:x:$USER_ID:$USER_ID::$work/home:/bin/sh" >>"$work/etc/passwd"
echo "$USER_NAME:x:$USER_ID:" >>"$work/etc/group"
echo "$USER_NAME:$FIRST_SUBORDINATE:65536" | tee -a "$work/etc/subuid" >>"$work/etc/subgid"

# The rest runs as that user.
unshare --mount bash -e -c '
	work=$1 root=$2 id=$3
	shift 3
	for file in passwd group subuid subgid; do mount --bind "$work/etc/$file" "/etc/$file"; done
	mount --bind "$root" "$work/root"
	mount -o remount,ro,bind "$work/root"
	cd "$work/checkout"
	exec setpriv --reuid "$id" --regid "$id" --clear-groups --inh-caps=-all \
		env -i HOME="$work/home" PATH=/usr/local/bin:/usr/bin:/bin LANG=C \
		bash "$work/checkout/tests/runner/ordinary-user.sh" "$@"
' bash "$work" "$ROOT" "$USER_ID" "$expected" 6>&- 9>&- || {
	rm -rf "$LOGS/ordinary-user"
	cp -r "$work/checkout/build/logs" "$LOGS/ordinary-user" 2>/dev/null || true
	die "an ordinary user does not come as far as root does" "look at $LOGS/ordinary-user"
}
