// SPDX-License-Identifier: GPL-2.0
/* Operations of KUnit cases on their address space. */
#include <kunit/test.h>
#include <kunit/test-bug.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "helpers.h"

#if IS_BUILTIN(CONFIG_KUNIT)
/*
 * Maps an anonymous area, private or MAP_DROPPABLE, in current->mm, which is made if
 * there is none. Returns its address or an errno.
 */
long rust_dmirror_test_mmap(unsigned long len, bool droppable)
{
	struct kunit *test = kunit_get_current_test();
	unsigned long addr;

	if (!test)
		return -EINVAL;
	addr = kunit_vm_mmap(test, NULL, 0, len, PROT_READ | PROT_WRITE,
			     (droppable ? MAP_DROPPABLE : MAP_PRIVATE) | MAP_ANONYMOUS, 0);
	return addr ? (long)addr : -ENOMEM;
}

void rust_dmirror_test_copy(void *dst, const void *src, unsigned long size)
{
	memcpy(dst, src, size);
}

int rust_dmirror_test_munmap(unsigned long addr, unsigned long len)
{
	return vm_munmap(addr, len);
}

/* Returns false if the kernel does not export lru_add_drain_all(). */
bool rust_dmirror_test_drain_lru(void)
{
	void (*drain)(void) = __symbol_get("lru_add_drain_all");

	if (!drain)
		return false;
	drain();
	__symbol_put("lru_add_drain_all");
	return true;
}

/* Reads a word of system memory. Returns false for device memory, and if there is no memory. */
bool rust_dmirror_test_peek(unsigned long pfn, unsigned long offset, u64 *word)
{
	struct page *page = pfn_to_online_page(pfn);

	if (!page || is_zone_device_page(page) || PageHighMem(page))
		return false;
	return !copy_from_kernel_nofault(word, page_address(page) + offset, sizeof(*word));
}

/* For a moment, the count may be higher than a real one ever is. */
void rust_dmirror_test_folio_ref_add(struct folio *folio, int nr)
{
	folio_ref_add(folio, nr);
}

/* Copies current->mm as fork() does. Returns NULL if the kernel does not export dup_mm_for_tests(). */
struct mm_struct *rust_dmirror_test_dup_mm(void)
{
	struct mm_struct *(*dup)(struct mm_struct *oldmm) = __symbol_get("dup_mm_for_tests");
	struct mm_struct *mm;

	if (!dup)
		return NULL;
	mm = dup(current->mm);
	__symbol_put("dup_mm_for_tests");
	return mm;
}
#endif
