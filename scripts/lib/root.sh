# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The Debian 13 build root: all compilers, bindgen, QEMU and busybox come from it,
# so that a run does not depend on what is installed on the machine. Inside it, the
# cache is /cache and this tree is /repo.

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
# The part of cache keys that stands for the compilers. It does not depend on where the cache is.
ROOT_KEY=${ROOT##*/}

# Prints the mirror that this system's apt uses for Debian. If it has none, prints
# nothing, and mmdebstrap uses its default.
debian_mirror() {
	command -v apt-get >/dev/null || return 0
	apt-get indextargets --format '$(REPO_URI)' \
		'ORIGIN: Debian' 'CREATED_BY: Packages' 'COMPONENT: main' 2>/dev/null |
		grep -v security | head -n 1
}

# The files in which mmdebstrap looks for the keys of Debian's archive.
KEYRINGS=(/usr/share/keyrings/debian-archive-keyring.{gpg,pgp} /etc/apt/trusted.gpg.d/debian-archive-*)

has_keyring() {
	local file
	for file in "${KEYRINGS[@]}"; do
		[ ! -s "$file" ] || return 0
	done
	return 1
}

# Checks for the packages that make the root. Root installs what is missing; another user gets a list of all.
need_packages() {
	local missing=()
	command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
	has_keyring || missing+=(debian-archive-keyring)
	[ "$(id -u)" = 0 ] || command -v newuidmap >/dev/null || missing+=(uidmap)
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null ||
		die "not installed: ${missing[*]}" "your system's packages of these names; the keyring comes from https://deb.debian.org/debian/pool/main/d/debian-archive-keyring/"
	[ "$(id -u)" = 0 ] || die "not installed, and installing needs root: ${missing[*]}" "sudo apt-get install ${missing[*]}"
	step "installing ${missing[*]}" apt-install \
		sh -c 'apt-get update && apt-get install -y --no-install-recommends "$@"' sh "${missing[@]}" ||
		die "${missing[*]} could not be installed" "$(remedy "$LOGS/apt-install.log")"
}

# Checks that unshare has the options that in_root needs. --map-auto is the newest of them.
need_unshare() {
	local option help options=(--kill-child --mount-proc)
	[ "$(id -u)" = 0 ] || options+=(--map-root-user --map-auto)
	help=$(unshare --help 2>&1) || true
	for option in "${options[@]}"; do
		[[ $help == *"$option"* ]] ||
			die "unshare has no $option: $(unshare --version 2>&1)" "util-linux 2.38 or newer (Debian 12, Ubuntu 22.10), or run as root"
	done
}

# Checks that, without root, there can be a user namespace with a range of
# subordinate ids. Everything that runs in the build root needs it.
need_namespaces() {
	need_unshare
	[ "$(id -u)" != 0 ] || return 0
	grep -qE "^($(id -un)|$(id -u)):" /etc/subuid 2>/dev/null ||
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

# Runs a command as root of the build root: as root itself, or in a user namespace
# in which this user is root and the subordinate ids are all others. The user thus
# owns what is built. (mmdebstrap's unshare mode does not map the user's id, so
# nothing inside could write to the cache or to build/.)
as_root_ids() {
	if [ "$(id -u)" = 0 ]; then "$@"; else unshare --user --map-root-user --map-auto "$@"; fi
}

provide_root() {
	need_namespaces
	if [ -d "$ROOT" ]; then
		cached "build root: Debian $ROOT_SUITE"
	else
		need_space 3072 "the build root"
		need_packages
		step "build root: Debian $ROOT_SUITE, about 2 GB in $CACHE" root make_root ||
			die "the build root could not be made" "$(remedy "$LOGS/root.log")"
	fi
	# From here on, failures are not due to a missing tool for entering the root.
	in_root true >"$LOGS/enter-root.log" 2>&1 ||
		die "the build root cannot be entered: $(head -n 1 "$LOGS/enter-root.log")" "look at $LOGS/enter-root.log; make clean-cache has the root made anew"
}

# in_root [VAR=VALUE...] COMMAND...: runs a command inside the build root, in /repo,
# in its own mount and PID namespaces, which end with it. cargo gets JOBS here, make
# where it is called.
in_root() {
	as_root_ids unshare --mount --pid --fork --kill-child --mount-proc="$ROOT/proc" \
		sh "$TOP/scripts/lib/enter.sh" "$ROOT" "$CACHE" "$TOP" CARGO_BUILD_JOBS="$JOBS" "$@" 6>&- 8>&- 9>&-
}
