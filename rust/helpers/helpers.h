/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions for what Rust cannot call. Most are one of the kernel's static inlines
 * or macros, named after it, for which the kernel crate has no helper. Others copy
 * pages, or read struct page, struct folio and page tables in ways that take
 * several calls or a layout that Rust does not know; these have a comment at their
 * definition.
 */
#ifndef RUST_DMIRROR_HELPERS_H
#define RUST_DMIRROR_HELPERS_H

#include <linux/types.h>

struct dev_pagemap;
struct folio;
struct mm_struct;
struct mmu_notifier_range;
struct mmu_interval_notifier;
struct page;
struct range;
struct resource;
struct vm_area_struct;
struct vm_fault;
struct workqueue_struct;

/* The counts and flags of a folio; see folio.rs. */
struct rust_dmirror_folio_counts {
	unsigned long pfn;
	unsigned int order;
	int refs;
	int mapcount;
	int expected;
	bool locked;
	bool lru;
	bool anon;
	bool device_private;
	bool device_coherent;
};

/* The properties of a folio that change when it is mapped, unmapped or split; see fault.rs. */
struct rust_dmirror_shape {
	unsigned long pfn;
	unsigned int order;
	int mapcount;
};

void rust_dmirror_folio_put(struct folio *folio);
bool rust_dmirror_folio_try_get(struct folio *folio);
bool rust_dmirror_folio_trylock(struct folio *folio);
void rust_dmirror_folio_counts(const struct folio *folio, struct rust_dmirror_folio_counts *counts);
bool rust_dmirror_folio_is_left(const struct folio *folio);
struct rust_dmirror_shape rust_dmirror_page_shape(const struct page *page);
struct folio *rust_dmirror_page_folio(struct page *page);
struct folio *rust_dmirror_pfn_folio(unsigned long pfn);
unsigned long rust_dmirror_folio_pfn(const struct folio *folio);
unsigned int rust_dmirror_folio_order(const struct folio *folio);
bool rust_dmirror_folio_is_mapped_whole(const struct folio *folio);
struct page *rust_dmirror_pfn_to_page(unsigned long pfn);
bool rust_dmirror_is_zero_pfn(unsigned long pfn);
struct folio *rust_dmirror_folio_alloc(gfp_t gfp, unsigned int order);
struct folio *rust_dmirror_vma_alloc_folio(gfp_t gfp, unsigned int order,
					   struct vm_area_struct *vma, unsigned long addr);
unsigned long rust_dmirror_vma_alloc_pages(gfp_t gfp, struct vm_area_struct *vma,
					   unsigned long nr, struct page **pages);
bool rust_dmirror_vma_takes_kept(const struct vm_area_struct *vma);
bool rust_dmirror_folio_is_fit(struct folio *folio);
void *rust_dmirror_backing_alloc(unsigned long size);
void rust_dmirror_copy_from_pages(void *dst, unsigned long pfn, unsigned long nr);
void rust_dmirror_copy_to_pages(unsigned long pfn, const void *src, unsigned long nr);
void rust_dmirror_copy_pages(unsigned long dst, unsigned long src, unsigned long nr);
int rust_dmirror_pages_to_user(unsigned long to, unsigned long pfn, unsigned long nr);
int rust_dmirror_pages_from_user(unsigned long pfn, unsigned long from, unsigned long nr);
void rust_dmirror_mark_dirty(unsigned long pfn, unsigned long nr);
int rust_dmirror_copy_to_user(unsigned long to, const void *from, unsigned long size);
int rust_dmirror_copy_from_user(void *to, unsigned long from, unsigned long size);
void rust_dmirror_copy_memory(void *dst, const void *src, unsigned long nr);
void rust_dmirror_clear_pages(unsigned long pfn, unsigned long nr);
void rust_dmirror_clear_memory(void *dst, unsigned long nr);

void rust_dmirror_zone_device_folio_init(struct folio *folio, struct dev_pagemap *pgmap,
					 unsigned int order, void *data);
