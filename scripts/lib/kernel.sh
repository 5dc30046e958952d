# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The kernels: Debian's, unpatched (stock), and those built from the same source
# package (own, plain, debug, coverage). Each is built once and kept in the cache;
# its key is a hash of what it is built from.

# The newest packaged series first. PRIVATE_TESTS in guests.sh must have an entry for each.
KERNEL_SERIES=(7.3)

# Sets KSERIES (7.3), KVERSION (the package's version) and KRELEASE (uname -r)
# to the newest kernel of which the archive has image, headers and source. The
# answer is kept until `make update`, so that later runs need no network.
resolve_kernel() {
	local file=$CACHE/kernel-release
	if [ ! -s "$file" ]; then
		step "looking up the newest packaged kernel" kernel-lookup in_root sh -e -c 'apt-get update -o APT::Update::Error-Mode=any &&
			exec scripts/lib/newest-kernel.sh /cache/kernel-release "$@"' sh "${KERNEL_SERIES[@]}" ||
			die_of_lookup "$LOGS/kernel-lookup.log"
	fi
	read -r KSERIES KVERSION KRELEASE <"$file"
	known_series "$KSERIES" || die "the cache is set to Linux $KSERIES, which this version of the project does not know" "make update"
	KPKG=$CACHE/debian-${KVERSION//[~+]/-}
}

known_series() { printf '%s\n' "${KERNEL_SERIES[@]}" | grep -xF -- "$1" >/dev/null; }

# The archive is to blame only if newest-kernel.sh itself says so.
die_of_lookup() {
	! grep -q '^none of: ' "$1" ||
		die "the archive has no kernel ${KERNEL_SERIES[*]} with image, headers and source of one version" "once more tomorrow: a new version comes in parts"
	die "the newest packaged kernel could not be looked up" "$(remedy "$1")"
}

fetch_packages() {
	in_root sh -e -c '
		dir=/cache/$1 release=$2 series=$3 version=$4
		rm -rf "$dir.new" && mkdir -p "$dir.new/deb" && cd "$dir.new/deb"
		apt-get update -o APT::Update::Error-Mode=any
		apt-get download "linux-source-$series=$version" "linux-headers-$release=$version" "linux-binary-$release=$version"
		for deb in *.deb; do dpkg-deb -x "$deb" ..; done
		cd .. && rm -r deb
		mkdir source
		tar -C source --strip-components=1 -xf "usr/src/linux-source-$series.tar.xz"
		rm -r "usr/src/linux-source-$series.tar.xz"
		# Only the image is booted: its modules would double the size of the cache.
		mv "$(find boot usr/lib/modules lib/modules -name "vmlinuz*" -type f 2>/dev/null | head -n 1)" vmlinuz
		rm -rf boot usr/lib lib usr/share
		mv "$dir.new" "$dir"
	' sh "${KPKG##*/}" "$KRELEASE" "$KSERIES" "$KVERSION"
}

die_of_packages() {
	! grep -q '^E: Version .* was not found' "$1" || die "the archive no longer has the kernel $KVERSION" "make update"
	die "the kernel's packages could not be fetched" "$(remedy "$1")"
}

provide_packages() {
	resolve_kernel
	if [ -d "$KPKG" ]; then
		cached "Debian's kernel $KRELEASE: image, headers, source"
		prune_once
		return
	fi
	need_space 2560 "Debian's kernel, with its source,"
	step "fetching Debian's kernel $KRELEASE: image, headers, source" kernel-packages fetch_packages ||
		die_of_packages "$LOGS/kernel-packages.log"
	prune_once
}

# The header package has no Rust metadata. Built by the same compilers from the
# same source and configuration, it has the symbol names that the stock kernel
# exports.
prepare_stock() {
	in_root sh -e -c '
		pkg=$1 release=$2 out=$3
		headers=$pkg/usr/src/linux-headers-$release
		rm -rf "$out" && mkdir -p "$out"
		cp "$headers/.config" "$out/.config"
		make -C "$pkg/source" O="$out" KERNELRELEASE="$release" olddefconfig
		make -C "$pkg/source" O="$out" KERNELRELEASE="$release" -j"$4" modules_prepare
		cp "$headers/Module.symvers" "$out/Module.symvers"
		touch "$out/.done"
	' sh "/cache/${KPKG##*/}" "$KRELEASE" "/cache/${1##*/}" "$JOBS"
}

stock_entry() { echo "stock-$(digest "$KVERSION" "$ROOT_KEY" "$KPKG/usr/src/linux-headers-$KRELEASE/.config")"; }

# Sets KNAME, KOUT (the configured tree to build modules against), KIMAGE (the image
# to boot), KMAKE (the make arguments for its modules) and KAPPEND (arguments for
# its command line).
provide_stock() {
	provide_packages
	KOUT=$CACHE/$(stock_entry)
	KNAME=stock
	KIMAGE=$KPKG/vmlinuz
	KMAKE=("KERNELRELEASE=$KRELEASE")
	KAPPEND=''
	if [ -f "$KOUT/.done" ]; then
		cached "Rust metadata for $KRELEASE"
		return
	fi
	need_space 512 "the Rust metadata of Debian's kernel"
	step "building the Rust metadata for $KRELEASE (two to three minutes)" stock prepare_stock "$KOUT" ||
		die "the metadata could not be built" "look at $LOGS/stock.log"
}

# Makes the source of the kernels that are built here: the package's, with our
# patches. The path stays the same, and unchanged files keep their times, so that
# after a change of a patch only the files that it touches are rebuilt.
make_own_source() {
	in_root sh -e -c '
		pristine=$1 out=$2 stamp=$3
		rm -rf "$out.new" "$out/.stamp"
		cp -al "$pristine" "$out.new"
		for patch in /repo/tests/kernel/patches/*.patch; do
			[ -e "$patch" ] || continue
			echo "applying ${patch##*/}"
			# patch writes a new file, so the hard link to the original is cut.
			patch -d "$out.new" -p1 --no-backup-if-mismatch <"$patch"
		done
		mkdir -p "$out"
		rsync -rlpc --delete "$out.new/" "$out/"
		rm -rf "$out.new"
		echo "$stamp" >"$out/.stamp"
	' sh "/cache/${KPKG##*/}/source" "/cache/${OWN_SOURCE##*/}" "$1"
}

