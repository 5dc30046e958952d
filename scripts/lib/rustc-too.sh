#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Stands in for rustc when kbuild makes the object of the module's crate: RUSTC_OR_CLIPPY="sh …/rustc-too.sh".
# Does other work with the same flags and the same environment, and leaves an empty object:
#
#   DMIRROR_DOC=DIRECTORY    writes the rustdoc there, private items included; a warning is an error
#   DMIRROR_PROJECT=FILE     adds the crate to a rust-project.json that the kernel has made, in place
#   DMIRROR_OUTSIDE=MAP...   where paths of the build root are outside of it: /cache=/home/x/…
set -e
here=$(dirname "$0")

# rustdoc takes rustc's flags, except those that say what to make and where.
count=$#
while [ "$count" -gt 0 ]; do
	arg=$1
	shift
	count=$((count - 1))
	case $arg in
	--emit=obj=*) object=${arg#--emit=obj=} ;;
	--emit=dep-info=*) depinfo=$arg ;;
	--emit=* | --remap-path-scope=*) ;;
	--out-dir)
		shift
		count=$((count - 1))
		;;
	*) set -- "$@" "$arg" ;;
	esac
done
# kbuild wants both files.
"$RUSTC" "$@" "$depinfo"
"$CC" -c -x c /dev/null -o "$object"

[ -z "${DMIRROR_PROJECT:-}" ] || exec python3 "$here/rust-project.py" "$DMIRROR_PROJECT" "$@"
rm -rf "$DMIRROR_DOC"
"$RUSTDOC" "$@" --crate-name rust_dmirror --output "$DMIRROR_DOC" --document-private-items -Dwarnings \
	--generate-link-to-definition --extern-html-root-url kernel=https://rust.docs.kernel.org/

# A link to srctree/FILE is one to the kernel's source, as in the kernel's own rustdoc.
links=$(grep -Ehro '<a href="srctree/[^"]+"' "$DMIRROR_DOC" | cut -d '"' -f 2 | sort -u)
# shellcheck disable=SC2154 # srctree is exported by kbuild
for link in $links; do
	[ -e "$srctree/${link#srctree/}" ] || {
		echo "error: a link to $link, but the kernel has no such file" >&2
		exit 1
	}
done
source=$(realpath "$srctree")
for map in ${DMIRROR_OUTSIDE:-}; do
	case $source in
	"${map%%=*}"/*)
		source=${map#*=}${source#"${map%%=*}"}
		break
		;;
	esac
done
find "$DMIRROR_DOC" -name '*.html' -exec sed -i "s|<a href=\"srctree/|<a href=\"$source/|g" {} +
