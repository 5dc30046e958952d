/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * rust_dmirror: the ioctls that it has beyond those of test_hmm.
 *
 * /dev/hmm_dmirror0..3 answer the ten ioctls of test_hmm_uapi.h (type 'H',
 * numbers 0x00 to 0x09), which is the kernel's lib/test_hmm_uapi.h, unchanged.
 * What follows begins at number 0x40. Every structure starts with the version of
 * this ABI, which the caller fills in; a version that the driver does not know is
 * refused with EINVAL. Members marked (in) are read, those marked (out) are
 * written, also when the command fails: what it did not find out is 0. Reserved
 * ones must be zero. Addresses are bytes, counts are pages of the base page size
 * unless said otherwise, times are nanoseconds.
 *
 * The bindings of the driver and of the programs in tests/ are generated from
 * this file (scripts/uapi-bindings.sh).
 */
#ifndef _UAPI_RUST_DMIRROR_H
#define _UAPI_RUST_DMIRROR_H

#include <linux/ioctl.h>
#include <linux/types.h>

#include "test_hmm_uapi.h"

#define RUST_DMIRROR_ABI_VERSION	1

/* Directions of a migration; the last two are for RUST_DMIRROR_PAUSE only. */
#define RUST_DMIRROR_TO_DEVICE		1
#define RUST_DMIRROR_TO_SYSTEM		2
#define RUST_DMIRROR_BY_FAULT		3
#define RUST_DMIRROR_BY_EVICTION	4

/* Why pages stayed where they were: indices of @refused. */
enum rust_dmirror_refusal {
	/*
	 * not offered: pinned, locked, elsewhere; or not to leave system memory: not
	 * anonymous, merged by KSM, droppable, a hole that userfaultfd or KSM watches
	 */
	RUST_DMIRROR_REFUSED_COLLECT	= 0,
	/* no destination could be allocated */
	RUST_DMIRROR_REFUSED_NO_MEMORY	= 1,
	/* the copy to the destination failed */
	RUST_DMIRROR_REFUSED_COPY	= 2,
	/* migrate_vma_pages() withdrew the page */
	RUST_DMIRROR_REFUSED_CORE	= 3,
	RUST_DMIRROR_REFUSED_REASONS	= 4,
};

/**
 * struct rust_dmirror_migrate - move pages, and tell exactly what became of them
 * @version: (in) RUST_DMIRROR_ABI_VERSION
 * @direction: (in) RUST_DMIRROR_TO_DEVICE or RUST_DMIRROR_TO_SYSTEM
 * @addr: (in) first address, page aligned
 * @npages: (in) pages of the range
 * @ptr: (in) where the data of the range is read back to, up to the first page
 *	that is not on the device; or 0
 * @collected: (out) pages that migrate_vma_setup() offered in at least one attempt
 * @whole: (out) pages migrated as part of a whole huge folio
 * @split: (out) pages migrated as small folios out of a folio split for it
 * @small: (out) pages migrated that were collected one by one: small before, or
 *	of a huge folio that is mapped or asked for in part only, which the core
 *	splits while it collects
 * @split_refused: (out) pages of huge folios whose split was refused
 * @refused: (out) pages that stayed, by enum rust_dmirror_refusal
 * @empty: (out) pages where there was nothing to migrate, and nothing was to be made
 * @retries: (out) attempts repeated because something was refused: a split, a
 *	page that the core withdrew, or one that was not offered
 * @read_back: (out) pages written to @ptr, the first of the range
 * @ns_setup: (out) time in migrate_vma_setup()
 * @ns_copy: (out) time for allocating and filling destinations
 * @ns_pages: (out) time in migrate_vma_pages()
 * @ns_finalize: (out) time in migrate_vma_finalize()
 * @ns_readback: (out) time for reading back
 * @reserved: zero
 *
 * Succeeds also when pages were refused: the counts are the answer. Every page
 * of the range is in exactly one of @whole, @split, @small, @split_refused,
 * @refused[] and @empty. If it fails, the pages before the place where it failed
 * are: what moved stays moved. EAGAIN means that the page tables changed some ten
 * times in a row while the same pages were collected.
 */
struct rust_dmirror_migrate {
	__u32	version;
	__u32	direction;
	__u64	addr;
	__u64	npages;
	__u64	ptr;
	__u64	collected;
	__u64	whole;
	__u64	split;
	__u64	small;
	__u64	split_refused;
	__u64	refused[RUST_DMIRROR_REFUSED_REASONS];
	__u64	empty;
	__u64	retries;
	__u64	read_back;
	__u64	ns_setup;
	__u64	ns_copy;
	__u64	ns_pages;
	__u64	ns_finalize;
	__u64	ns_readback;
	__u64	reserved[4];
};

