// SPDX-License-Identifier: GPL-2.0

//! The effects of device accesses that the kernel and later accesses depend on.

use anyhow::{ensure, Context, Result};
use nix::{errno::Errno, sys::mman::MmapAdvise};

use crate::{
    abi,
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    proc::{self, pagemap},
    test::{
        case::{Case, Ctx, OnC, NEW_ABI},
        shown::Shown,
    },
};

/// T25: the C driver does not mark pages dirty that the device has written.
const NOT_DIRTY: OnC = OnC::Shows(Shown::fails(&["what the device wrote is lost"]));

pub const CASES: &[Case] = &[
    Case::new(
        "access.write_after_madv_free",
        "T25: what the device writes to pages that may be dropped is not dropped",
        NOT_DIRTY,
        |ctx| write_after_madv_free(ctx, |seed| Area::filled_small(16, seed), false),
    ),
    Case::new(
        "access.write_after_madv_free_huge",
        "T25: the same with a huge page",
        NOT_DIRTY,
        |ctx| write_after_madv_free(ctx, |seed| Area::filled(1, seed), false),
    ),
    Case::new(
        "access.write_away_after_madv_free",
        "T25: pages that may be dropped are written on the device and come home",
        NOT_DIRTY,
        |ctx| write_after_madv_free(ctx, |seed| Area::filled_small(16, seed), true),
    ),
    Case::new(
        "access.write_away_after_madv_free_huge",
        "T25: the same with a huge page",
        NOT_DIRTY,
        |ctx| write_after_madv_free(ctx, |seed| Area::filled(1, seed), true),
    ),
    Case::new(
        "access.exclusive_to_new_memory",
        "EXCLUSIVE of 6600 pages, whose data go to memory that is not there yet",
        OnC::Passes,
        exclusive_to_new_memory,
    ),
    Case::new(
        "access.counted",
        "READ says how many pages it has read, and how often the device had to ask for them",
        NEW_ABI,
        counted,
    ),
    Case::new(
        "access.exclusive_beside_reads",
        "a page that becomes exclusive while the device reads around it is known to be so",
        OnC::Skip("its table is filled by whoever is last"),
        exclusive_beside_reads,
    )
    .races(),
    Case::new(
        "access.snapshot",
        "SNAPSHOT tells pages of the zero page from others, and how many it tells of",
        OnC::Skip("hmm-tests asks it"),
        snapshot,
    ),
];

/// The device writes one of two areas after `MADV_FREE`, with or without a migration to the device. Then the kernel is
/// made to reclaim.
fn write_after_madv_free(ctx: &Ctx, filled: fn(u64) -> Result<Area>, is_away: bool) -> Result<()> {
    let (written, other) = (filled(400)?, filled(401)?);
    // PG_swapbacked of a device page outlives its user, and goes home with the next one, which may not
    // be dropped then. New device memory has it nowhere.
    ctx.dev
        .command(abi::RELEASE, written.addr(), 0, 1)
        .context("RELEASE")?;
    // Pages that are not on the LRU yet are not dropped, nor are those on their way from list to list.
    proc::drain_lru();
    for area in [&written, &other] {
        area.advise(MmapAdvise::MADV_FREE)?;
    }
    proc::drain_lru();
    if is_away {
        ctx.to_device(&written, 400)?;
        ctx.to_device(&other, 401)?;
    }
    ctx.dev
        .write(written.addr(), &pattern_bytes(402, 0, written.npages()))
        .context("WRITE")?;
    if is_away {
        ctx.to_system(&written)?;
        ctx.to_system(&other)?;
        proc::drain_lru();
    }
    for area in [&written, &other] {
        area.advise(MmapAdvise::MADV_PAGEOUT)?;
    }
    let dropped = (0..other.npages()).filter(|&page| other.word(page, 0) == 0);
    check_eq!(dropped.count(), other.npages(), "pages that were dropped");
    ensure!(written.verify(402).is_ok(), "what the device wrote is lost");
    Ok(())
}

