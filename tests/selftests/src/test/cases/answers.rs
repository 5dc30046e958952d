// SPDX-License-Identifier: GPL-2.0

//! The ioctls of rust_dmirror: their answers are consistent, and match what was done.

use anyhow::{ensure, Context, Result};
use nix::sys::mman::ProtFlags;

use crate::{
    abi::{self, Point},
    area::{Area, HUGE},
    check_eq,
    device::Device,
    ledger::Ledger,
    test::{
        case::{Case, Ctx, NEW_ABI},
        check::{all_at, Place},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "new.inject_counts",
        "INJECT: skip, times and hits count exactly",
        NEW_ABI,
        inject_counts,
    ),
    Case::new(
        "new.page",
        "PAGE: every place a page can be in, with its counts",
        NEW_ABI,
        page,
    ),
    Case::new(
        "new.stats",
        "STATS: each counter grows by what was done",
        NEW_ABI,
        stats,
    ),
    Case::new(
        "new.ledger",
        "every migration is in the ledger, split and refused ones too, and balances",
        NEW_ABI,
        ledger,
    ),
];

fn inject_counts(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(8, 94)?;
    ctx.dev.inject(Point::HugeAlloc, 2, 3)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.split, 3 * HUGE as u64, "pages of split folios");
    check_eq!(result.whole, 5 * HUGE as u64, "pages of whole folios");
    check_eq!(ctx.dev.inject(Point::HugeAlloc, 0, 1)?, 3, "hits");
    ctx.dev.inject(Point::Copy, 0, 5)?;
    ctx.dev.inject(Point::All, 0, 0)?;
    let more = Area::filled(1, 95)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &more)?;
    check_eq!(
        result.whole,
        HUGE as u64,
        "whole after all points were cleared"
    );
    check_eq!(ctx.dev.inject(Point::HugeAlloc, 0, 0)?, 3, "hits stay");
    area.verify(94)
}

fn page(ctx: &Ctx) -> Result<()> {
    let dev = &ctx.dev;
    let at = |addr| -> Result<u32> { Ok(dev.page(addr).context("PAGE")?.where_) };
    let area = Area::filled(1, 96)?;
    check_eq!(at(0)?, abi::UNREADABLE, "where nothing is mapped");
    let info = dev.page(area.page(3))?;
    check_eq!(info.where_, abi::SYSTEM, "where");
    check_eq!((info.order, info.map_order), (9, 9), "orders");
    check_eq!(
        (info.refs, info.expected, info.mapcount),
        (1, 1, 1),
        "counts"
    );
    check_eq!(info.flags & abi::PAGE_WRITE, abi::PAGE_WRITE, "writable");
    ctx.to_device(&area, 96)?;
    let info = dev.page(area.page(3))?;
    check_eq!(info.where_, abi::DEVICE, "where");
    check_eq!((info.order, info.map_order), (9, 9), "orders");
    check_eq!(
        (info.refs, info.expected, info.mapcount),
        (1, 1, 1),
        "counts"
    );
    // Seen from another device, it is nothing that this one could read.
    let elsewhere = Device::open(1)?.page(area.page(3))?.where_;
    ensure!(elsewhere != abi::DEVICE, "on two devices at once");
    all_at(dev, ctx.driver, &area, Place::DeviceHuge)?;
    let hole = Area::small(3)?;
    check_eq!(at(hole.addr())?, abi::NOWHERE, "a hole");
    hole.word(1, 0);
    check_eq!(at(hole.page(1))?, abi::ZERO, "the zero page");
    hole.set_word(2, 0, 1);
    check_eq!(at(hole.page(2))?, abi::SYSTEM, "a written page");
    hole.protect(ProtFlags::PROT_NONE)?;
    check_eq!(at(hole.page(2))?, abi::UNREADABLE, "without access");
    area.verify(96)
}

fn stats(ctx: &Ctx) -> Result<()> {
    let all = HUGE as u64;
    let area = Area::filled(3, 97)?;
    let before = ctx.dev.stats()?;
    ensure!(
        before.pages_used <= before.pages_total,
        "more used than there are"
    );
    check_eq!(
        before.pages_total,
        u64::from(before.chunks) * 65536,
        "pages of all chunks"
    );
    ctx.to_device(&area, 97)?;
    let there = ctx.dev.stats()?;
    check_eq!(there.to_device - before.to_device, 3 * all, "to the device");
    check_eq!(there.pages_used - before.pages_used, 3 * all, "in use");
    check_eq!(there.pages_mine, 3 * all, "of this file");
    check_eq!(Device::open(0)?.stats()?.pages_mine, 0, "of another file");
    ctx.migrate(abi::TO_SYSTEM, area.addr(), HUGE)?;
    area.word(HUGE, 0);
    area.unmap(2 * HUGE, HUGE)?;
    let after = ctx.dev.stats()?;
    check_eq!(after.to_system - there.to_system, all, "back on request");
    check_eq!(after.faulted - there.faulted, all, "back by a fault");
    check_eq!(after.pages_used, before.pages_used, "in use at last");
    check_eq!(after.pages_mine, 0, "of this file at last");
    check_eq!(after.split_refused, before.split_refused, "splits refused");
    Ok(())
}

/// Columns of the ledger.
const STAGE: usize = 1;
const DEVICE: usize = 2;

fn ledger(ctx: &Ctx) -> Result<()> {
    let ledger = Ledger::enable().map_err(|error| Skip(format!("{error:#}")))?;
    for points in [
        &[][..],
        &[Point::HugeAlloc],
        &[Point::HugeAlloc, Point::ExtraRef],
        &[Point::FolioLock],
        &[Point::Copy],
    ] {
        for direction in [abi::TO_DEVICE, abi::TO_SYSTEM] {
            let area = Area::filled(1, 98)?;
            if direction == abi::TO_SYSTEM {
                ctx.to_device(&area, 98)?;
            }
            let before = (
                ctx.dev.stats()?,
                ledger.records()?.last().map_or(0, |r| r.seq + 1),
            );
            for &point in points {
                ctx.dev.inject(point, 0, 1)?;
            }
            ctx.migrate_all(direction, &area)?;
            let after = ctx.dev.stats()?;
            let records = ledger.records()?;
            let new: Vec<_> = records.iter().filter(|r| r.seq >= before.1).collect();
            println!("{points:?}, direction {direction}: {} records", new.len());
            let checks = after.ledger_checks - before.0.ledger_checks;
            // Where the folio cannot even be locked there is nothing to count.
            ensure!(
                checks > 0 || points.contains(&Point::FolioLock),
                "nothing was checked"
            );
            if points.is_empty() {
                let is_first = new.iter().all(|r| r.columns[DEVICE] == "0");
                ensure!(is_first, "records of another device");
                for stage in ["setup", "filled", "pages-src", "pages-dst", "final"] {
                    let is_there = new.iter().any(|r| r.columns[STAGE] == stage);
                    ensure!(is_there, "no record of the stage {stage}");
                }
            }
            for record in new {
                ensure!(
                    record.matches,
                    "a count that does not match: {:?}",
                    record.columns
                );
            }
            let mismatches = after.ledger_mismatches - before.0.ledger_mismatches;
            check_eq!(mismatches, 0, "mismatches counted");
            ctx.dev.inject(Point::All, 0, 0)?;
            area.verify(98)?;
        }
    }
    Ok(())
}
