// SPDX-License-Identifier: GPL-2.0

//! Pages that are refused: by a refused split, no memory, a failed copy, a locked folio. Each time the data must be
//! right, the reference counts unchanged, and the answer must say what happened.

use anyhow::{ensure, Context, Result};

use crate::{
    abi::{self, Point},
    area::{Area, HUGE},
    check_eq,
    core_splits::{CoreSplits, Splits, BOTH},
    device::Device,
    test::{
        case::{Case, Ctx, NEW_ABI},
        check::{all_at, pages_at, Place, Rss},
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "refused.split_to_device",
        "the split is refused until the driver gives up: the page stays in system memory",
        NEW_ABI,
        |ctx| split(ctx, abi::TO_DEVICE),
    ),
    Case::new(
        "refused.split_to_system",
        "the split is refused on the way back: the page stays on the device",
        NEW_ABI,
        |ctx| split(ctx, abi::TO_SYSTEM),
    ),
    Case::new(
        "refused.retry_to_device",
        "refused once, then it goes",
        NEW_ABI,
        |ctx| retry(ctx, abi::TO_DEVICE),
    ),
    Case::new(
        "refused.retry_to_system",
        "refused once on the way back, then it goes",
        NEW_ABI,
        |ctx| retry(ctx, abi::TO_SYSTEM),
    ),
    Case::new(
        "refused.small_alloc_in_split",
        "the n-th small page cannot be had during a split: those before it move",
        NEW_ABI,
        small_alloc_in_split,
    ),
    Case::new(
        "refused.small_alloc",
        "the n-th small page cannot be had, both directions",
        NEW_ABI,
        small_alloc,
    ),
    Case::new(
        "refused.copy",
        "the copy fails, both directions",
        NEW_ABI,
        |ctx| stays(ctx, Point::Copy, abi::REFUSED_COPY),
    ),
    Case::new(
        "refused.reference_held",
        "somebody holds a reference while a whole huge page migrates, both directions",
        NEW_ABI,
        |ctx| stays(ctx, Point::ExtraRef, abi::REFUSED_CORE),
    ),
    Case::new(
        "refused.folio_lock",
        "somebody holds the folio's lock, both directions",
        NEW_ABI,
        |ctx| stays(ctx, Point::FolioLock, abi::REFUSED_COLLECT),
    ),
    Case::new(
        "refused.one_of_two",
        "one folio's copy fails, the other one moves",
        NEW_ABI,
        one_of_two,
    ),
    Case::new(
        "refused.fault_recovers",
        "a CPU fault that is refused a few times ends with the data",
        NEW_ABI,
        fault_recovers,
    ),
    Case::new(
        "refused.other_file",
        "what one open file injects does not concern another one",
        NEW_ABI,
        other_file,
    ),
];

const ALL: u64 = HUGE as u64;
/// More than all of the driver's retries.
const ALWAYS: u64 = 100_000;

fn clear(ctx: &Ctx) -> Result<()> {
    ctx.dev
        .inject(Point::All, 0, 0)
        .context("clearing all injection points")
        .map(drop)
}

fn refuse_split(ctx: &Ctx, times: u64) -> Result<()> {
    ctx.dev.inject(Point::HugeAlloc, 0, times)?;
    ctx.dev.inject(Point::ExtraRef, 0, times)?;
    Ok(())
}

/// Both ways to split. A refused split during the migration has already split the mapping, so the pages are mapped
/// by PTEs afterwards. The collector leaves the mapping whole.
fn split(ctx: &Ctx, direction: u32) -> Result<()> {
    for splits in BOTH {
        println!("{splits:?}:");
        let _splits = CoreSplits::set(splits)?;
        let area = Area::filled(1, 30)?;
        let rss = Rss::now()?;
        if direction == abi::TO_SYSTEM {
            ctx.to_device(&area, 30)?;
        }
        let before = ctx.dev.stats()?;
        refuse_split(ctx, ALWAYS)?;
        let result = ctx.migrate_all(direction, &area)?;
        check_eq!(result.split_refused, ALL, "pages of refused splits");
        check_eq!(result.moved(), 0, "pages moved");
        ensure!(result.retries >= 1, "it was not tried again");
        let after = ctx.dev.stats()?;
        ensure!(
            after.split_refused > before.split_refused,
            "not in the counters"
        );
        check_eq!(after.pages_used, before.pages_used, "device pages in use");
        clear(ctx)?;
        let place = match (direction, splits) {
            (abi::TO_DEVICE, Splits::WhileMigrating) => Place::SystemSmall,
            (abi::TO_DEVICE, Splits::Before) => Place::SystemHuge,
            (_, Splits::WhileMigrating) => Place::DeviceSmall,
            (_, Splits::Before) => Place::DeviceHuge,
        };
        all_at(&ctx.dev, ctx.driver, &area, place)?;
        rss.unchanged(area.size())?;
        area.verify(30)?;
        // Nobody holds the reference any more: now it goes.
        ctx.to_device(&area, 30)?;
        area.verify(30)?;
    }
    Ok(())
}

