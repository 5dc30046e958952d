// SPDX-License-Identifier: GPL-2.0
#include <linux/err.h>
#include <linux/ioport.h>
#include <linux/leafops.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/topology.h>

#include "helpers.h"

void rust_dmirror_zone_device_folio_init(struct folio *folio, struct dev_pagemap *pgmap,
					 unsigned int order, void *data)
{
	zone_device_folio_init(folio, pgmap, order);
	folio->page.zone_device_data = data;
}

/* Returns zone_device_data of the folio that a page belongs to. */
void *rust_dmirror_page_zone_device_data(const struct page *page)
{
	return folio_zone_device_data(page_folio(page));
}

struct dev_pagemap *rust_dmirror_page_pgmap(const struct page *page)
{
	return page_pgmap(page);
}

struct dev_pagemap *rust_dmirror_folio_pgmap(const struct folio *folio)
{
	return folio->pgmap;
}

static inline struct dev_pagemap *device_pgmap(unsigned long pfn)
{
	struct folio *folio = page_folio(pfn_to_page(pfn));

	if (folio_is_device_private(folio) || folio_is_device_coherent(folio))
		return folio->pgmap;
	return NULL;
}

/* Returns the pagemap of a private or coherent device page, or NULL for any other page. */
struct dev_pagemap *rust_dmirror_pfn_pgmap(unsigned long pfn)
{
	return device_pgmap(pfn);
}

/* Returns the enum memory_type of a device page, or 0 for any other page. */
unsigned int rust_dmirror_pfn_memory(unsigned long pfn)
{
	struct dev_pagemap *pgmap = device_pgmap(pfn);

	return pgmap ? pgmap->type : 0;
}

/*
 * Returns where a mapped page is, in one call, since a snapshot calls this for each page. A page that is mapped
 * writable cannot be a zero page.
 */
unsigned int rust_dmirror_pfn_place(unsigned long pfn, const void *owner, bool write)
{
	struct dev_pagemap *pgmap = device_pgmap(pfn);

	if (pgmap)
		return pgmap->type | (pgmap->owner == owner ? RUST_DMIRROR_PLACE_OWN : 0);
	return !write && rust_dmirror_is_zero_pfn(pfn) ? RUST_DMIRROR_PLACE_ZERO : 0;
}

/* Copies from head to tail what a folio_split callback must copy. */
void rust_dmirror_folio_inherit(struct folio *head, struct folio *tail)
{
	tail->pgmap = head->pgmap;
	tail->page.mapping = head->page.mapping;
	tail->page.zone_device_data = head->page.zone_device_data;
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

/*
 * Returns whether any part of a range of device memory has struct pages. If __add_pages() runs out of memory, it does
 * not free those of the sections that it has added, and then fails for this range for ever (K25).
 */
bool rust_dmirror_region_has_pages(u64 start, u64 size)
{
	unsigned long pfn, end = PHYS_PFN(start + size);

	for (pfn = PHYS_PFN(start); pfn < end; pfn += PAGES_PER_SECTION)
		if (pfn_valid(pfn))
			return true;
	return false;
}

static int extend(struct resource *res, void *arg)
{
	u64 *end = arg;

	if (res->start <= *end && res->end >= *end)
		*end = res->end + 1;
	return 0;
}

/*
 * Returns whether all of a range is reserved for devices by the firmware: "Soft
 * Reserved" (EFI's special purpose memory), which is in a resource tree of its own
 * until a driver takes it over. With @any, "Reserved" counts as well
 * (memmap=SIZE$ADDRESS), as which the firmware marks its own memory too.
 */
bool rust_dmirror_region_is_reserved(u64 start, u64 size, bool any)
{
	u64 last = start + size - 1;
	u64 reserved = start, soft = start, untaken = start;

	if (any)
		walk_iomem_res_desc(IORES_DESC_RESERVED, IORESOURCE_MEM, start, last, &reserved, extend);
	walk_iomem_res_desc(IORES_DESC_SOFT_RESERVED, IORESOURCE_MEM, start, last, &soft, extend);
	walk_soft_reserve_res(start, last, &untaken, extend);
	return reserved > last || soft > last || untaken > last;
}

/*
 * Requests a range. Fails if it is below a bus or a device, where there is no memory:
 * every parent up to the root must be a reserved range. If a part of the range is in
 * use, such as PCI's configuration space, the request itself fails.
 */
int rust_dmirror_request_region(u64 start, u64 size, const char *name)
{
	struct resource *res = request_mem_region(start, size, name), *parent;

	if (!res)
		return -EBUSY;
	for (parent = res->parent; parent && parent != &iomem_resource; parent = parent->parent) {
		if (parent->desc != IORES_DESC_RESERVED && parent->desc != IORES_DESC_SOFT_RESERVED) {
			release_mem_region(start, size);
			return -ENODEV;
		}
	}
	return 0;
}

void rust_dmirror_release_region(u64 start, u64 size)
{
	release_mem_region(start, size);
}

int rust_dmirror_numa_mem_id(void)
{
	return numa_mem_id();
}

/*
 * Returns the length of the run of device-private entries, from the one that faulted on and @most at most, for small
 * folios among the pages from @first to @last. All must be in one page table.
 *
 * Takes no lock, and none would help: an entry may change before it is collected. But a small folio does not become
 * part of a large one that is mapped by such an entry while mmap_lock is held: large device folios are mapped by a
 * huge entry first, and are only split afterwards.
 */
unsigned long rust_dmirror_fault_run(const struct vm_fault *vmf, unsigned long first,
				     unsigned long last, unsigned long most)
{
	unsigned long nr = 0;
	pmd_t pmd;
	pte_t *pte;

	/* As pte_offset_map(), which is not exported. RCU keeps the page table from being freed. */
	rcu_read_lock();
	pmd = pmdp_get_lockless(vmf->pmd);
	if (pmd_present(pmd) && !pmd_leaf(pmd) && !pmd_bad(pmd)) {
		for (pte = pte_offset_kernel(&pmd, vmf->address); nr < most; nr++, pte++) {
			softleaf_t entry = softleaf_from_pte(ptep_get_lockless(pte));
			unsigned long pfn;

			if (!softleaf_is_device_private(entry))
				break;
			pfn = softleaf_to_pfn(entry);
			if (pfn < first || pfn > last || PageCompound(pfn_to_page(pfn)))
				break;
		}
	}
	rcu_read_unlock();
	return nr;
}
