/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ledger's tracepoint: the reference counts of a folio at a stage of a migration.
 *
 *	trace-cmd record -e rust_dmirror
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rust_dmirror

#if !defined(_RUST_DMIRROR_EVENTS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _RUST_DMIRROR_EVENTS_H

#include <linux/tracepoint.h>

#include "record.h"

#define show_dmirror_stage(stage)			\
	__print_symbolic(stage,				\
		{ 0, "setup" },				\
		{ 1, "filled" },			\
		{ 2, "pages-src" },			\
		{ 3, "pages-dst" },			\
		{ 4, "final" })

#define show_dmirror_direction(direction)		\
	__print_symbolic(direction,			\
		{ 0, "to-device" },			\
		{ 1, "to-system" },			\
		{ 2, "fault" },				\
		{ 3, "evict" })

TRACE_EVENT(rust_dmirror_folio,
	TP_PROTO(const struct rust_dmirror_record *record),
	TP_ARGS(record),
	TP_STRUCT__entry(
		__field(unsigned long, pfn)
		__field(u32, stage)
		__field(u32, direction)
		__field(u32, device)
		__field(u32, order)
		__field(s32, refs)
		__field(s32, mapcount)
		__field(s32, expected)
		__field(s32, held)
	),
	TP_fast_assign(
		__entry->pfn = record->pfn;
		__entry->stage = record->stage;
		__entry->direction = record->direction;
		__entry->device = record->device;
		__entry->order = record->order;
		__entry->refs = record->refs;
		__entry->mapcount = record->mapcount;
		__entry->expected = record->expected;
		__entry->held = record->held;
	),
	TP_printk("stage=%s pfn=0x%lx order=%u refs=%d mapcount=%d expected=%d held=%d device=%u direction=%s",
		show_dmirror_stage(__entry->stage), __entry->pfn, __entry->order,
		__entry->refs, __entry->mapcount, __entry->expected, __entry->held,
		__entry->device, show_dmirror_direction(__entry->direction))
);

#endif /* _RUST_DMIRROR_EVENTS_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE events
#include <trace/define_trace.h>
