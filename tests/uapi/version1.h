/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What programs rely on that were built for version 1 of the ABI: these numbers do not change. That no structure
 * has padding is checked where its bindings are compiled. The ten commands of test_hmm are compared with the
 * kernel's source.
 */
#ifndef _RUST_DMIRROR_VERSION1_H
#define _RUST_DMIRROR_VERSION1_H

#include <stddef.h>

/* Neither C99 nor C++98 has an assertion for the compiler. The same declaration may be repeated. */
#define SAME(have, want) extern char same[(have) == (want) ? 1 : -1]
#define SIZE(name, want) SAME(sizeof(struct rust_dmirror_##name), want)
#define MEMBER(name, member, at, bytes) \
	SAME(offsetof(struct rust_dmirror_##name, member), at); \
	SAME(sizeof(((struct rust_dmirror_##name *)0)->member), bytes)

SAME(RUST_DMIRROR_MIGRATE, 0xc0c84840);
SAME(RUST_DMIRROR_INJECT, 0xc0304841);
SAME(RUST_DMIRROR_PAGE, 0xc0404842);
SAME(RUST_DMIRROR_STATS, 0xc0884843);
SAME(RUST_DMIRROR_COPY, 0xc0404844);
SAME(RUST_DMIRROR_PAUSE, 0xc0404845);

SIZE(migrate, 200);
MEMBER(migrate, refused, 72, 32);
MEMBER(migrate, retries, 112, 8);
MEMBER(migrate, ns_setup, 128, 8);

SIZE(inject, 48);
MEMBER(inject, hits, 24, 8);

SIZE(page, 64);
MEMBER(page, where, 4, 4);
MEMBER(page, pfn, 16, 8);
MEMBER(page, refs, 32, 4);
MEMBER(page, flags, 44, 4);

SIZE(stats, 136);
MEMBER(stats, pages_used, 16, 8);
MEMBER(stats, stuck, 80, 8);
MEMBER(stats, ledger_mismatches, 96, 8);

SIZE(copy, 64);
MEMBER(copy, npages, 16, 8);
MEMBER(copy, ns, 24, 8);

SIZE(pause, 64);
MEMBER(pause, ms, 24, 4);
MEMBER(pause, reached, 32, 8);

#endif /* _RUST_DMIRROR_VERSION1_H */
