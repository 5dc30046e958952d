// SPDX-License-Identifier: GPL-2.0
/*
 * A C++ program that knows the ioctls from the header alone: says what a device holds. make test compiles it, with
 * all warnings as errors.
 */
#include <rust_dmirror.h>

#include "version1.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main()
{
	struct hmm_dmirror_cmd cmd = {};
	struct rust_dmirror_stats stats = {};
	int fd = open("/dev/hmm_dmirror0", O_RDWR);

	stats.version = RUST_DMIRROR_ABI_VERSION;
	if (fd < 0 || ioctl(fd, RUST_DMIRROR_STATS, &stats) || ioctl(fd, HMM_DMIRROR_RELEASE, &cmd)) {
		perror("/dev/hmm_dmirror0");
		return 1;
	}
	printf("%llu of %llu pages were in use\n", stats.pages_used, stats.pages_total);
	return 0;
}
