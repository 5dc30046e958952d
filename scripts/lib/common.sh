# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared by all scripts: paths, messages, background jobs, the keys of the cache,
# and locks.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Debian has chroot in /usr/sbin, which is not in an ordinary user's PATH.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
CACHE=${DMIRROR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rust-dmirror}
BUILD=$TOP/build
LOGS=$BUILD/logs
JOBS=${JOBS:-$(nproc)}
CACHE=$(realpath -m "$CACHE")
# Shown to a run that waits for this one.
COMMAND=$(tr -s '[:space:]' ' ' <<<"$0 $*")

if [ -t 1 ]; then
	BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' DIM=$'\e[2m' PLAIN=$'\e[0m'
else
	BOLD='' RED='' GREEN='' DIM='' PLAIN=''
fi

say() { printf '%s\n' "${BOLD}==>${PLAIN} $*"; }
note() { printf '%s\n' "    $*"; }
cached() { printf '%s\n' "${DIM}==> $* (cached)${PLAIN}"; }

# die MESSAGE REMEDY: ends the run with an error, and says what to do about it.
die() {
	printf '%s\n' "${RED}error:${PLAIN} $1" >&2
	[ $# -lt 2 ] || printf '%s\n' "  try: $2" >&2
	exit 1
}

[[ $JOBS =~ ^[1-9][0-9]*$ ]] || die "JOBS is '$JOBS'" "a number: how many compilers at a time"

# remedy LOG: prints what to do about a command that failed, from what its log says.
remedy() {
	local log=$1
	if grep -qi 'no space left on device' "$log"; then
		echo "make room on that disk, then run this again; all is in $log"
	elif grep -qE 'NO_PUBKEY|Missing key|is not signed' "$log"; then
		echo "a newer debian-archive-keyring (https://deb.debian.org/debian/pool/main/d/debian-archive-keyring/); all is in $log"
	elif grep -qiE 'could not (resolve|connect)|(failure|timed out) resolving|connection (refused|timed out|failed)|unable to connect|network is unreachable|certificate verif|failed to (fetch|download)' "$log"; then
		echo "is the network reachable? Proxies are taken from http_proxy and https_proxy; all is in $log"
	else
		echo "look at $log"
	fi
}

# human_time SECONDS: prints them as minutes and seconds.
human_time() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

# Jobs that start has started and finish has not reaped: "PID SECONDS LOG".
RUNNING=()

# Kills all jobs when the script ends. Background jobs of a script do not get the
# terminal's Ctrl-C, so each has its own process group to be killed by.
stop_running() {
	local job
	for job in "${RUNNING[@]}"; do
		kill -KILL -- "-${job%% *}" 2>/dev/null || true
		wait "${job%% *}" 2>/dev/null || true
	done
	RUNNING=()
}
AT_EXIT=''
trap 'stop_running; ${AT_EXIT:+"$AT_EXIT"}' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# start TITLE LOG COMMAND...: runs the command in the background, with its output
# in build/logs/LOG.log.
start() {
	local title=$1 log=$LOGS/$2.log
	shift 2
	mkdir -p "$(dirname "$log")"
	say "$title"
	set -m
	"$@" >"$log" 2>&1 </dev/null 6>&- 8>&- 9>&- &
	set +m
	RUNNING+=("$! $SECONDS $log")
}

# progress WIDTH: prints the time of each job and the last line of its log, in one line.
progress() {
	local job pid began log line=''
	for job in "${RUNNING[@]}"; do
		read -r pid began log <<<"$job"
		line+="${line:+ | }$(basename "$log" .log) $(human_time $((SECONDS - began))) $(tail -n 1 "$log" | tr -dc '[:print:]' | cut -c1-"$1")"
	done
	printf '%s' "$line"
}

# finish [PID]: waits for that job, or for all jobs, and shows progress. If a job
# fails, shows the end of its log. Returns 1 if a job that it waited for failed.
# With LEAVE=N, returns when no more than N are running.
finish() {
	local only=${1:-} job pid began log rc failed=0 beat=$SECONDS left found=1
	while [ "$found" = 1 ]; do
		left=()
		found=0
		for job in "${RUNNING[@]}"; do
			read -r pid began log <<<"$job"
			if kill -0 "$pid" 2>/dev/null; then
				left+=("$job")
				[ -n "$only" ] && [ "$only" != "$pid" ] || found=1
				continue
			fi
			rc=0
			wait "$pid" || rc=$?
			[ ! -t 1 ] || printf '\r\e[K'
			if [ "$rc" -ne 0 ]; then
				[ -n "$only" ] && [ "$only" != "$pid" ] || failed=1
				printf '%s\n' "${RED}    $(basename "$log" .log): failed${PLAIN} after $(human_time $((SECONDS - began))), status $rc; the end of $log:" >&2
				tail -n 25 "$log" | sed 's/^/    | /' >&2
			else
				note "$(basename "$log" .log): done in $(human_time $((SECONDS - began)))"
			fi
		done
		RUNNING=("${left[@]}")
		[ -n "$only" ] || [ "${#left[@]}" -gt "${LEAVE:-0}" ] || found=0
		[ "$found" = 1 ] || break
		if [ -t 1 ]; then
			printf '\r    %s\e[K' "$(progress $((60 / ${#RUNNING[@]})))"
		elif [ $((SECONDS - beat)) -ge 20 ]; then
			beat=$SECONDS
			note "… $(progress 60)"
		fi
		sleep 0.3
	done
	return "$failed"
}

# step TITLE LOG COMMAND...: runs one command and waits for it. Jobs that were
# started before continue.
step() {
	local last
	start "$@"
	last=${RUNNING[${#RUNNING[@]} - 1]}
	finish "${last%% *}"
}

# digest FILE-OR-STRING...: prints 12 hex digits, a hash of the contents of the
# files and of the strings. Keys of the cache are made by it.
digest() {
	local arg
	for arg in "$@"; do
		if [ -f "$arg" ]; then cat "$arg"; else printf '%s\n' "$arg"; fi
	done | sha256sum | cut -c1-12
}

# tree_digest DIR: prints a hash of the names and contents of all files of a git
# checkout that git does not ignore, staged or not. Fails if DIR is not the top of
# a checkout, for example a tree that was unpacked inside another one.
tree_digest() {
	local prefix
	prefix=$(git -C "$1" rev-parse --show-prefix) && [ -z "$prefix" ] || return 1
	(
		cd "$1" || exit
		# git lists a deleted file until the deletion is staged.
		git ls-files -co --exclude-standard -z |
			while IFS= read -r -d '' file; do [ ! -f "$file" ] || printf '%s\0' "$file"; done |
			xargs -0r sha256sum | sha256sum | cut -d ' ' -f 1
	)
}

# The locks and their file descriptors: of build/ (6), of the source of the kernels that are built here (8), of the
# cache (9). start and in_root close them, so that a job that outlives its script does not keep a lock. A script that
# is called by another one, such as experiment.sh, keeps them, since it is part of that run.

# holder FILE: prints who holds a lock, as the holder wrote into the file.
holder() {
	local text pid
	text=$(head -n 1 "$1" 2>/dev/null) || true
	pid=${text#pid }
	pid=${pid%%,*}
	if [ -z "$text" ]; then
		echo "a run that does not say which it is"
	elif [ -d "/proc/$pid" ]; then
		echo "$text"
	else
		echo "what is left of $text"
	fi
}

# take DESCRIPTOR FILE WHAT: takes a lock. While it waits, it says for whom.
take() {
	local fd=$1 file=$2 what=$3
	while true; do
		{ mkdir -p "${file%/*}" && eval "exec $fd>>\"\$file\""; } ||
			die "$file cannot be written" "DMIRROR_CACHE=DIRECTORY, and a checkout of your own"
		if ! flock -n "$fd"; then
			say "$what is in use; waiting for $(holder "$file")"
			until flock -w 60 "$fd"; do note "… still waiting for $(holder "$file")"; done
		fi
		# make clean and make clean-cache may have removed the file: then the lock must be taken again.
		[ ! "$file" -ef "/proc/self/fd/$fd" ] || break
	done
	echo "pid $$, $COMMAND(in $TOP), since $(date '+%F %T')" >"$file"
}

# Scripts that write to build/ run one after the other, whichever cache they use.
lock_build() {
	[ "${DMIRROR_BUILD_LOCK:-}" != "$BUILD" ] || return 0
	take 6 "$BUILD/lock" "$BUILD"
	mkdir -p "$LOGS"
	export DMIRROR_BUILD_LOCK=$BUILD
}

# Runs that share a cache or a checkout run one after the other. The locks are released when the process ends. A
# script that was started by the holder of the locks does not wait for its parent.
lock_cache() {
	if [ "${DMIRROR_LOCK:-}" != "$CACHE" ]; then
		check_cache
		take 9 "$CACHE/lock" "$CACHE"
		mark_cache
		export DMIRROR_LOCK=$CACHE
	fi
	lock_build
}

# For interactive use, which may take any time: releases the locks, so that another run can begin.
unlock_cache() {
	: >"$CACHE/lock"
	: >"$BUILD/lock"
	exec 9>&- 6>&-
	unset DMIRROR_LOCK DMIRROR_BUILD_LOCK
}
