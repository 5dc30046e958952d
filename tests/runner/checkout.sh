# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2317,SC2030,SC2031 # stand-ins are called by what is tried
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

# A checkout of its own, with two caches, for runs that are not this one.
OTHER=$WORK/other
other_checkout() {
	rm -rf "$OTHER"
	mkdir -p "$OTHER"
	cp -r "$TOP/scripts" "$OTHER/"
}

# other_run CACHE CODE: a run there, in a process of its own.
other_run() {
	env -u DMIRROR_LOCK -u DMIRROR_BUILD_LOCK -u DMIRROR_RESULTS DMIRROR_CACHE="$OTHER/$1" "$BASH" -c \
		'set -euo pipefail; . "$1/scripts/lib/all.sh"; eval "$2"' other-run "$OTHER" "$2" 6>&- 9>&-
}

# soon COMMAND...: whether it succeeds within ten seconds.
soon() {
	local try
	for try in {1..100}; do
		! "$@" || return 0
		sleep 0.1
	done
	echo "not within ten seconds: $*"
	return 1
}

locked() {
	other_checkout
	other_run one 'lock_cache
		! flock -n "$CACHE/lock" true || { echo "the cache is not locked"; exit 1; }
		! flock -n "$BUILD/lock" true || { echo "build/ is not locked"; exit 1; }
		unlock_cache
		flock -n "$CACHE/lock" true && flock -n "$BUILD/lock" true'
}

# waits CACHE CODE: whether a run waits, and says for whom, while another one in the same checkout holds
# its cache "one", which that one then empties; and whether it has a lock afterwards.
waits() {
	local holder waiter rc=0
	other_checkout
	other_run one 'lock_cache; echo $$ >"$TOP/held"
		until [ -e "$TOP/go" ]; do sleep 0.1; done
		rm -rf "$BUILD" "$CACHE"' &
	holder=$!
	soon test -s "$OTHER/held" || return
	other_run "$1" "$2" >"$OTHER/said" 2>&1 &
	waiter=$!
	soon grep -qE "waiting for pid $(cat "$OTHER/held"), other-run .*since 20" "$OTHER/said" || rc=1
	touch "$OTHER/go"
	wait "$holder" || rc=1
	wait "$waiter" || rc=1
	cat "$OTHER/said"
	return "$rc"
}
HAS_LOCKS='lock_cache; ! flock -n "$CACHE/lock" true && ! flock -n "$BUILD/lock" true'

# outlived CODE: whether the locks are free when a script was killed and what it started goes on. CODE
# makes the file "job" when it has begun.
outlived() {
	local pid children rc=0
	other_checkout
	mkdir "$OTHER/one"
	ln -s "$ROOT" "$OTHER/one/"
	other_run one "lock_cache; $1" >"$OTHER/said" 2>&1 &
	soon test -e "$OTHER/job" || { cat "$OTHER/said"; return 1; }
	pid=$(sed 's/^pid \([0-9]*\).*/\1/' "$OTHER/one/lock")
	read -ra children <"/proc/$pid/task/$pid/children"
	kill -KILL "$pid"
	# Of finish, a sleep is left for a moment.
	wait "$!" 2>/dev/null || true
	soon flock -n "$OTHER/one/lock" true || { echo "the cache is still locked"; rc=1; }
	soon flock -n "$OTHER/build/lock" true || { echo "build/ is still locked"; rc=1; }
	kill -KILL "${children[@]}" 2>/dev/null || { echo "nothing went on"; rc=1; }
	return "$rc"
}

# kernel_tree: one in looks only, which builds with tools that are one as well.
kernel_tree() {
	local tree=$WORK/kdir tool=$WORK/kdir/tool
	mkdir -p "$tree/rust"
	printf '%s\n' '#!/bin/sh' 'echo "tool 1"' >"$tool"
	chmod 755 "$tool"
	printf 'CONFIG_%s\n' MODULES=y RUST=y TRANSPARENT_HUGEPAGE=y DEVICE_PRIVATE=y HMM_MIRROR=y 'RUSTC_VERSION_TEXT="tool 1"' >"$tree/.config"
	touch "$tree/Module.symvers" "$tree/rust"/{libcore,libkernel,libbindings}.rmeta "$tree/rust/libmacros.so"
	printf '%s\n' 'RUSTC = rustc' 'BINDGEN = bindgen' 'CC = gcc' "modules:; @echo uses \$($1)" >"$tree/Makefile"
}

# hands_on NAME: whether kdir.sh has a kernel tree use the tool that was given as NAME.
hands_on() {
	local tool=$WORK/kdir/tool
	kernel_tree "$1"
	RUSTC=$tool BINDGEN=$tool CC=$tool LLVM='' "$TOP/scripts/kdir.sh" "$WORK/kdir" | tee "$WORK/kdir.out"
	grep -qx "uses $tool" "$WORK/kdir.out"
}

# cache_of ENTRY...: a cache with these entries, nothing else.
cache_of() {
	local entry
	other_checkout
	mkdir "$OTHER/one"
	for entry; do
		case $entry in
		kernel-release) echo '7.3 7.3.4-1 7.3.4-amd64' >"$OTHER/one/$entry" ;;
		*) mkdir "$OTHER/one/$entry" ;;
		esac
	done
}

# cleaned ENTRY...: whether make clean-cache removes a cache with these entries.
cleaned() {
	cache_of "$@"
	other_run one 'exec "$TOP/scripts/clean.sh" cache' && [ ! -e "$OTHER/one" ]
}

