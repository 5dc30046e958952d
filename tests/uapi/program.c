// SPDX-License-Identifier: GPL-2.0
/*
 * A C99 program that knows the ioctls from the header alone: says where one of its pages is. make test compiles
 * it, with all warnings as errors.
 */
#include <rust_dmirror.h>

#include "version1.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

static long variable;

/* -Wall asks for each enumerator. */
static const char *name(enum rust_dmirror_where where)
{
	switch (where) {
	case RUST_DMIRROR_NOWHERE:
		return "nowhere";
	case RUST_DMIRROR_SYSTEM:
		return "in system memory";
	case RUST_DMIRROR_ZERO:
		return "the zero page";
	case RUST_DMIRROR_DEVICE:
		return "on the device";
	case RUST_DMIRROR_UNREADABLE:
		return "not readable";
	}
	return "unknown";
}

int main(void)
{
	struct rust_dmirror_page page = {
		.version = RUST_DMIRROR_ABI_VERSION,
		.addr = (unsigned long)&variable & ~4095UL,
	};
	int fd = open("/dev/hmm_dmirror0", O_RDWR);

	if (fd < 0 || ioctl(fd, RUST_DMIRROR_PAGE, &page)) {
		perror("/dev/hmm_dmirror0");
		return 1;
	}
	printf("page %#llx is %s\n", page.addr, name((enum rust_dmirror_where)page.where));
	return 0;
}
