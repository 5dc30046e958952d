// SPDX-License-Identifier: GPL-2.0
/*
 * Gates for fault injection. Each is called where the operation in its name can
 * fail. It does nothing, and fail_function can make it return an error. Gates are
 * never inlined, since error injection overrides whole functions.
 */
#include <linux/error-injection.h>

#include "helpers.h"

#define GATE(name)						\
	noinline int rust_dmirror_gate_##name(void)		\
	{							\
		/* keeps calls from being merged or removed */	\
		barrier();					\
		return 0;					\
	}							\
	ALLOW_ERROR_INJECTION(rust_dmirror_gate_##name, ERRNO)

GATE(huge_alloc);
GATE(small_alloc);
GATE(copy);
GATE(extra_ref);
GATE(folio_lock);
