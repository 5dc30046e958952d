// SPDX-License-Identifier: GPL-2.0
/* The definitions behind src/trace.rs: the tracepoint, and the ledger's static key. */
#include <linux/jump_label.h>

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "events.h"

struct rust_dmirror_key {
	struct static_key_false key;
};

struct rust_dmirror_key rust_dmirror_ledger_key = { STATIC_KEY_FALSE_INIT };

void rust_dmirror_ledger_enable(bool on);

/* Sleeps. Calls are counted: each call with false undoes one with true. */
void rust_dmirror_ledger_enable(bool on)
{
	if (on)
		static_branch_inc(&rust_dmirror_ledger_key.key);
	else
		static_branch_dec(&rust_dmirror_ledger_key.key);
}