OWN_SOURCE=$CACHE/own-src

provide_own_source() {
	OWN_STAMP=$(digest "$KVERSION" "$(cat /dev/null "$TOP"/tests/kernel/patches/*.patch 2>/dev/null)")
	if [ "$(cat "$OWN_SOURCE/.stamp" 2>/dev/null)" = "$OWN_STAMP" ]; then
		cached "source of the kernels of our own"
		return
	fi
	[ -d "$OWN_SOURCE" ] || need_space 2560 "the source of the kernels of our own"
	step "source of the kernels of our own: $KVERSION and our patches" own-source make_own_source "$OWN_STAMP" ||
		die "the patched source could not be made" "look at $LOGS/own-source.log; does a patch not apply?"
}

# build_own OUT SOURCE STAMP FRAGMENT...: builds a kernel from tinyconfig and the
# fragments, with LLVM. merge_config.sh only warns of a symbol that did not take
# effect; here that is an error.
build_own() {
	local out=$1 source=$2 stamp=$3
	shift 3
	in_root sh -e -c '
		out=$1 source=$2 jobs=$3 stamp=$4
		shift 4
		mkdir -p "$out"
		rm -f "$out/.done"
		# The directory is keyed by the fragments. A .config written anew would cost
		# the Rust crates, the slowest part, a rebuild for each changed patch.
		if [ ! -f "$out/.configured" ]; then
			make -C "$source" O="$out" LLVM=1 tinyconfig
			(cd "$source" && LLVM=1 scripts/kconfig/merge_config.sh -m -O "$out" "$out/.config" "$@")
			touch "$out/.configured"
		fi
		make -C "$source" O="$out" LLVM=1 olddefconfig
		missing=$(cat "$@" | grep -E "^(CONFIG_|# CONFIG_[A-Z0-9_]* is not set)" | while read -r line; do
			case $line in
			"# "*)
				symbol=${line#\# }
				! grep -q "^${symbol%% *}=" "$out/.config" || echo "$line"
				;;
			*) grep -qxF "$line" "$out/.config" || echo "$line" ;;
			esac
		done)
		if [ -n "$missing" ]; then
			echo "asked for, but not in the configuration:" >&2
			echo "$missing" >&2
			exit 1
		fi
		make -C "$source" O="$out" LLVM=1 -j"$jobs" bzImage modules
		echo "$stamp" >"$out/.done"
	' sh "$out" "$source" "$JOBS" "$stamp" "$@"
}

