// SPDX-License-Identifier: GPL-2.0
#include <linux/cpuset.h>
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "helpers.h"

void rust_dmirror_folio_put(struct folio *folio)
{
	folio_put(folio);
}

/*
 * Fails if there are so many references that more could wrap the count. The limit, half of what the count can hold,
 * is far above any real count, and leaves room for all CPUs that pass the check at the same time.
 */
bool rust_dmirror_folio_try_get(struct folio *folio)
{
	int refs = folio_ref_count(folio);

	return refs >= 0 && refs < INT_MAX / 2 && folio_try_get(folio);
}

bool rust_dmirror_folio_trylock(struct folio *folio)
{
	return folio_trylock(folio);
}

void rust_dmirror_folio_counts(const struct folio *folio, struct rust_dmirror_folio_counts *counts)
{
	counts->pfn = folio_pfn(folio);
	counts->order = folio_order(folio);
	counts->refs = folio_ref_count(folio);
	counts->mapcount = folio_mapcount(folio);
	counts->expected = folio_expected_ref_count(folio);
	counts->locked = folio_test_locked(folio);
	counts->device_private = folio_is_device_private(folio);
	counts->device_coherent = folio_is_device_coherent(folio);
	/* In ZONE_DEVICE pages, pgmap shares its place with the LRU links. */
	counts->lru = !folio_is_zone_device(folio) && folio_test_lru(folio);
	counts->anon = folio_test_anon(folio);
}

/*
 * Migration moves the charge from the source to the destination. A folio without
 * a charge has been migrated away, and is about to be put.
 */
bool rust_dmirror_folio_is_left(const struct folio *folio)
{
	return !mem_cgroup_disabled() && !folio_memcg_charged((struct folio *)folio);
}

/* Reads the shape of the folio that a page belongs to. */
struct rust_dmirror_shape rust_dmirror_page_shape(const struct page *page)
{
	const struct folio *folio = page_folio(page);

	return (struct rust_dmirror_shape) {
		.pfn = folio_pfn(folio),
		.order = folio_order(folio),
		.mapcount = folio_mapcount(folio),
	};
}

struct folio *rust_dmirror_page_folio(struct page *page)
{
	return page_folio(page);
}

struct folio *rust_dmirror_pfn_folio(unsigned long pfn)
{
	return page_folio(pfn_to_page(pfn));
}

unsigned long rust_dmirror_folio_pfn(const struct folio *folio)
{
	return folio_pfn(folio);
}

unsigned int rust_dmirror_folio_order(const struct folio *folio)
{
	return folio_order(folio);
}

bool rust_dmirror_folio_is_mapped_whole(const struct folio *folio)
{
	return folio_mapped(folio) && folio_entire_mapcount(folio) == folio_mapcount(folio);
}

struct page *rust_dmirror_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

bool rust_dmirror_is_zero_pfn(unsigned long pfn)
{
	struct folio *folio = page_folio(pfn_to_page(pfn));

	/*
	 * huge_zero_pfn is not exported. The huge zero folio is recognised by having no mapping, which
	 * anonymous and file folios have, and a mapcount of 0, unlike a driver's pages that are mapped.
	 */
	return is_zero_pfn(pfn) ||
	       (folio_order(folio) == HPAGE_PMD_ORDER && !folio_is_zone_device(folio) &&
		!folio->mapping && !folio_test_swapcache(folio) && !folio_mapped(folio));
}

struct folio *rust_dmirror_folio_alloc(gfp_t gfp, unsigned int order)
{
	return folio_alloc(gfp, order);
}

struct folio *rust_dmirror_vma_alloc_folio(gfp_t gfp, unsigned int order,
					   struct vm_area_struct *vma, unsigned long addr)
{
	return vma_alloc_folio(gfp, order, vma, addr);
}

/* Returns whether a memory policy decides for each address which node its memory comes from. */
static bool vma_has_policy(const struct vm_area_struct *vma)
{
#ifdef CONFIG_NUMA
	return current->mempolicy || vma->vm_policy || (vma->vm_ops && vma->vm_ops->get_policy);
#else
	return false;
#endif
}

/*
 * Allocates up to @nr single pages as vma_alloc_folio() would, and returns their number. Allocates none if a
 * memory policy decides for each page.
 */
unsigned long rust_dmirror_vma_alloc_pages(gfp_t gfp, struct vm_area_struct *vma,
					   unsigned long nr, struct page **pages)
{
	return vma_has_policy(vma) ? 0 : alloc_pages_bulk(gfp, nr, pages);
}

/*
 * Returns whether a kept folio, which is unmovable, may be used in place of a new one for @vma: vma_alloc_folio()
 * would allocate on the nearest node first, and that node has no zone for movable memory.
 */
bool rust_dmirror_vma_takes_kept(const struct vm_area_struct *vma)
{
	return !vma_has_policy(vma) &&
	       !populated_zone(&NODE_DATA(numa_mem_id())->node_zones[ZONE_MOVABLE]);
}

