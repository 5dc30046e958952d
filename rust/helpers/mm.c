// SPDX-License-Identifier: GPL-2.0
#include <linux/hmm.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_notifier.h>
#include <linux/ratelimit.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "helpers.h"

/* hmm.rs derives these constants, which bindgen omits. */
static_assert(HMM_PFN_VALID == HMM_PFN_WRITE << 1);
static_assert(HMM_PFN_REQ_FAULT == HMM_PFN_VALID);

void rust_dmirror_interval_set_seq(struct mmu_interval_notifier *notifier, unsigned long seq)
{
	mmu_interval_set_seq(notifier, seq);
}

bool rust_dmirror_interval_read_retry(struct mmu_interval_notifier *notifier, unsigned long seq)
{
	return mmu_interval_read_retry(notifier, seq);
}

bool rust_dmirror_range_blockable(const struct mmu_notifier_range *range)
{
	return mmu_notifier_range_blockable(range);
}

int rust_dmirror_mmap_read_lock_killable(struct mm_struct *mm)
{
	return mmap_read_lock_killable(mm);
}

bool rust_dmirror_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

unsigned long rust_dmirror_task_size(const struct mm_struct *mm)
{
	return mm->task_size;
}

/* One of the two users is the current thread, the other is the caller's reference. */
bool rust_dmirror_mm_is_alone(const struct mm_struct *mm)
{
	return current->mm == mm && atomic_read(&mm->mm_users) == 2;
}

unsigned long rust_dmirror_mm_rss(struct mm_struct *mm, int member)
{
	return get_mm_counter_sum(mm, member);
}

struct workqueue_struct *rust_dmirror_queue_alloc(const char *name)
{
	return alloc_workqueue("%s", WQ_UNBOUND, 1, name);
}

void rust_dmirror_queue_flush(struct workqueue_struct *queue)
{
	flush_workqueue(queue);
}

/*
 * Flushes the kernel's TLB entries on all CPUs. There is no exported function for
 * that; the kernel does it when so many pages are unmapped that flushing them one
 * by one would cost more.
 */
bool rust_dmirror_empty_tlb(void)
{
	void *memory = __vmalloc(SZ_1M, GFP_KERNEL | __GFP_NOWARN);

	if (!memory)
		return false;
	vfree(memory);
	vm_unmap_aliases();
	return true;
}

bool rust_dmirror_ratelimit(void)
{
	static DEFINE_RATELIMIT_STATE(state, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);

	return __ratelimit(&state);
}
