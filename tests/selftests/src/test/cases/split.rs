// SPDX-License-Identifier: GPL-2.0

//! No huge destination: the folio is split while it migrates.

use std::thread;

use anyhow::{Context, Result};
use nix::sys::{
    mman::ProtFlags,
    resource::{getrusage, UsageWho},
};

use crate::{
    abi::{self, Point},
    area::{Area, HUGE},
    check_eq,
    core_splits::{CoreSplits, Splits, BOTH},
    proc,
    test::{
        case::{Case, Ctx, OnC, NEW_ABI},
        check::{all_at, order, pages_at, Place, Rss},
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "split.flag_to_device",
        "FAIL_ALLOC of the old ABI splits on the way to the device",
        OnC::Passes,
        flag_to_device,
    ),
    Case::new(
        "split.flag_to_system",
        "FAIL_ALLOC of the old ABI splits on the way back",
        OnC::Passes,
        flag_to_system,
    ),
    Case::new(
        "split.to_device",
        "a missing huge destination on the device: split, counted, order 0",
        NEW_ABI,
        to_device,
    ),
    Case::new(
        "split.to_system",
        "a missing huge page of system memory: split, counted, order 0",
        NEW_ABI,
        to_system,
    ),
    Case::new(
        "split.fault",
        "a missing huge page during a CPU fault: the fault still ends, data intact",
        NEW_ABI,
        fault,
    )
    .races(),
    Case::new(
        "split.fault_on_part",
        "a CPU fault on a huge page that is mapped by PTEs: split by the fault, or by a worker",
        NEW_ABI,
        fault_on_part,
    )
    .races(),
    Case::new(
        "split.fault_on_many_parts",
        "the same of more huge pages at once than the worker has places for: it splits all of them",
        NEW_ABI,
        fault_on_many_parts,
    )
    .races(),
    Case::new(
        "split.some_of_many",
        "two of four huge pages split, the others whole",
        NEW_ABI,
        some_of_many,
    ),
    Case::new(
        "split.reallocated",
        "device folios come back clean at another order: 9, 512 times 0, 9",
        NEW_ABI,
        reallocated,
    ),
    Case::new(
        "split.fault_by_page",
        "a split page on the device comes back page by page where it is touched",
        OnC::Passes,
        fault_by_page,
    ),
];

const ALL: u64 = HUGE as u64;

fn flag_to_device(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 10)?;
    ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
    let data = ctx
        .dev
        .read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)
        .context("MIGRATE_TO_DEV")?;
    crate::area::verify_bytes(10, 0, &data)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceSmall)?;
    area.verify(10)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemSmall)
}

fn flag_to_system(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 11)?;
    ctx.to_device(&area, 11)?;
    ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
    let cmd = ctx
        .dev
        .command(abi::MIGRATE_TO_SYS, area.addr(), 0, ALL)
        .context("MIGRATE_TO_SYS")?;
    check_eq!(cmd.cpages, ALL, "pages migrated");
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemSmall)?;
    area.verify(11)
}

fn to_device(ctx: &Ctx) -> Result<()> {
    for splits in BOTH {
        println!("{splits:?}:");
        let _splits = CoreSplits::set(splits)?;
        let area = Area::filled(1, 12)?;
        let rss = Rss::now()?;
        let before = ctx.dev.inject(Point::HugeAlloc, 0, 1)?;
        let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
        check_eq!(result.split, ALL, "migrated split");
        check_eq!(result.retries, 0, "retries");
        let hits = ctx.dev.inject(Point::HugeAlloc, 0, 0)? - before;
        check_eq!(hits, 1, "hits");
        all_at(&ctx.dev, ctx.driver, &area, Place::DeviceSmall)?;
        for page in [0, 1, HUGE - 1] {
            check_eq!(order(&ctx.dev, &area, page)?, 0, "order of page {page}");
        }
        rss.unchanged(area.size())?;
        let result = ctx.to_system(&area)?.context("no counts")?;
        check_eq!(result.small, ALL, "migrated back small");
        area.verify(12)?;
        rss.unchanged(area.size())?;
    }
    Ok(())
}

fn to_system(ctx: &Ctx) -> Result<()> {
    for splits in BOTH {
        println!("{splits:?}:");
        let _splits = CoreSplits::set(splits)?;
        let area = Area::filled(1, 13)?;
        let rss = Rss::now()?;
        ctx.to_device(&area, 13)?;
        ctx.dev.inject(Point::HugeAlloc, 0, 1)?;
        let result = ctx.migrate_all(abi::TO_SYSTEM, &area)?;
        check_eq!(result.split, ALL, "migrated back split");
        all_at(&ctx.dev, ctx.driver, &area, Place::SystemSmall)?;
        for page in [0, 1, HUGE - 1] {
            check_eq!(order(&ctx.dev, &area, page)?, 0, "order of page {page}");
        }
        area.verify(13)?;
        rss.unchanged(area.size())?;
    }
    Ok(())
}