/*
 * Returns whether the kept @folio may be used now: it is on the node where vma_alloc_folio() would allocate first,
 * and none of its pages has had a hardware error since it was allocated, which nobody else checks.
 */
bool rust_dmirror_folio_is_fit(struct folio *folio)
{
	int node = folio_nid(folio);
	long i;

	if (node != numa_mem_id() || !node_isset(node, cpuset_current_mems_allowed))
		return false;
	for (i = 0; i < folio_nr_pages(folio); i++)
		if (PageHWPoison(folio_page(folio, i)))
			return false;
	return true;
}

/*
 * Allocates zeroed memory, contiguous if that is possible without much effort. Does not invoke the OOM killer: if
 * the cgroup is at its limit, or memory is full, this fails.
 */
void *rust_dmirror_backing_alloc(unsigned long size)
{
	void *memory = kmalloc(size, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN | __GFP_NORETRY);

	return memory ?: __vmalloc(size, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN |
				   __GFP_RETRY_MAYFAIL);
}

void rust_dmirror_copy_from_pages(void *dst, unsigned long pfn, unsigned long nr)
{
	for (; nr; nr--, pfn++, dst += PAGE_SIZE) {
		void *src = kmap_local_page(pfn_to_page(pfn));

		copy_page(dst, src);
		kunmap_local(src);
	}
}

void rust_dmirror_copy_to_pages(unsigned long pfn, const void *src, unsigned long nr)
{
	for (; nr; nr--, pfn++, src += PAGE_SIZE) {
		void *dst = kmap_local_page(pfn_to_page(pfn));

		copy_page(dst, (void *)src);
		kunmap_local(dst);
	}
}

void rust_dmirror_copy_pages(unsigned long dst, unsigned long src, unsigned long nr)
{
	for (; nr; nr--, dst++, src++)
		copy_highpage(pfn_to_page(dst), pfn_to_page(src));
}

/* Copies pages of kernel memory. Both addresses are page-aligned. */
void rust_dmirror_copy_memory(void *dst, const void *src, unsigned long nr)
{
	for (; nr; nr--, dst += PAGE_SIZE, src += PAGE_SIZE)
		copy_page(dst, (void *)src);
}

/* Clears pages of kernel memory. The address is page-aligned. */
void rust_dmirror_clear_memory(void *dst, unsigned long nr)
{
	for (; nr; nr--, dst += PAGE_SIZE)
		clear_page(dst);
}

void rust_dmirror_clear_pages(unsigned long pfn, unsigned long nr)
{
	for (; nr; nr--, pfn++)
		clear_highpage(pfn_to_page(pfn));
}

/*
 * Returns whether a page is in the kernel's direct map. Secret memory and pages with
 * hardware errors are not. This must be checked before a copy to or from user space:
 * some architectures crash if its kernel side faults.
 */
static bool is_reachable(const void *page)
{
	unsigned char byte;

	return !copy_from_kernel_nofault(&byte, page, 1);
}

int rust_dmirror_pages_to_user(unsigned long to, unsigned long pfn, unsigned long nr)
{
	int ret = 0;

	for (; nr && !ret; nr--, pfn++, to += PAGE_SIZE) {
		void *from = kmap_local_page(pfn_to_page(pfn));

		ret = is_reachable(from) ?
			copy_to_user_nofault((void __user *)to, from, PAGE_SIZE) : -ENXIO;
		kunmap_local(from);
	}
	return ret;
}

int rust_dmirror_pages_from_user(unsigned long pfn, unsigned long from, unsigned long nr)
{
	int ret = 0;

	for (; nr && !ret; nr--, pfn++, from += PAGE_SIZE) {
		void *to = kmap_local_page(pfn_to_page(pfn));

		ret = is_reachable(to) ?
			copy_from_user_nofault(to, (const void __user *)from, PAGE_SIZE) : -ENXIO;
		kunmap_local(to);
	}
	return ret;
}

/*
 * Marks pages dirty that were not written through a CPU's page table, where the
 * CPU would have set the dirty bits: reclaim drops clean pages. The pages must be
 * mapped, and stay mapped during the call. Each folio is marked once.
 */
void rust_dmirror_mark_dirty(unsigned long pfn, unsigned long nr)
{
	unsigned long end = pfn + nr;

	while (pfn < end) {
		struct folio *folio = page_folio(pfn_to_page(pfn));

		folio_mark_dirty(folio);
		pfn = folio_pfn(folio) + folio_nr_pages(folio);
	}
}

int rust_dmirror_copy_to_user(unsigned long to, const void *from, unsigned long size)
{
	return copy_to_user_nofault((void __user *)to, from, size);
}

int rust_dmirror_copy_from_user(void *to, unsigned long from, unsigned long size)
{
	return copy_from_user_nofault(to, (const void __user *)from, size);
}
