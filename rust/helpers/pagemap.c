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

void rust_dmirror_release_region(u64 start, u64 size)
{
	release_mem_region(start, size);
}

int rust_dmirror_numa_mem_id(void)
{
	return numa_mem_id();
}