void *rust_dmirror_page_zone_device_data(const struct page *page);
struct dev_pagemap *rust_dmirror_page_pgmap(const struct page *page);
struct dev_pagemap *rust_dmirror_folio_pgmap(const struct folio *folio);
unsigned long rust_dmirror_fault_run(const struct vm_fault *vmf, unsigned long first,
				     unsigned long last, unsigned long most);
struct dev_pagemap *rust_dmirror_pfn_pgmap(unsigned long pfn);
unsigned int rust_dmirror_pfn_memory(unsigned long pfn);
/* The result of rust_dmirror_pfn_place(): enum memory_type or 0, and these flags. */
#define RUST_DMIRROR_PLACE_MEMORY	0x0ff
#define RUST_DMIRROR_PLACE_OWN		0x100
#define RUST_DMIRROR_PLACE_ZERO		0x200
unsigned int rust_dmirror_pfn_place(unsigned long pfn, const void *owner, bool write);
void rust_dmirror_folio_inherit(struct folio *head, struct folio *tail);
void rust_dmirror_pagemap_set_range(struct dev_pagemap *pgmap, u64 start, u64 end);
struct resource *rust_dmirror_request_free_region(unsigned long size, const char *name);
bool rust_dmirror_region_has_pages(u64 start, u64 size);
bool rust_dmirror_region_is_reserved(u64 start, u64 size, bool any);
int rust_dmirror_request_region(u64 start, u64 size, const char *name);
void rust_dmirror_release_region(u64 start, u64 size);
int rust_dmirror_numa_mem_id(void);

void rust_dmirror_interval_set_seq(struct mmu_interval_notifier *notifier, unsigned long seq);
bool rust_dmirror_interval_read_retry(struct mmu_interval_notifier *notifier, unsigned long seq);
bool rust_dmirror_range_blockable(const struct mmu_notifier_range *range);

bool rust_dmirror_pfn_may_leave(unsigned long pfn);
bool rust_dmirror_pfn_is_ksm(unsigned long pfn);
void rust_dmirror_keep(unsigned long *src, unsigned long nr, bool holes);
bool rust_dmirror_vma_thp_disabled(struct vm_area_struct *vma);
bool rust_dmirror_mm_has_room(struct mm_struct *mm, unsigned long nr);
bool rust_dmirror_is_mapped_huge(struct mm_struct *mm, unsigned long addr);

int rust_dmirror_mmap_read_lock_killable(struct mm_struct *mm);
bool rust_dmirror_fatal_signal_pending(void);
bool rust_dmirror_empty_tlb(void);
bool rust_dmirror_ratelimit(void);
struct workqueue_struct *rust_dmirror_queue_alloc(const char *name);
void rust_dmirror_queue_flush(struct workqueue_struct *queue);
unsigned long rust_dmirror_task_size(const struct mm_struct *mm);
bool rust_dmirror_mm_is_alone(const struct mm_struct *mm);
unsigned long rust_dmirror_mm_rss(struct mm_struct *mm, int member);

/* For KUnit cases only; see testing.rs. */
long rust_dmirror_test_mmap(unsigned long len, bool droppable);
int rust_dmirror_test_munmap(unsigned long addr, unsigned long len);
bool rust_dmirror_test_drain_lru(void);
bool rust_dmirror_test_peek(unsigned long pfn, unsigned long offset, u64 *word);
struct mm_struct *rust_dmirror_test_dup_mm(void);
void rust_dmirror_test_folio_ref_add(struct folio *folio, int nr);
void rust_dmirror_test_copy(void *dst, const void *src, unsigned long size);

/* Gates: each returns 0 unless fail_function makes it fail. */
int rust_dmirror_gate_huge_alloc(void);
int rust_dmirror_gate_small_alloc(void);
int rust_dmirror_gate_copy(void);
int rust_dmirror_gate_extra_ref(void);
int rust_dmirror_gate_folio_lock(void);

#endif