# cleaned_later ENTRY...: and after a run that used it.
cleaned_later() {
	cache_of "$@"
	other_run one lock_cache && other_run one 'exec "$TOP/scripts/clean.sh" cache' && [ ! -e "$OTHER/one" ]
}

# used ENTRY...: whether a run takes such a directory for its cache.
used() {
	cache_of "$@"
	other_run one lock_cache
}

# pruned DAYS LINE...: whether what is left of a cache are this version's entries and these. It has old
# ones of ours and one of somebody else, and some that were used yesterday.
OLD='root-000000000000 own-000000000000 stock-000000000000 brd-000000000000 debian-7.1-1 cargo-000000000000 hmm-tests-000000000000.new thesis own-src'
RECENT='root-111111111111 own-111111111111'
pruned() (
	local days=$1 entry
	shift
	CACHE=$WORK/prune KVERSION='' KRELEASE=''
	rm -rf "$CACHE"
	mkdir -p "$CACHE"
	echo '7.3 7.3.4-1 7.3.4-amd64' >"$CACHE/kernel-release"
	resolve_kernel
	mapfile -t current < <(current_entries)
	for entry in "${current[@]}" $OLD $RECENT cargo-222222222222 cargo-333333333333; do mkdir "$CACHE/$entry"; done
	printf '%s\n' "$ROOT_KEY" "$TOP" >"$CACHE/cargo-222222222222/made-for"
	printf '%s\n' "$ROOT_KEY" "$CACHE/no-checkout" >"$CACHE/cargo-333333333333/made-for"
	find "$CACHE" -exec touch -d '20 days ago' {} +
	for entry in $RECENT; do touch -d yesterday "$CACHE/$entry"; done
	prune_cache "$days"
	[ -n "$(find "$CACHE" -maxdepth 1 -name "$(own_entry own)" -newermt yesterday)" ] || { echo "what is current was not touched"; return 1; }
	diff <(printf '%s\n' "${current[@]}" "$@" kernel-release | sort) <(cache_entries | sort)
)

# entries_known: whether prune_cache knows each directory of the cache that anything here is put in.
entries_known() (
	CACHE=$WORK/known
	mkdir -p "$CACHE"
	echo '7.3 7.3.4-1 7.3.4-amd64' >"$CACHE/kernel-release"
	step() { :; }
	take() { :; }
	for kernel in stock "${!OWN_KERNELS[@]}"; do
		provide_kernel "$kernel"
		provide_c_driver
		provide_swap_disk
		paths+=("$KPKG" "$KOUT" "$MODULE" "$SWAP_DISK")
	done
	provide_hmm_tests
	provide_mm_selftests
	provide_companion
	paths+=("$HMM_TESTS" "${MM_TESTS[@]}" "$COMPANION" "$CACHE/$ROOT_KEY")
	known=$(current_entries)
	for path in "${paths[@]}"; do
		path=${path#"$CACHE/"}
		grep -xF -- "${path%%/*}" <<<"$known" >/dev/null || { echo "not known: $path"; return 1; }
	done
)

# no_room COMMAND: what it says where 100 MiB are free; it must not build.
no_room() (
	CACHE=$WORK/room
	ROOT=$CACHE/$ROOT_KEY OWN_STAMP=stamp KVERSION=7.3.4-1 KPKG=$CACHE/debian
	rm -rf "$CACHE"
	mkdir -p "$CACHE"
	df() { printf '%s\n' Avail 100M; }
	need_namespaces() { :; }
	need_packages() { :; }
	step() { echo "built all the same"; exit 0; }
	"$@"
)

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
expect green "cache and build/ are locked, and given up" locked
expect green "a run waits for its cache, says for whom, and is the only one then" waits one "$HAS_LOCKS"
expect green "with another cache, it waits for build/" waits two "$HAS_LOCKS"
kernel_tree CC
expect green "so does KDIR=" waits two "RUSTC=$WORK/kdir/tool BINDGEN=$WORK/kdir/tool CC=$WORK/kdir/tool LLVM='' exec \"\$TOP/scripts/kdir.sh\" '$WORK/kdir'"
expect green "so does make clean" waits two 'exec "$TOP/scripts/clean.sh" build'
expect green "a job that outlives its script does not keep the locks" outlived \
	'start job job sh -c "touch $TOP/job; exec sleep 20"; finish'
expect green "nor does a program in the build root" outlived 'in_root sh -c "touch job; exec sleep 20"'
expect red "make clean-cache refuses a directory without a marker" cleaned root-0123456789ab kernel-release
expect green "a run marks a cache of an older version" cleaned_later root-0123456789ab kernel-release home own-src
expect green "and one that it makes" cleaned_later
expect red "not one that holds something else" cleaned_later kernel-release thesis
expect red "no run takes a directory that holds something else only" used thesis home
for tool in RUSTC BINDGEN CC; do
	expect green "KDIR: $tool is handed on" hands_on "$tool"
done
for name in "the build root" "the kernel own"; do
	command=provide_root
	[ "$name" = "the build root" ] || command='build_own_if_needed own'
	# shellcheck disable=SC2086 # words
	expect green "$name is not begun without room for it" says "$name takes up to" no_room $command
done
expect green "rows that were counted are known" rows_of own.companion own-hmm.hmm-tests
expect red "others are not" rows_of own.companion own.hmm-tests
expect green "what this version keeps in the cache is known" entries_known
expect green "what no version used for two weeks is pruned, and nothing else" pruned 14 thesis own-src cargo-222222222222 root-111111111111 own-111111111111
expect green "if room is short, all that this version does not use" pruned 0 thesis own-src cargo-222222222222
