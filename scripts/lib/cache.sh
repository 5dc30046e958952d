# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The cache as a directory: whether it is ours, and what in it is.

# https://bford.info/cachedir: backups leave out a directory with this file.
# Its second line is what make clean-cache looks for before it removes one.
CACHE_TAG='Signature: 8a477f597d28d172789f06886806bc55
# The cache of rust_dmirror; its "make clean-cache" removes all of this directory.'

# The names that this project gives to what it keeps there.
HEX='[0-9a-f]{12}'
CACHE_NAMES="^(CACHEDIR\.TAG|lock|home|kernel-release|own-src(\.new|\.lock)?|accel-$HEX|debian-[0-9][^/]*|(root|stock|own|hmm-tests|mm-selftests|test_hmm|brd|cargo)-$HEX(\.new)?)$"

cache_entries() { find "$CACHE" -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null; }

# The first entry that is not ours.
foreign_entry() { cache_entries | grep -m 1 -vE "$CACHE_NAMES" || true; }

marked() { [ "$(cat "$CACHE/CACHEDIR.TAG" 2>/dev/null)" = "$CACHE_TAG" ]; }

# Whether a run of this project, maybe of an older version, made something there.
plainly_ours() {
	grep -qsE '^[0-9.]+ [^ ]+ [^ ]+$' "$CACHE/kernel-release" || cache_entries | grep -E "^root-$HEX(\.new)?$" >/dev/null
}

# What is there may be somebody's home directory.
check_cache() {
	local foreign
	marked || plainly_ours || foreign=$(cache_entries | grep -m 1 -vxE 'lock|CACHEDIR\.TAG') || true
	[ -z "${foreign:-}" ] ||
		die "$CACHE is no cache of this project: it has $foreign" "DMIRROR_CACHE=DIRECTORY that is new or empty"
}

# A cache that is new or has nothing but ours is marked as one.
mark_cache() {
	local foreign
	! marked || return 0
	foreign=$(foreign_entry)
	if [ -z "$foreign" ]; then
		printf '%s\n' "$CACHE_TAG" >"$CACHE/CACHEDIR.TAG"
	else
		note "$CACHE has $foreign, which is not of this project: make clean-cache will leave it alone"
	fi
}

# For make clean-cache.
remove_cache() {
	[ -d "$CACHE" ] || {
		say "there is no cache in $CACHE"
		return
	}
	marked || die "$CACHE does not say that it is a cache of this project: it has no CACHEDIR.TAG of ours" \
		"if it is one: make update, then this again; if not, remove by hand what you want to be rid of"
	lock_cache
	say "removing $CACHE"
	# Not all of the build root's files belong to a user without root.
	as_root_ids rm -rf --one-file-system "$CACHE"
}
