# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Read by scripts/selftest.sh: what the scripts do with a checkout, a cache and
# a kernel tree, tried on small ones.

# in_tree same|other CHANGE: whether the digest of a checkout is the same one or
# another one after CHANGE, run in it. It has files that are staged and one that is not.
in_tree() {
	local tree=$WORK/tree before after
	rm -rf "$tree"
	mkdir -p "$tree/sub"
	(cd "$tree" && git init -q && echo 1 >"a b" && echo 2 >sub/c && git add . && echo 3 >new) || return
	before=$(tree_digest "$tree") || return
	(cd "$tree" && eval "$2") || return
	after=$(tree_digest "$tree") || return
	[ -n "$before" ] && [ -n "$after" ] || return
	[ "$1" = "$([ "$before" = "$after" ] && echo same || echo other)" ]
}

# A directory of a checkout is none itself.
no_tree() { tree_digest "$WORK/tree/sub"; }

# taken: whether somebody else would have to wait for a cache.
taken() { ! flock -n "$WORK/cache/lock" true; }

# locked: takes it, and gives it up again.
locked() (
	CACHE=$WORK/cache
	mkdir -p "$CACHE"
	unset DMIRROR_LOCK
	exec 9>&-
	lock_cache
	taken || { echo "not taken by lock_cache"; return 1; }
	unlock_cache
	! taken || { echo "still taken after unlock_cache"; return 1; }
)

# hands_on NAME: whether kdir.sh has a kernel tree use the tool that was given
# as NAME; the tree is one in looks only.
hands_on() {
	local tree=$WORK/kdir tool=$WORK/kdir/tool
	mkdir -p "$tree/rust"
	printf '%s\n' '#!/bin/sh' 'echo "tool 1"' >"$tool"
	chmod 755 "$tool"
	printf 'CONFIG_%s\n' MODULES=y RUST=y TRANSPARENT_HUGEPAGE=y DEVICE_PRIVATE=y HMM_MIRROR=y 'RUSTC_VERSION_TEXT="tool 1"' >"$tree/.config"
	touch "$tree/Module.symvers" "$tree/rust"/{libcore,libkernel,libbindings}.rmeta "$tree/rust/libmacros.so"
	printf '%s\n' 'RUSTC = rustc' 'BINDGEN = bindgen' 'CC = gcc' "modules:; @echo uses \$($1)" >"$tree/Makefile"
	RUSTC=$tool BINDGEN=$tool CC=$tool LLVM='' "$TOP/scripts/kdir.sh" "$tree" | tee "$WORK/kdir.out"
	grep -qx "uses $tool" "$WORK/kdir.out"
}

# rows_of ROW...: whether all of these are in a tally of two rows.
rows_of() {
	printf '%s\t1\t0\t0\t\n' own.companion own-hmm.hmm-tests >"$WORK/results.rows"
	RESULTS=$WORK/results.rows counted "$@"
}

say "the runner's own test: checkouts, caches, kernel trees"
expect green "a tree that did not change has the digest that it had" in_tree same true
expect green "a change that is not staged changes the digest" in_tree other 'echo 9 >sub/c'
expect green "so does a file that git does not know" in_tree other 'echo 9 >new'
expect green "and one that was deleted, which is not staged" in_tree other 'rm "a b"'
expect red "a directory of another checkout has none" no_tree
expect green "the cache is locked, and given up" locked
for tool in RUSTC BINDGEN CC; do
	expect green "KDIR: $tool is handed on" hands_on "$tool"
done
expect green "rows that were counted are known" rows_of own.companion own-hmm.hmm-tests
expect red "others are not" rows_of own.companion own.hmm-tests