# The kernels that are built here, and their fragments in tests/kernel.
declare -A OWN_KERNELS=(
	[own]='own.config debug.config'
	[plain]='own.config'
	[debug]='own.config debug.config kasan.config'
	[coverage]='own.config debug.config coverage.config'
)

# own_entry NAME: prints the name of its entry in the cache.
own_entry() {
	local fragments
	read -ra fragments <<<"${OWN_KERNELS[$1]}"
	echo "own-$(digest "$KVERSION" "$ROOT_KEY" "${fragments[@]/#/$TOP/tests/kernel/}")"
}

# provide_own NAME: provides one of them, and sets the variables that provide_stock sets.
provide_own() {
	provide_packages
	# Another run with this cache must not patch the source during a build.
	take 8 "$CACHE/own-src.lock" "the kernel source"
	provide_own_source
	build_own_if_needed "$1"
	exec 8>&-
}

build_own_if_needed() {
	local name=$1 fragments
	read -ra fragments <<<"${OWN_KERNELS[$name]}"
	KNAME=$name
	KOUT=$CACHE/$(own_entry "$name")
	KIMAGE=$KOUT/arch/x86/boot/bzImage
	KMAKE=(LLVM=1)
	KAPPEND=''
	if [ "$(cat "$KOUT/.done" 2>/dev/null)" = "$OWN_STAMP" ]; then
		cached "kernel $name (${fragments[*]})"
		return
	fi
	[ -f "$KOUT/.done" ] || need_space 2048 "the kernel $name"
	step "building the kernel $name (${fragments[*]}; ten minutes the first time)" "kernel-$name" \
		build_own "/cache/${KOUT##*/}" "/cache/${OWN_SOURCE##*/}" "$OWN_STAMP" "${fragments[@]/#//repo/tests/kernel/}" ||
		die "the kernel $name could not be built" "$(remedy "$LOGS/kernel-$name.log")"
}

# provide_kernel NAME: provides any kernel by its name.
provide_kernel() {
	case $1 in
	stock) provide_stock ;;
	debug)
		provide_own debug
		KAPPEND='page_owner=on page_poison=1'
		;;
	coverage)
		provide_own coverage
		# After LLVM's passes, half of the module's lines have no instruction of their own, above all those that
		# return an error. (opt-level 0 is no alternative: without shared stack slots, the stack overflows.)
		KMAKE+=('KRUSTFLAGS=-Copt-level=1 -Cno-prepopulate-passes')
		;;
	*)
		[ -n "${OWN_KERNELS[$1]:-}" ] || die "there is no kernel '$1'" "stock, ${!OWN_KERNELS[*]}"
		provide_own "$1"
		;;
	esac
}

# kernel_has SYMBOL: whether the symbol is =y in the configuration of the chosen kernel.
kernel_has() { grep -qx "CONFIG_$1=y" "$KOUT/.config"; }
