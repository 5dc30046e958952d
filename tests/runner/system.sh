# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2317,SC2030,SC2031 # stand-ins are called by what is tried
#
# Read by scripts/selftest.sh: what the scripts say on a system that lacks
# something. Stand-ins for its programs are functions here.

# with_path PATH: whether chroot is found by a script that was called with this PATH.
with_path() {
	PATH=$1 DMIRROR_CACHE=$CACHE "$BASH" -c '. "$1/scripts/lib/common.sh" && command -v chroot' bash "$TOP"
}

old_unshare() (
	unshare() { echo "unshare from util-linux 2.37.2: --mount-proc --kill-child --map-root-user"; }
	id() { echo 1000; }
	need_unshare
)

# A system of another distribution, whose user has not installed anything.
no_keyring() (
	id() { echo 1000; }
	KEYRINGS=("$WORK/no-such-keyring.gpg")
	need_packages
)

# What a lookup of the newest kernel says that ended so.
lookup() (
	printf '%s\n' "$1" >"$WORK/lookup.log"
	die_of_lookup "$WORK/lookup.log"
)

fetched() (
	printf '%s\n' "$1" >"$WORK/fetched.log"
	KVERSION=7.3.4-1
	die_of_packages "$WORK/fetched.log"
)

# A lookup that cannot ask the archive at all.
broken_lookup() (
	apt-cache() { return 100; }
	export -f apt-cache
	bash "$TOP/scripts/lib/newest-kernel.sh" "$WORK/newest" 7.3
)

not_entered() (
	as_root_ids() { echo "chroot: not found"; return 127; }
	need_namespaces() { :; }
	provide_root
)

# inside WANTED VAR=VALUE: whether a command in the build root has WANTED in its environment if
# the caller has the other.
inside() {
	env "${@:2}" DMIRROR_CACHE="$CACHE" "$BASH" -c '. "$1/scripts/lib/all.sh" && in_root env' bash "$TOP" | tee "$WORK/inside"
	grep -qxF -- "$1" "$WORK/inside"
}

# What a cache says that another version of this project has left.
series_of_cache() (
	CACHE=$WORK/series
	mkdir -p "$CACHE"
	echo "$1 $1.1-1 $1.1-amd64" >"$CACHE/kernel-release"
	resolve_kernel
)

jobs_of_three_quarters() { JOBS=3/4 DMIRROR_CACHE=$CACHE "$BASH" -c '. "$1/scripts/lib/common.sh"' bash "$TOP"; }

say "the runner's own test: systems that lack something"
expect green "chroot is found without sbin in PATH" with_path /usr/bin:/bin
expect green "an old unshare is named" says 'unshare has no --map-auto: unshare from util-linux 2.37.2' old_unshare
expect green "so is a missing keyring" says debian-archive-keyring no_keyring
expect green "so is a build root that cannot be entered" says 'the build root cannot be entered: chroot: not found' not_entered
expect green "the archive is blamed for a kernel that it has not" says 'the archive has no kernel' lookup 'none of: 7.3'
expect green "it is not blamed for another failure" says 'could not be looked up' lookup 'chroot: not found'
expect green "nor for a network that is down" says 'is the network reachable' lookup "E: Failed to fetch http://deb.debian.org  Could not resolve 'deb.debian.org'"
expect green "nor for a full disk" says 'make room' lookup 'cannot write: No space left on device'
expect green "a version that it dropped is named" says 'make update' fetched "E: Version '7.3.4-1' for 'linux-source-7.3' was not found"
expect red "an archive that cannot be asked is no archive without kernels" eval '[[ $(broken_lookup 2>&1) == *"none of"* ]]'
for name in http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY; do
	expect green "the build root is given $name" inside "$name=a b" "$name=a b"
done
expect green "cargo is told of JOBS" inside CARGO_BUILD_JOBS=3 JOBS=3
expect green "JOBS must be a number" says "JOBS is '3/4'" jobs_of_three_quarters
expect green "a kernel series that is not known is refused" says 'Linux 7.9, which' series_of_cache 7.9
expect green "one that is known is taken" series_of_cache "${KERNEL_SERIES[0]}"
