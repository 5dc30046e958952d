// SPDX-License-Identifier: GPL-2.0
/* One object file of all helpers, as rust/helpers in the kernel does it. */
#include "fault.c"
#include "folio.c"
#include "mm.c"
#include "pagemap.c"
#include "source.c"
#include "testing.c"
