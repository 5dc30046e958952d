// SPDX-License-Identifier: GPL-2.0
#include <linux/err.h>
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/topology.h>

#include "helpers.h"

void rust_dmirror_zone_device_folio_init(struct folio *folio, struct dev_pagemap *pgmap,
					 unsigned int order)
{
	zone_device_folio_init(folio, pgmap, order);
}

struct dev_pagemap *rust_dmirror_folio_pgmap(const struct folio *folio)
{
	return folio->pgmap;
}

/* What a folio_split callback owes the tail: it starts like its head. */
void rust_dmirror_folio_inherit(struct folio *head, struct folio *tail)
{
	tail->pgmap = head->pgmap;
	tail->page.mapping = head->page.mapping;
}

void rust_dmirror_pagemap_set_range(struct dev_pagemap *pgmap, u64 start, u64 end)
{
	pgmap->nr_range = 1;
	pgmap->range.start = start;
	pgmap->range.end = end;
}

struct resource *rust_dmirror_request_free_region(unsigned long size, const char *name)
{
	return request_free_mem_region(&iomem_resource, size, name);
}

static int extend(struct resource *res, void *arg)
{
	u64 *end = arg;

	if (res->start <= *end && res->end >= *end)
		*end = res->end + 1;
	return 0;
}

/*
 * Whether firmware or command line keep the kernel away from all of a range of
 * memory: "Reserved" (memmap=SIZE$ADDRESS), or "Soft Reserved" (EFI's special
 * purpose memory), which has a tree of its own until a driver takes it over.
 */
bool rust_dmirror_region_is_reserved(u64 start, u64 size)
{
	u64 last = start + size - 1;
	u64 reserved = start, soft = start, untaken = start;

	walk_iomem_res_desc(IORES_DESC_RESERVED, IORESOURCE_MEM, start, last, &reserved, extend);
	walk_iomem_res_desc(IORES_DESC_SOFT_RESERVED, IORESOURCE_MEM, start, last, &soft, extend);
	walk_soft_reserve_res(start, last, &untaken, extend);
	return reserved > last || soft > last || untaken > last;
}

bool rust_dmirror_request_region(u64 start, u64 size, const char *name)
{
	return request_mem_region(start, size, name);
}

void rust_dmirror_release_region(u64 start, u64 size)
{
	release_mem_region(start, size);
}

int rust_dmirror_numa_mem_id(void)
{
	return numa_mem_id();
}
