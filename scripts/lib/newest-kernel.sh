#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# newest-kernel.sh FILE SERIES...: runs in the build root. Writes "series version
# release" of the first series of which the archive has source, headers and image
# of the same version. Older images stay in the archive for a while, but their
# source does not.
set -e
file=$1
shift
# Fails here if apt does not work: below, a failure in a pipe would look like a missing package.
apt-cache stats >/dev/null
for series; do
	version=$(apt-cache policy "linux-source-$series" | sed -n 's/^  Candidate: //p')
	case $version in '' | '(none)') continue ;; esac
	for image in $(apt-cache pkgnames "linux-binary-$series" | grep -E '^linux-binary-[0-9.]+[^-]*-amd64$' | sort -rV); do
		release=${image#linux-binary-}
		apt-cache madison "$image" | grep -qF "| $version |" || continue
		apt-cache madison "linux-headers-$release" | grep -qF "| $version |" || continue
		echo "$series $version $release" >"$file"
		echo "newest: $series $version $release"
		exit 0
	done
done
echo "none of: $*" >&2
exit 1
