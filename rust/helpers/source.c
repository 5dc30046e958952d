// SPDX-License-Identifier: GPL-2.0
#include <linux/huge_mm.h>
#include <linux/ksm.h>
#include <linux/memcontrol.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/vmalloc.h>

#include "helpers.h"

/*
 * Returns whether a folio of system memory may be migrated to a device.
 *
 * The core migrates anonymous folios only, but checks that after the driver has
 * copied. A copy of secret memory would crash, since it is not in the direct map.
 *
 * KSM's folios must stay: ksmd compares them by the CPU, and finds their mappings
 * by entries that are present.
 */
static bool folio_may_leave(const struct folio *folio)
{
	return folio_test_anon(folio) && !folio_test_ksm(folio);
}

/* The page must be in use. */
bool rust_dmirror_pfn_may_leave(unsigned long pfn)
{
	return folio_may_leave(page_folio(pfn_to_page(pfn)));
}

bool rust_dmirror_pfn_is_ksm(unsigned long pfn)
{
	return folio_test_ksm(page_folio(pfn_to_page(pfn)));
}

/*
 * Clears MIGRATE_PFN_MIGRATE in a copy of the @nr entries that migrate_vma_setup()
 * made, for those that must not get a destination on a device. With @holes, also
 * for entries without a page.
 */
void rust_dmirror_keep(unsigned long *src, unsigned long nr, bool holes)
{
	unsigned long i;

	for (i = 0; i < nr; i++) {
		struct page *page;

		if (!(src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		page = migrate_pfn_to_page(src[i]);
		if (page ? !folio_may_leave(page_folio(page)) : holes)
			src[i] &= ~MIGRATE_PFN_MIGRATE;
		/* A huge entry is followed by empty ones only. */
		if (src[i] & MIGRATE_PFN_COMPOUND)
			break;
	}
}

/* Returns whether MADV_NOHUGEPAGE or PR_SET_THP_DISABLE applies. mmap_lock must be held. */
bool rust_dmirror_vma_thp_disabled(struct vm_area_struct *vma)
{
	return vma_thp_disabled(vma, vma->vm_flags, false);
}

/*
 * Returns whether an address has a huge mapping, such as that of the huge zero
 * page. mmap_lock must be held, so that page tables above the last level stay.
 */
bool rust_dmirror_is_mapped_huge(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;

	if (!pgd_present(READ_ONCE(*pgd)))
		return false;
	p4d = p4d_offset(pgd, addr);
	if (!p4d_present(READ_ONCE(*p4d)))
		return false;
	pud = pud_offset(p4d, addr);
	if (!pud_present(READ_ONCE(*pud)) || pud_leaf(READ_ONCE(*pud)))
		return false;
	return pmd_trans_huge(pmdp_get_lockless(pmd_offset(pud, addr)));
}

/*
 * Returns whether @nr more pages can be charged to the cgroup of @mm without invoking
 * the OOM killer, which the core's charge would do. Compares the usage with the
 * limits first. If there is no room, allocates and frees that many pages, which
 * reclaims. Sleeps.
 */
bool rust_dmirror_mm_has_room(struct mm_struct *mm, unsigned long nr)
{
	struct mem_cgroup *own = get_mem_cgroup_from_mm(mm);
	bool has = true;
#ifdef CONFIG_MEMCG
	struct mem_cgroup *memcg;

	for (memcg = own; memcg && has; memcg = parent_mem_cgroup(memcg))
		has = page_counter_read(&memcg->memory) + nr <= READ_ONCE(memcg->memory.max);
#endif
	if (!has) {
		/* The current task may be in another cgroup. */
		struct mem_cgroup *old = set_active_memcg(own);
		void *trial = __vmalloc(nr << PAGE_SHIFT, GFP_KERNEL_ACCOUNT | __GFP_NOWARN |
					__GFP_RETRY_MAYFAIL);

		set_active_memcg(old);
		has = trial;
		vfree(trial);
	}
	mem_cgroup_put(own);
	return has;
}
