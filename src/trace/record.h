/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _RUST_DMIRROR_RECORD_H
#define _RUST_DMIRROR_RECORD_H

#include <linux/types.h>

/* A record of the ledger, see trace.rs. The numbers of stage and direction are those of the enums in ledger/record.rs. */
struct rust_dmirror_record {
	unsigned long pfn;
	u32 stage;
	u32 direction;
	u32 device;
	u32 order;
	s32 refs;
	s32 mapcount;
	s32 expected;
	s32 held;
};

#endif
