// SPDX-License-Identifier: GPL-2.0

//! Fault-around: pages that come back with the one that faulted. Their number grows while a process reads sequentially,
//! and no pages come back without that.

use std::{ops::Range, thread};

use anyhow::{anyhow, Context, Result};

use crate::{
    abi::{self, Point},
    area::{Area, HUGE},
    check_eq,
    test::{
        case::{Case, Ctx, NEW_ABI},
        check::{order, pages_at, Place},
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "around.reads_on",
        "each touch where the last one ended brings twice as many pages, any other one",
        NEW_ABI,
        reads_on,
    ),
    Case::new(
        "around.ends",
        "it ends at a page that is not on the device, at the end of the mapping, at a huge boundary",
        NEW_ABI,
        ends,
    ),
    Case::new(
        "around.side_by_side",
        "threads that read on in the same pages get them right, and bring them all back",
        NEW_ABI,
        side_by_side,
    )
    .races(),
    Case::new(
        "around.parts_of_huge_pages",
        "a page of a huge folio is not brought along, which would split the folio",
        NEW_ABI,
        parts_of_huge_pages,
    ),
    Case::new(
        "around.split_pages",
        "what was a huge page is brought along like any other pages of its owner",
        NEW_ABI,
        split_pages,
    ),
    Case::new(
        "around.into_huge_pages",
        "reading on from single pages into a huge one brings it back whole",
        NEW_ABI,
        into_huge_pages,
    ),
];

/// Accesses a page, and checks that those of `back` are in system memory, and the page behind them is not.
fn touch(ctx: &Ctx, area: &Area, seed: u64, page: usize, back: Range<usize>) -> Result<()> {
    area.verify_pages(seed, page, 1)?;
    let (dev, driver) = (&ctx.dev, ctx.driver);
    let what = || format!("after page {page} was touched");
    pages_at(
        dev,
        driver,
        area,
        back.start,
        back.len(),
        Place::SystemSmall,
    )
    .with_context(what)?;
    if back.end < area.npages() {
        pages_at(dev, driver, area, back.end, 1, Place::DeviceSmall).with_context(what)?;
    }
    Ok(())
}

fn reads_on(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(HUGE, 31)?;
    ctx.to_device(&area, 31)?;
    touch(ctx, &area, 31, 100, 100..101)?;
    touch(ctx, &area, 31, 101, 100..103)?;
    touch(ctx, &area, 31, 103, 100..107)?;
    touch(ctx, &area, 31, 107, 100..115)?;
    // Elsewhere, and backwards.
    touch(ctx, &area, 31, 300, 300..301)?;
    touch(ctx, &area, 31, 299, 299..301)?;
    touch(ctx, &area, 31, 200, 200..201)?;
    area.verify(31)
}

fn ends(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(2 * HUGE, 32)?;
    ctx.to_device(&area, 32)?;
    touch(ctx, &area, 32, 105, 105..106)?;
    touch(ctx, &area, 32, 100, 100..101)?;
    touch(ctx, &area, 32, 101, 100..103)?;
    // Four would be the pace; the third of them is back already.
    touch(ctx, &area, 32, 103, 100..106)?;
    let last = area.npages() - 1;
    touch(ctx, &area, 32, last - 1, last - 1..last)?;
    touch(ctx, &area, 32, last, last - 1..last + 1)?;
    // Areas begin at a huge boundary; three pages before the next one, and two at a time.
    touch(ctx, &area, 32, HUGE - 2, HUGE - 2..HUGE - 1)?;
    touch(ctx, &area, 32, HUGE - 1, HUGE - 2..HUGE)?;
    area.verify(32)
}

fn side_by_side(ctx: &Ctx) -> Result<()> {
    const THREADS: usize = 4;
    let before = ctx.dev.stats()?;
    for round in 0..4 {
        let seed = 40 + round;
        let area = Area::filled_small(2 * HUGE, seed)?;
        ctx.to_device(&area, seed)?;
        let seen = thread::scope(|scope| {
            let readers = [(); THREADS].map(|()| scope.spawn(|| area.verify(seed)));
            readers.map(|reader| {
                reader
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a reader died")))
            })
        });
        seen.into_iter().collect::<Result<()>>()?;
        pages_at(
            &ctx.dev,
            ctx.driver,
            &area,
            0,
            area.npages(),
            Place::SystemSmall,
        )?;
    }
    let after = ctx.dev.stats()?;
    check_eq!(
        after.faulted - before.faulted,
        4 * 2 * HUGE as u64,
        "pages brought back by faults"
    );
    Ok(())
}

/// To bring back a page of a huge folio that is mapped by PTEs, the collector splits the folio. Only an access to
/// such a page may cause that, not fault-around.
fn parts_of_huge_pages(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 50)?;
    ctx.to_device(&area, 50)?;
    // Two pages in the midst of it are replaced by single ones, which go to the device, too.
    area.discard(4, 2)?;
    area.fill_pages(51, 4, 2);
    ctx.go(abi::TO_DEVICE, area.page(4), 2)?;
    check_eq!(
        order(&ctx.dev, &area, 4)?,
        0,
        "order of a page that replaced one"
    );
    check_eq!(order(&ctx.dev, &area, 6)?, 9, "order of what is left");
    // At the second of them, two pages would be the pace.
    area.verify_pages(51, 4, 2)?;
    check_eq!(order(&ctx.dev, &area, 6)?, 9, "order of what is left then");
    area.verify_pages(50, 6, 1)?;
    check_eq!(order(&ctx.dev, &area, 7)?, 0, "order of the page behind");
    area.verify_pages(50, 0, 4)?;
    area.verify_pages(50, 6, HUGE - 6)
}

/// A stream of faults on single pages reaches a huge page, which must come back whole and not be split.
fn into_huge_pages(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(2, 53)?;
    ctx.dev.inject(Point::HugeAlloc, 0, 1)?;
    ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(order(&ctx.dev, &area, 0)?, 0, "order of the first page");
    check_eq!(
        order(&ctx.dev, &area, HUGE)?,
        9,
        "order of the second huge page"
    );
    let before = ctx.dev.stats()?;
    area.verify_pages(53, 0, HUGE)?;
    area.verify_pages(53, HUGE, 1)?;
    check_eq!(order(&ctx.dev, &area, HUGE)?, 9, "order after the touch");
    let after = ctx.dev.stats()?;
    check_eq!(
        after.faulted - before.faulted,
        2 * HUGE as u64,
        "pages that came"
    );
    check_eq!(after.retries, before.retries, "retries");
    area.verify(53)
}

/// After the split of a huge folio, each page must have the owner that its head had.
fn split_pages(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 52)?;
    ctx.to_device(&area, 52)?;
    ctx.dev.inject(Point::HugeAlloc, 0, 1)?;
    touch(ctx, &area, 52, 100, 100..101)?;
    check_eq!(order(&ctx.dev, &area, 101)?, 0, "order of the page behind");
    touch(ctx, &area, 52, 101, 100..103)?;
    touch(ctx, &area, 52, 103, 100..107)?;
    touch(ctx, &area, 52, 107, 100..115)?;
    area.verify(52)
}