/* Points at which a failure can be injected, on any kernel. */
enum rust_dmirror_inject_point {
	/* all points: only with @times = 0, to clear them */
	RUST_DMIRROR_INJECT_ALL		= 0,
	/* an extra reference on the source between setup and pages: refuses its split */
	RUST_DMIRROR_INJECT_EXTRA_REF	= 1,
	/* a huge destination cannot be allocated */
	RUST_DMIRROR_INJECT_HUGE_ALLOC	= 2,
	/* a small destination cannot be allocated */
	RUST_DMIRROR_INJECT_SMALL_ALLOC	= 3,
	/* the copy fails */
	RUST_DMIRROR_INJECT_COPY	= 4,
	/* the source folio is locked by somebody else during setup */
	RUST_DMIRROR_INJECT_FOLIO_LOCK	= 5,
	RUST_DMIRROR_INJECT_POINTS	= 6,
};

/**
 * struct rust_dmirror_inject - arm or clear an injection point of this open file
 * @version: (in) RUST_DMIRROR_ABI_VERSION
 * @point: (in) enum rust_dmirror_inject_point
 * @skip: (in) how many passes succeed first
 * @times: (in) how many passes fail after that; 0 clears the point
 * @hits: (out) how often this point failed since the file was opened
 * @reserved: zero
 */
struct rust_dmirror_inject {
	__u32	version;
	__u32	point;
	__u64	skip;
	__u64	times;
	__u64	hits;
	__u64	reserved[2];
};

/* Between which stages a migration stops. */
enum rust_dmirror_stage {
	/* after setup: sources are locked and unmapped */
	RUST_DMIRROR_COLLECTED		= 1,
	/* destinations are filled; before migrate_vma_pages() */
	RUST_DMIRROR_FILLED		= 2,
	/* right after migrate_vma_pages(); injected references are still held */
	RUST_DMIRROR_COMMITTED		= 3,
	/* outcomes are counted; before migrate_vma_finalize() */
	RUST_DMIRROR_FINALIZE		= 4,
};

enum rust_dmirror_pause_op {
	/* the next migration of @direction, after @skip of them, stops at @stage */
	RUST_DMIRROR_PAUSE_ARM		= 1,
	/* wait until a migration has stopped at what was armed last */
	RUST_DMIRROR_PAUSE_WAIT		= 2,
	/* let stopped migrations continue */
	RUST_DMIRROR_PAUSE_RESUME	= 3,
	/* disarm, and let stopped migrations continue */
	RUST_DMIRROR_PAUSE_CLEAR	= 4,
	/* only fill the (out) members in */
	RUST_DMIRROR_PAUSE_STATUS	= 5,
};

/* The longest stop or wait in milliseconds: hung tasks are reported after 120 s. */
#define RUST_DMIRROR_PAUSE_MOST		10000
/* That of a caller who gives none. */
#define RUST_DMIRROR_PAUSE_DEFAULT	2000

/**
 * struct rust_dmirror_pause - stop a migration of this open file between two stages
 * @version: (in) RUST_DMIRROR_ABI_VERSION
 * @op: (in) enum rust_dmirror_pause_op
 * @stage: (in) enum rust_dmirror_stage; 0 unless @op is ARM
 * @direction: (in) RUST_DMIRROR_TO_DEVICE to RUST_DMIRROR_BY_EVICTION, or 0 for
 *	any; 0 unless @op is ARM
 * @skip: (in) how many passes of that stage go on first; 0 unless @op is ARM
 * @ms: (in) milliseconds, 1 to RUST_DMIRROR_PAUSE_MOST, or 0 for
 *	RUST_DMIRROR_PAUSE_DEFAULT: the longest stop for ARM, the longest wait for
 *	WAIT; 0 for others
 * @waiting: (out) migrations that are stopped now
 * @reached: (out) how often migrations stopped since the file was opened
 * @reserved: zero
 *
 * For tests that need something to happen exactly there. A stopped migration
 * keeps what it holds at that stage: mmap_lock (or, in a CPU fault, the lock of
 * the VMA) and the locks of its folios. One migration stops, then nothing is
 * armed any more; arming again replaces what is armed. The stop ends when it is
 * resumed or cleared, at its limit, or when the thread is killed; what follows
 * is what would have followed without it. What is armed counts for attempts that
 * begin later. Closing the file clears it first, so it never stops the eviction
 * of that close. For migrations of all users of a device, RELEASE and close
 * among them, there is hmm_dmirrorN/pause in debugfs.
 *
 * EINVAL also if a member is set that the operation does not have. WAIT fails
 * with ENOENT if nothing was armed since it was cleared, ETIMEDOUT at its limit,
 * and EINTR if a signal comes first.
 */
struct rust_dmirror_pause {
	__u32	version;
	__u32	op;
	__u32	stage;
	__u32	direction;
	__u64	skip;
	__u32	ms;
	__u32	waiting;
	__u64	reached;
	__u64	reserved[3];
};

/* Where a page is. */
enum rust_dmirror_where {
	RUST_DMIRROR_NOWHERE		= 0,	/* nothing mapped here */
	RUST_DMIRROR_SYSTEM		= 1,	/* system memory */
	RUST_DMIRROR_ZERO		= 2,	/* the (huge) zero page */
	RUST_DMIRROR_DEVICE		= 3,	/* this device's memory */
	RUST_DMIRROR_UNREADABLE		= 4,	/* no mapping, or one that may not be read */
};

