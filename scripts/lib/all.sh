# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The libraries for scripts that build for a kernel or boot guests.
for part in common cache results root kernel module programs gate vm guests suites mm; do
	# shellcheck source=/dev/null # each is checked by itself
	. "$(dirname "${BASH_SOURCE[0]}")/$part.sh"
done