/// Many more pages than are copied in one step, so that many steps have to fault user memory in. These steps must not
/// add up to EBUSY. They once did with this number of pages, when a step copied 64. With steps of a huge page it would
/// take 51200 pages, which is more than a case may use.
fn exclusive_to_new_memory(ctx: &Ctx) -> Result<()> {
    const PAGES: usize = 6600;
    let area = Area::filled_small(PAGES, 403)?;
    let data = Area::small(PAGES)?;
    let cmd = ctx
        .dev
        .command(abi::EXCLUSIVE, area.addr(), data.addr(), PAGES as u64)
        .context("EXCLUSIVE")?;
    check_eq!(cmd.cpages, PAGES as u64, "pages that were copied");
    data.verify(403)?;
    area.verify(403)
}

/// The device's reads fill its table while a page is made exclusive. They may end the exclusive access, but then the
/// page table of the process must agree.
fn exclusive_beside_reads(ctx: &Ctx) -> Result<()> {
    const ROUNDS: usize = 600;
    let area = Area::filled_small(HUGE, 404)?;
    let barrier = std::sync::Barrier::new(2);
    let mut exclusive = 0;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Fails at the end only, or the other one would wait for ever.
            let mut bad = Ok(());
            for _ in 0..ROUNDS {
                barrier.wait();
                let data = ctx.dev.read(area.addr(), HUGE).context("READ");
                barrier.wait();
                if bad.is_ok() {
                    bad = data.and_then(|data| verify_bytes(404, 0, &data));
                }
            }
            bad
        });
        let mut bad = Ok(());
        for round in 0..ROUNDS {
            let page = round % 8;
            // A CPU access ends it, and invalidates the device's entry.
            area.set_word(page, 0, area.word(page, 0));
            barrier.wait();
            // Sooner or later.
            (0..round % 64 * 50).for_each(|_| std::hint::spin_loop());
            let made = ctx.dev.read_by(abi::EXCLUSIVE, area.page(page), 1);
            barrier.wait();
            if bad.is_ok() {
                bad = made.map(drop).context("EXCLUSIVE").and_then(|()| {
                    exclusive += usize::from(knows_exclusive(ctx, &area, page)?);
                    Ok(())
                });
            }
        }
        bad.and(reader.join().expect("the reader"))
    })?;
    println!("exclusive in {exclusive} of {ROUNDS} rounds");
    ensure!(exclusive > 0, "never exclusive");
    area.verify(404)
}

/// Whether a page is exclusive, as the device knows it and as the page table has it, before and after a
/// device read, which needs no fault.
fn knows_exclusive(ctx: &Ctx, area: &Area, page: usize) -> Result<bool> {
    let check = ctx
        .dev
        .command(abi::CHECK_EXCLUSIVE, area.page(page), 0, 1)
        .err();
    let is_exclusive = pagemap::of(area.page(page), 1)?[0].swap();
    check_eq!(
        check == Some(Errno::EPERM),
        is_exclusive,
        "the device knows that a page is exclusive"
    );
    ctx.dev.read(area.addr(), HUGE).context("READ")?;
    let is_still = pagemap::of(area.page(page), 1)?[0].swap();
    check_eq!(is_still, is_exclusive, "exclusive after a device read");
    Ok(is_exclusive)
}

fn counted(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 229)?;
    let mut data = vec![0; area.size()];
    let ptr = data.as_mut_ptr() as usize;
    for is_known in [false, true] {
        let cmd = ctx.dev.command(abi::READ, area.addr(), ptr, HUGE as u64)?;
        check_eq!(cmd.cpages, HUGE as u64, "pages read");
        check_eq!(cmd.faults == 0, is_known, "whether {} is none", cmd.faults);
        check_eq!(cmd.addr as usize, area.addr(), "the address");
    }
    verify_bytes(229, 0, &data)
}

fn snapshot(ctx: &Ctx) -> Result<()> {
    let area = Area::small(2)?;
    area.word(0, 0);
    area.set_word(1, 0, 1);
    let mut bytes = [abi::PROT_ERROR; 2];
    let ptr = bytes.as_mut_ptr() as usize;
    let cmd = ctx.dev.command(abi::SNAPSHOT, area.addr(), ptr, 2)?;
    check_eq!((cmd.cpages, cmd.faults), (2, 0), "pages, and faults");
    check_eq!(
        bytes[0] & abi::PROT_KIND,
        abi::PROT_ZERO,
        "a page that was read"
    );
    check_eq!(bytes[1] & abi::PROT_KIND, 0, "a page that was written");
    Ok(())
}
