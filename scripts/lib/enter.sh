#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# enter.sh ROOT CACHE REPO [VAR=VALUE...] COMMAND...
#
# The part of in_root (root.sh) that runs inside the new mount namespace.
set -e
root=$1 cache=$2 repo=$3
shift 3
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys" 2>/dev/null || true # forbidden in some containers, and not needed to build
mount --bind "$cache" "$root/cache"
mount --bind "$repo" "$root/repo"
mount -t tmpfs tmp "$root/tmp"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
# Behind a proxy, a machine may trust its own CA. Downloads inside must trust it too.
ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ ! -f "$ca" ] || mount --bind "$ca" "$root/etc/ssl/certs/ca-certificates.crt" 2>/dev/null || true
# Programs differ in which of these names they read.
for name in http_proxy https_proxy ftp_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY; do
	eval "value=\${$name:-}"
	[ -z "$value" ] || set -- "$name=$value" "$@"
done
# shellcheck disable=SC2016 # expanded by the inner shell
exec chroot "$root" env -i \
	HOME=/cache/home PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	LANG=C.UTF-8 TERM="${TERM:-dumb}" \
	SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt \
	sh -c 'mkdir -p "$HOME"; cd /repo; exec "$@"' sh env "$@"