fn fault(ctx: &Ctx) -> Result<()> {
    for (splits, times, page) in [
        (Splits::WhileMigrating, 1, 17),
        (Splits::WhileMigrating, 1000, 17),
        (Splits::Before, 1, 17),
        (Splits::Before, 1000, 17),
        (Splits::Before, 1000, HUGE - 1),
    ] {
        println!("{splits:?}, {times} times, page {page}:");
        let _splits = CoreSplits::set(splits)?;
        let area = Area::filled(1, 14)?;
        ctx.to_device(&area, 14)?;
        let by_worker = CoreSplits::by_worker()?;
        ctx.dev.inject(Point::HugeAlloc, 0, times)?;
        area.word(page, 0);
        pages_at_system(&area, page)?;
        if splits == Splits::WhileMigrating {
            let by_worker = CoreSplits::by_worker()? - by_worker;
            check_eq!(by_worker, 0, "folios split by the worker");
        } else if times > 1 {
            // The worker collects some pages from there on, and counts the split if it gets one. The last page is
            // the only one, and the fault may have it first.
            if page < HUGE - 1 {
                CoreSplits::wait_for_worker(by_worker + 1)?;
            }
            // Small folios, each touched by itself.
            check_eq!(order(&ctx.dev, &area, 40)?, 0, "order of a page that stays");
        }
        area.verify(14)?;
        pages_at_system(&area, HUGE - 1)?;
        ctx.dev.inject(Point::HugeAlloc, 0, 0)?;
        // Whatever became of the mapping, the next round starts with a huge page.
        area.collapse()?;
    }
    Ok(())
}

/// Faults that this thread took until now, without those that the kernel took again by itself.
fn faults() -> Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_THREAD)?.minor_page_faults())
}

/// A huge page on the device of which only a half may be written is mapped by PTEs. A kernel without the fixes is
/// not asked to split it inside a fault (K19).
fn fault_on_part(ctx: &Ctx) -> Result<()> {
    for splits in BOTH {
        println!("{splits:?}:");
        let _splits = CoreSplits::set(splits)?;
        let area = Area::filled(1, 22)?;
        ctx.to_device(&area, 22)?;
        area.protect_pages(0, HUGE / 2, ProtFlags::PROT_READ)?;
        check_eq!(order(&ctx.dev, &area, 3)?, 9, "order before the fault");
        let by_worker = CoreSplits::by_worker()?;
        let faults = faults()?;
        area.word(HUGE / 2 + 3, 0);
        let faults = self::faults()? - faults;
        println!("{faults} faults");
        // Without patch 0016, the page that the fault has locked is left out after the split.
        if splits == Splits::WhileMigrating && proc::is_mended() {
            check_eq!(faults, 1, "faults for one page");
        }
        CoreSplits::wait_for_worker(by_worker + u64::from(splits == Splits::Before))?;
        check_eq!(order(&ctx.dev, &area, 3)?, 0, "order after it");
        area.verify(22)?;
    }
    Ok(())
}

/// None of them may be split inside a fault instead.
fn fault_on_many_parts(ctx: &Ctx) -> Result<()> {
    const MANY: usize = 24;
    const THREADS: usize = 20;
    let _splits = CoreSplits::set(Splits::Before)?;
    let area = Area::filled(MANY, 24)?;
    ctx.to_device(&area, 24)?;
    for huge in 0..MANY {
        area.protect_pages(huge * HUGE, HUGE / 2, ProtFlags::PROT_READ)?;
    }
    let by_worker = CoreSplits::by_worker()?;
    thread::scope(|scope| {
        for first in 0..THREADS {
            let area = &area;
            scope.spawn(move || {
                for huge in (first..MANY).step_by(THREADS) {
                    area.word(huge * HUGE + HUGE / 2 + 3, 0);
                }
            });
        }
    });
    CoreSplits::wait_for_worker(by_worker + MANY as u64)?;
    for huge in 0..MANY {
        check_eq!(order(&ctx.dev, &area, huge * HUGE + 3)?, 0, "order");
    }
    area.verify(24)
}

fn pages_at_system(area: &Area, page: usize) -> Result<()> {
    let entry = crate::proc::pagemap::of(area.page(page), 1)?[0];
    check_eq!(entry.present(), true, "page {page} present after its fault");
    Ok(())
}

fn some_of_many(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(4, 15)?;
    ctx.dev.inject(Point::HugeAlloc, 1, 2)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(
        (result.whole, result.split),
        (2 * ALL, 2 * ALL),
        "whole and split"
    );
    let (dev, driver) = (&ctx.dev, ctx.driver);
    pages_at(dev, driver, &area, 0, HUGE, Place::DeviceHuge)?;
    pages_at(dev, driver, &area, HUGE, 2 * HUGE, Place::DeviceSmall)?;
    pages_at(dev, driver, &area, 3 * HUGE, HUGE, Place::DeviceHuge)?;
    let result = ctx.to_system(&area)?.context("no counts")?;
    check_eq!(
        (result.whole, result.small),
        (2 * ALL, 2 * ALL),
        "whole and small back"
    );
    area.verify(15)
}

fn reallocated(ctx: &Ctx) -> Result<()> {
    for (round, small) in [(0, false), (1, true), (2, false), (3, true), (4, false)] {
        let seed = 16 + round;
        let area = Area::filled(1, seed)?;
        ctx.dev.inject(Point::HugeAlloc, 0, u64::from(small))?;
        ctx.to_device(&area, seed)?;
        let place = if small {
            Place::DeviceSmall
        } else {
            Place::DeviceHuge
        };
        all_at(&ctx.dev, ctx.driver, &area, place)?;
        if round < 2 {
            area.verify(seed)?;
        }
    }
    Ok(())
}

fn fault_by_page(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 21)?;
    ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
    ctx.to_device(&area, 21)?;
    // Who reads on is helped by more pages than asked for; who reads backwards is not.
    for page in (40..50).rev() {
        area.verify_pages(21, page, 1)?;
    }
    let (dev, driver) = (&ctx.dev, ctx.driver);
    pages_at(dev, driver, &area, 0, 40, Place::DeviceSmall)?;
    pages_at(dev, driver, &area, 40, 10, Place::SystemSmall)?;
    pages_at(dev, driver, &area, 50, HUGE - 50, Place::DeviceSmall)?;
    area.verify(21)
}
