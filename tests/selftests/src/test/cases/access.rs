// SPDX-License-Identifier: GPL-2.0

//! What the device's own accesses leave behind for others: the kernel, and the next access.

use anyhow::{ensure, Context, Result};
use nix::sys::mman::MmapAdvise;

use crate::{
    abi,
    area::{pattern_bytes, Area},
    check_eq, proc,
    test::{
        case::{Case, Ctx, OnC},
        shown::Shown,
    },
};

/// T25, which is not in the list of defects yet: nobody marks what the device writes to.
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
];

/// The device writes one of two areas after the process said that the kernel may drop what is in them,
/// with or without a trip to the device; then the kernel is asked to.
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

/// Many more pages than are copied at one go, each of which finds nothing at hand: that must not add
/// up. When it did, and a go was of 64 pages, this many got EBUSY; of huge pages it would take 51200,
/// which is more than a case may ask for.
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
