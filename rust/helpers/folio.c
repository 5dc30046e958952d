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
 * Not if there are so many references that more could wrap the count. Half of it is far from what anybody
 * needs, and far enough from the end for all CPUs that are here at once.
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
	/* ZONE_DEVICE keeps its pgmap where others have their LRU links. */
	counts->lru = !folio_is_zone_device(folio) && folio_test_lru(folio);
	counts->anon = folio_test_anon(folio);
}

/*
 * Migration takes the charge from the source. What has none any more has been
 * migrated away, and whoever did that is about to put it.
 */
bool rust_dmirror_folio_is_left(const struct folio *folio)
{
	return !mem_cgroup_disabled() && !folio_memcg_charged((struct folio *)folio);
}

/* Of the folio that holds a page. */
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
	 * huge_zero_pfn is not exported: anonymous and file folios have a mapping, the zero folio has
	 * none; and its mappings are not counted, unlike those of a driver's pages.
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

/* Whether a memory policy decides from which node memory for each address comes. */
static bool vma_has_policy(const struct vm_area_struct *vma)
{
#ifdef CONFIG_NUMA
	return current->mempolicy || vma->vm_policy || (vma->vm_ops && vma->vm_ops->get_policy);
#else
	return false;
#endif
}

/*
 * Single pages as vma_alloc_folio() would give them, @nr at most, and how many they are: none where a
 * memory policy has to be asked for each.
 */
unsigned long rust_dmirror_vma_alloc_pages(gfp_t gfp, struct vm_area_struct *vma,
					   unsigned long nr, struct page **pages)
{
	return vma_has_policy(vma) ? 0 : alloc_pages_bulk(gfp, nr, pages);
}

/*
 * Whether a folio that was kept, of memory that is not to be moved, may take the place of a new one for
 * @vma: vma_alloc_folio() would look on the nearest node first, and not in a zone for movable memory.
 */
bool rust_dmirror_vma_takes_kept(const struct vm_area_struct *vma)
{
	return !vma_has_policy(vma) &&
	       !populated_zone(&NODE_DATA(numa_mem_id())->node_zones[ZONE_MOVABLE]);
}

/*
 * Whether it may be @folio: where vma_alloc_folio() would look first, and no page of it was found to be
 * broken meanwhile, for which nobody looks any more.
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
 * Zeroed. In one piece if there is one at hand; and then what there is, without the OOM killer: a
 * cgroup at its limit, or a full machine, is an answer.
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

/* Two pieces of kernel memory, aligned to a page. */
void rust_dmirror_copy_memory(void *dst, const void *src, unsigned long nr)
{
	for (; nr; nr--, dst += PAGE_SIZE, src += PAGE_SIZE)
		copy_page(dst, (void *)src);
}

/* Kernel memory, aligned to a page. */
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
 * The kernel has no address for a page of secret memory, or for one that is broken.
 * That is found out before: not all architectures survive a copy to or from user
 * space whose other side faults.
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
 * What is owed to pages that were written without the CPU's page tables, whose
 * dirty bits only the CPU sets: reclaim drops what is clean. The pages must be
 * mapped, and stay that meanwhile. Each folio is marked once.
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
