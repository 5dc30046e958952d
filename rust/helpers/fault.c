// SPDX-License-Identifier: GPL-2.0
/*
 * Gates for fault injection. Each stands at the point where the real thing can
 * fail, does nothing, and can be made to return an error by fail_function.
 * They are never inlined: error injection replaces the function as a whole.
 */
#include <linux/error-injection.h>

#include "helpers.h"

#define GATE(name)						\
	noinline int rust_dmirror_gate_##name(void)		\
	{							\
		/* keeps calls from being merged or dropped */	\
		barrier();					\
		return 0;					\
	}							\
	ALLOW_ERROR_INJECTION(rust_dmirror_gate_##name, ERRNO)

GATE(huge_alloc);
GATE(small_alloc);
GATE(copy);
GATE(extra_ref);
GATE(folio_lock);