#define RUST_DMIRROR_PAGE_WRITE		(1 << 0)	/* mapped writable */
#define RUST_DMIRROR_PAGE_ANON		(1 << 1)
#define RUST_DMIRROR_PAGE_LOCKED	(1 << 2)
#define RUST_DMIRROR_PAGE_LRU		(1 << 3)
#define RUST_DMIRROR_PAGE_PRIVATE	(1 << 4)	/* device-private memory */
#define RUST_DMIRROR_PAGE_COHERENT	(1 << 5)	/* device-coherent memory */

/**
 * struct rust_dmirror_page - where the page at an address is, and who holds it
 * @version: (in) RUST_DMIRROR_ABI_VERSION
 * @where: (out) enum rust_dmirror_where
 * @addr: (in) address, page aligned
 * @pfn: (out) page frame number
 * @order: (out) order of its folio
 * @map_order: (out) order of the mapping at @addr
 * @refs: (out) reference count of the folio, without the one taken to look
 * @expected: (out) the references that folio_expected_ref_count() accounts for
 * @mapcount: (out) how often the folio's pages are mapped
 * @flags: (out) RUST_DMIRROR_PAGE_*
 * @reserved: zero
 */
struct rust_dmirror_page {
	__u32	version;
	__u32	where;
	__u64	addr;
	__u64	pfn;
	__u32	order;
	__u32	map_order;
	__u32	refs;
	__u32	expected;
	__u32	mapcount;
	__u32	flags;
	__u64	reserved[2];
};

/**
 * struct rust_dmirror_stats - what this device holds and has done since it was made
 * @version: (in) RUST_DMIRROR_ABI_VERSION
 * @chunks: (out) ranges of device memory, 256 MiB each
 * @pages_total: (out) pages of device memory
 * @pages_used: (out) pages of device memory in use
 * @pages_mine: (out) those of them that belong to this open file
 * @to_device: (out) pages migrated to the device
 * @to_system: (out) pages migrated back on request
 * @faulted: (out) pages migrated back by CPU faults
 * @evicted: (out) pages migrated back by eviction
 * @split_refused: (out) huge folios whose split was refused, and pages that CPU
 *	faults gave up
 * @retries: (out) attempts repeated because something was refused, by whichever
 *	way pages go
 * @stuck: (out) pages that eviction could not move
 * @ledger_checks: (out) reference counts checked
 * @ledger_mismatches: (out) of those, the ones that did not match
 * @reserved: zero
 */
struct rust_dmirror_stats {
	__u32	version;
	__u32	chunks;
	__u64	pages_total;
	__u64	pages_used;
	__u64	pages_mine;
	__u64	to_device;
	__u64	to_system;
	__u64	faulted;
	__u64	evicted;
	__u64	split_refused;
	__u64	retries;
	__u64	stuck;
	__u64	ledger_checks;
	__u64	ledger_mismatches;
	__u64	reserved[4];
};

/* What is copied, by the kernel's own routines. */
#define RUST_DMIRROR_COPY_PAGES		1	/* memory of a device to other such memory, copy_page() */
#define RUST_DMIRROR_COPY_TO_USER	2	/* kernel memory to @ptr */
#define RUST_DMIRROR_COPY_FROM_USER	3	/* @ptr to kernel memory */

/* With one of those: address translations are forgotten before the clock starts. */
#define RUST_DMIRROR_COPY_COLD		0x100

/* The most pages of one call. */
#define RUST_DMIRROR_COPY_MOST		512

/**
 * struct rust_dmirror_copy - how long it takes to copy pages, and nothing else
 * @version: (in) RUST_DMIRROR_ABI_VERSION
 * @kind: (in) RUST_DMIRROR_COPY_*, one of the first three, or that and COLD
 * @ptr: (in) user memory; 0 for RUST_DMIRROR_COPY_PAGES
 * @npages: (in) pages to copy, 1 to RUST_DMIRROR_COPY_MOST
 * @ns: (out) time of the copy alone, at least 1
 * @reserved: zero
 *
 * For benchmarks: what no migration and no device access can be faster than; a
 * migration, which unmaps what it copies, begins like one that is COLD.
 * Migrates nothing and reads no mapping. What RUST_DMIRROR_COPY_TO_USER writes
 * are zeroes.
 */
struct rust_dmirror_copy {
	__u32	version;
	__u32	kind;
	__u64	ptr;
	__u64	npages;
	__u64	ns;
	__u64	reserved[4];
};

#define RUST_DMIRROR_MIGRATE	_IOWR('H', 0x40, struct rust_dmirror_migrate)
#define RUST_DMIRROR_INJECT	_IOWR('H', 0x41, struct rust_dmirror_inject)
#define RUST_DMIRROR_PAGE	_IOWR('H', 0x42, struct rust_dmirror_page)
#define RUST_DMIRROR_STATS	_IOWR('H', 0x43, struct rust_dmirror_stats)
#define RUST_DMIRROR_COPY	_IOWR('H', 0x44, struct rust_dmirror_copy)
#define RUST_DMIRROR_PAUSE	_IOWR('H', 0x45, struct rust_dmirror_pause)

#endif /* _UAPI_RUST_DMIRROR_H */
