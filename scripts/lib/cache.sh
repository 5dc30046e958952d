# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The directory of the cache: whether it is ours, which entries are no longer needed,
# and whether the disk has room for more.

# https://bford.info/cachedir: backups skip a directory with this file. make
# clean-cache removes a directory only if its tag has this second line.
CACHE_TAG='Signature: 8a477f597d28d172789f06886806bc55
# The cache of rust_dmirror; its "make clean-cache" removes all of this directory.'

# The names of this project's entries.
HEX='[0-9a-f]{12}'
CACHE_NAMES="^(CACHEDIR\.TAG|lock|home|kernel-release|own-src(\.new|\.lock)?|accel-$HEX|debian-[0-9][^/]*|(root|stock|own|hmm-tests|mm-selftests|test_hmm|brd|cargo)-$HEX(\.new)?)$"

cache_entries() { find "$CACHE" -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null; }

# Prints the first entry that is not ours.
foreign_entry() { cache_entries | grep -m 1 -vE "$CACHE_NAMES" || true; }

marked() { [ "$(cat "$CACHE/CACHEDIR.TAG" 2>/dev/null)" = "$CACHE_TAG" ]; }

# Whether a run of this project, perhaps of an older version, has made an entry.
plainly_ours() {
	grep -qsE '^[0-9.]+ [^ ]+ [^ ]+$' "$CACHE/kernel-release" || cache_entries | grep -E "^root-$HEX(\.new)?$" >/dev/null
}

# Ends the run if the directory is none of ours: it might be a home directory.
check_cache() {
	local foreign
	marked || plainly_ours || foreign=$(cache_entries | grep -m 1 -vxE 'lock|CACHEDIR\.TAG') || true
	[ -z "${foreign:-}" ] ||
		die "$CACHE is no cache of this project: it has $foreign" "DMIRROR_CACHE=DIRECTORY that is new or empty"
}

# Marks a directory as our cache, if it has no foreign entries.
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
	# Without root, some of the build root's files belong to subordinate ids.
	as_root_ids rm -rf --one-file-system "$CACHE"
}

# Days for which unused entries are kept: another checkout may use them.
KEEP_DAYS=14

# current_entries: the entries that this version uses, whether or not they exist.
current_entries() {
	local name kernels=()
	echo "$ROOT_KEY"
	echo "$CARGO_TARGET"
	[ -n "${KVERSION:-}" ] || return 0
	kernels=("$(stock_entry)")
	for name in "${!OWN_KERNELS[@]}"; do kernels+=("$(own_entry "$name")"); done
	printf '%s\n' "${KPKG##*/}" "$(hmm_tests_entry)" "$(mm_selftests_entry)" "${kernels[@]}"
	for name in "${kernels[@]}"; do
		module_entry test_hmm "$name"
		module_entry brd "$name"
	done
}

# Whether a cargo entry belongs to another checkout that still exists and has the same compilers.
cargo_of_others() {
	local key checkout
	{ read -r key && read -r checkout; } 2>/dev/null <"$CACHE/$1/made-for" || return
	[ "$key" = "$ROOT_KEY" ] && [ -d "$checkout" ]
}

# prune_cache DAYS: removes our entries that this version does not use and that nothing has used for DAYS. Marks
# the entries that this version uses. Before the kernel is known, only checks roots and cargo's directories.
prune_cache() {
	local days=$1 entry current old=() kinds='root|cargo'
	[ -z "${KVERSION:-}" ] || kinds+='|stock|own|hmm-tests|mm-selftests|test_hmm|brd'
	current=$(current_entries)
	[ ! -d "$CACHE/$CARGO_TARGET" ] || printf '%s\n' "$ROOT_KEY" "$TOP" >"$CACHE/$CARGO_TARGET/made-for"
	while read -r entry; do
		if printf '%s\n' "$current" | grep -xF -- "$entry" >/dev/null; then
			touch -c "$CACHE/$entry" 2>/dev/null || true
		elif [[ $entry =~ ^($kinds)-$HEX(\.new)?$ || (-n ${KVERSION:-} && $entry == debian-[0-9]*) ]] && ! cargo_of_others "$entry"; then
			[ "$days" -gt 0 ] && [ -n "$(find "$CACHE/$entry" -maxdepth 1 -newermt "$days days ago" -print -quit)" ] ||
				old+=("$entry")
		fi
	done < <(cache_entries | sort)
	[ ${#old[@]} -gt 0 ] || return 0
	say "removing from $CACHE what is not of this version$([ "$days" = 0 ] || echo " and was not used for $days days")"
	for entry in "${old[@]}"; do
		note "$entry, $(du -sh "$CACHE/$entry" 2>/dev/null | cut -f 1)"
		as_root_ids rm -rf --one-file-system "${CACHE:?}/$entry" || note "could not be removed: $CACHE/$entry"
	done
}

# Prunes the cache once in a run, when the kernel is known.
prune_once() {
	[ -z "${DMIRROR_PRUNED:-}" ] || return 0
	prune_cache "$KEEP_DAYS"
	export DMIRROR_PRUNED=yes
}

free_mib() { df --output=avail -BM "$CACHE" | tail -n 1 | tr -dc 0-9; }

# need_space MIB WHAT: ends the run if less is free, even without old entries. MIB is at least what was measured.
need_space() {
	local free
	[ "$(free_mib)" -lt "$1" ] || return 0
	prune_cache 0
	free=$(free_mib)
	[ "$free" -ge "$1" ] ||
		die "$2 takes up to $1 MiB; the disk of $CACHE has $free MiB free" "make room there, make clean-cache, or DMIRROR_CACHE=DIRECTORY on another disk"
}
