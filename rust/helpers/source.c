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
 * Whether memory of a device may take the place of a folio of system memory.
 *
 * The core puts anonymous memory there only, and finds out after the driver has
 * copied: too late for secret memory, which no kernel address reaches.
 *
 * And not of KSM: its folio is shared by whoever had the same contents, each of
 * whom ksmd finds by entries that are present, to compare them by the CPU.
 */
static bool folio_may_leave(const struct folio *folio)
{
	return folio_test_anon(folio) && !folio_test_ksm(folio);
}

/* Of a page that is in use. */
bool rust_dmirror_pfn_may_leave(unsigned long pfn)
{
	return folio_may_leave(page_folio(pfn_to_page(pfn)));
}

bool rust_dmirror_pfn_is_ksm(unsigned long pfn)
{
	return folio_test_ksm(page_folio(pfn_to_page(pfn)));
}

/*
 * Of @nr entries that migrate_vma_setup() left, in a copy: those that must not
 * get a destination on a device do not migrate. With @holes, neither do those
 * that have no page.
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
		/* The entries behind a huge one are empty. */
		if (src[i] & MIGRATE_PFN_COMPOUND)
			break;
	}
}

/* MADV_NOHUGEPAGE or PR_SET_THP_DISABLE. mmap_lock is held. */
bool rust_dmirror_vma_thp_disabled(struct vm_area_struct *vma)
{
	return vma_thp_disabled(vma, vma->vm_flags, false);
}

/*
 * Whether there is a huge mapping at an address, such as that of the huge zero
 * page. mmap_lock is held, so that page tables above the last level stay.
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
 * Whether @nr more pages can be charged to the cgroup of @mm without its OOM killer,
 * which the core would call. What is free below the limits is looked at; if that is
 * too little, as many pages are tried for and given back, which reclaims. Sleeps.
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
		/* Whoever asks may be of another cgroup. */
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