fn retry(ctx: &Ctx, direction: u32) -> Result<()> {
    for splits in BOTH {
        println!("{splits:?}:");
        let _splits = CoreSplits::set(splits)?;
        let area = Area::filled(1, 32)?;
        if direction == abi::TO_SYSTEM {
            ctx.to_device(&area, 32)?;
        }
        ctx.dev.inject(Point::HugeAlloc, 0, 1)?;
        // The first attempt finds no huge page; the one that splits before is the second.
        let attempts = match splits {
            Splits::WhileMigrating => 1,
            Splits::Before => 2,
        };
        ctx.dev.inject(Point::ExtraRef, 0, attempts)?;
        let result = ctx.migrate_all(direction, &area)?;
        ensure!(result.retries >= 1, "it was not tried again");
        check_eq!(result.split, ALL, "pages migrated out of a split folio");
        let place = match direction {
            abi::TO_DEVICE => Place::DeviceSmall,
            _ => Place::SystemSmall,
        };
        all_at(&ctx.dev, ctx.driver, &area, place)?;
        area.verify(32)?;
    }
    Ok(())
}

fn small_alloc_in_split(ctx: &Ctx) -> Result<()> {
    for n in [0, 1, 100, HUGE - 1] {
        for direction in [abi::TO_DEVICE, abi::TO_SYSTEM] {
            println!("direction {direction}, page {n}:");
            let area = Area::filled(1, 33)?;
            if direction == abi::TO_SYSTEM {
                ctx.to_device(&area, 33)?;
            }
            ctx.dev.inject(Point::HugeAlloc, 0, ALWAYS)?;
            ctx.dev.inject(Point::SmallAlloc, n as u64, ALWAYS)?;
            let result = ctx.migrate_all(direction, &area)?;
            clear(ctx)?;
            check_eq!(result.moved(), n as u64, "pages moved");
            check_eq!(
                result.refused[abi::REFUSED_NO_MEMORY],
                ALL - n as u64,
                "pages without memory"
            );
            let (before, after) = match direction {
                abi::TO_DEVICE => (Place::DeviceSmall, Place::SystemSmall),
                _ => (Place::SystemSmall, Place::DeviceSmall),
            };
            if n > 0 {
                pages_at(&ctx.dev, ctx.driver, &area, 0, n, before)?;
                pages_at(&ctx.dev, ctx.driver, &area, n, HUGE - n, after)?;
            }
            area.verify(33)?;
        }
    }
    Ok(())
}

fn small_alloc(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(64, 34)?;
    ctx.dev.inject(Point::SmallAlloc, 10, ALWAYS)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.small, 10, "pages moved");
    check_eq!(result.refused[abi::REFUSED_NO_MEMORY], 54, "without memory");
    clear(ctx)?;
    pages_at(&ctx.dev, ctx.driver, &area, 0, 10, Place::DeviceSmall)?;
    pages_at(&ctx.dev, ctx.driver, &area, 10, 54, Place::SystemSmall)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.small, 54, "the rest");
    ctx.dev.inject(Point::SmallAlloc, 20, ALWAYS)?;
    let result = ctx.migrate_all(abi::TO_SYSTEM, &area)?;
    check_eq!(result.small, 20, "pages moved back");
    clear(ctx)?;
    pages_at(&ctx.dev, ctx.driver, &area, 0, 20, Place::SystemSmall)?;
    pages_at(&ctx.dev, ctx.driver, &area, 20, 44, Place::DeviceSmall)?;
    area.verify(34)
}

/// While the point is armed, migrations in both directions are refused, and nothing changes.
fn stays(ctx: &Ctx, point: Point, reason: usize) -> Result<()> {
    let area = Area::filled(1, 35)?;
    let rss = Rss::now()?;
    for (direction, place) in [
        (abi::TO_DEVICE, Place::SystemHuge),
        (abi::TO_SYSTEM, Place::DeviceHuge),
    ] {
        ctx.dev.inject(point, 0, ALWAYS)?;
        let result = ctx.migrate_all(direction, &area)?;
        check_eq!(result.refused[reason], ALL, "refused for this reason");
        ensure!(ctx.dev.inject(point, 0, 0)? >= 1, "the point was not hit");
        all_at(&ctx.dev, ctx.driver, &area, place)?;
        rss.unchanged(area.size())?;
        if direction == abi::TO_DEVICE {
            area.verify(35)?;
            ctx.to_device(&area, 35)?;
        }
    }
    area.verify(35)
}

fn one_of_two(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(2, 36)?;
    ctx.dev.inject(Point::Copy, 0, 1)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.refused[abi::REFUSED_COPY], ALL, "refused");
    check_eq!(result.whole, ALL, "migrated whole");
    pages_at(&ctx.dev, ctx.driver, &area, 0, HUGE, Place::SystemHuge)?;
    pages_at(&ctx.dev, ctx.driver, &area, HUGE, HUGE, Place::DeviceHuge)?;
    area.verify(36)
}

/// The core holds the folio's lock in a fault, so nobody else can.
fn fault_recovers(ctx: &Ctx) -> Result<()> {
    for points in [&[Point::ExtraRef][..], &[Point::ExtraRef, Point::HugeAlloc]] {
        println!("{points:?}:");
        let area = Area::filled(1, 37)?;
        ctx.to_device(&area, 37)?;
        let mut before = Vec::new();
        for &point in points {
            before.push(ctx.dev.inject(point, 0, 3)?);
        }
        area.verify(37)?;
        for (&point, before) in points.iter().zip(before) {
            let hits = ctx.dev.inject(point, 0, 0)? - before;
            ensure!(hits >= 1, "no fault met {point:?}");
            println!("{point:?}: {hits} times");
        }
    }
    Ok(())
}

fn other_file(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 38)?;
    let other = Device::open(0)?;
    other.inject(Point::HugeAlloc, 0, 1)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.whole, ALL, "migrated whole");
    check_eq!(
        other.inject(Point::HugeAlloc, 0, 0)?,
        0,
        "hits of the other file"
    );
    area.verify(38)
}
