# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The Debian 13 build root: every compiler, bindgen, QEMU and busybox come from
# there, so that a run depends on nothing that happens to be installed.
# Inside, the cache is /cache and this tree is /repo, wherever they are outside.

ROOT_SUITE=trixie
ROOT_PACKAGES=(
	# the kernel's build
	bc bison cpio dwarves flex gcc kmod libc6-dev libelf-dev libssl-dev make patch perl python3 rsync xz-utils zstd
	# Rust, and LLVM for bindgen and for the kernels of our own
	bindgen cargo clang lld llvm rust-clippy rust-src rustc rustfmt
	# the guest and its checks
	busybox-static qemu-system-x86 shellcheck
	ca-certificates
)
ROOT=$CACHE/root-$(digest "$ROOT_SUITE" "${ROOT_PACKAGES[*]}")
# The part of every key that stands for the compilers, wherever the cache is.
ROOT_KEY=${ROOT##*/}

# The mirror that this system's apt uses for Debian; nothing where it has none,
# and then mmdebstrap takes its own default.
debian_mirror() {
	command -v apt-get >/dev/null || return 0
	apt-get indextargets --format '$(REPO_URI)' \
		'ORIGIN: Debian' 'CREATED_BY: Packages' 'COMPONENT: main' 2>/dev/null |
		grep -v security | head -n 1
}

need_mmdebstrap() {
	command -v mmdebstrap >/dev/null && return
	[ "$(id -u)" = 0 ] || die "mmdebstrap is not installed, and installing it needs root" \
		"sudo apt-get install mmdebstrap uidmap"
	step "installing mmdebstrap" apt-mmdebstrap \
		sh -c 'apt-get update && apt-get install -y --no-install-recommends mmdebstrap' ||
		die "mmdebstrap could not be installed" "apt-get install mmdebstrap"
}

# Without root, everything that runs in the root needs a user namespace with a
# range of subordinate ids.
need_namespaces() {
	[ "$(id -u)" != 0 ] || return 0
	grep -q "^$(id -un):" /etc/subuid 2>/dev/null ||
		die "no subordinate user ids for $(id -un) in /etc/subuid" \
			"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un), or run as root"
	command -v newuidmap >/dev/null ||
		die "newuidmap is not installed" "sudo apt-get install uidmap, or run as root"
	as_root_ids true 2>/dev/null ||
		die "this system forbids user namespaces to $(id -un)" \
			"sudo sysctl kernel.unprivileged_userns_clone=1 (or kernel.apparmor_restrict_unprivileged_userns=0), or run as root"
}

make_root() {
	local mirror
	mirror=$(debian_mirror)
	as_root_ids rm -rf "$ROOT.new"
	as_root_ids unshare --mount mmdebstrap --mode=root --variant=apt \
		--include="$(IFS=,; echo "${ROOT_PACKAGES[*]}")" \
		--aptopt='APT::Install-Recommends "false"' \
		--customize-hook='sed -n "s/ trixie main/ trixie-backports main/p" "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/backports.list"' \
		--customize-hook='chroot "$1" apt-get update' \
		"$ROOT_SUITE" "$ROOT.new" ${mirror:+"$mirror"} &&
		as_root_ids mkdir -p "$ROOT.new/cache" "$ROOT.new/repo" "$ROOT.new/shared" &&
		mv "$ROOT.new" "$ROOT"
}

# Runs a command as root of the file system in the cache: as root itself, or in
# a user namespace whose root is this user, who so owns what is built, and whose
# other ids are the subordinate ones. (mmdebstrap's own unshare mode has no id for
# the user, and then nothing inside could write to the cache or to build/.)
as_root_ids() {
	if [ "$(id -u)" = 0 ]; then "$@"; else unshare --user --map-root-user --map-auto "$@"; fi
}

provide_root() {
	if [ -d "$ROOT" ]; then
		cached "build root: Debian $ROOT_SUITE"
		return
	fi
	need_mmdebstrap
	need_namespaces
	step "build root: Debian $ROOT_SUITE, about 2 GB in $CACHE" root make_root ||
		die "the build root could not be made" "look at $LOGS/root.log; is the package archive reachable?"
}

# in_root [VAR=VALUE...] COMMAND...: runs a command inside the build root, in
# /repo, in mount and process namespaces of its own that end with it.
in_root() {
	as_root_ids unshare --mount --pid --fork --kill-child --mount-proc="$ROOT/proc" \
		sh "$TOP/scripts/lib/enter.sh" "$ROOT" "$CACHE" "$TOP" "$@"
}
