// SPDX-License-Identifier: GPL-2.0

//! Ranges that are only partly populated: holes, zero pages, halves; and read-only memory.

use anyhow::{ensure, Context, Result};
use nix::sys::mman::ProtFlags;

use crate::{
    abi,
    area::{verify_bytes, Area, HUGE},
    check_eq,
    proc::{pagemap, smaps},
    test::{
        case::{Case, Ctx, OnC, NEW_ABI},
        check::{all_at, order, pages_at, Place},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "partial.hole",
        "memory that was never touched becomes a zeroed huge page on the device",
        OnC::Passes,
        |ctx| hole(ctx, Fill::Nothing),
    ),
    Case::new(
        "partial.zero_page",
        "the huge zero page becomes a zeroed huge page on the device",
        OnC::Passes,
        |ctx| hole(ctx, Fill::ZeroPage),
    ),
    Case::new(
        "partial.hole_split",
        "a hole and the huge zero page without a huge destination",
        OnC::Passes,
        hole_split,
    ),
    Case::new(
        "partial.every_other_page",
        "small pages with holes between them",
        NEW_ABI,
        every_other_page,
    ),
    Case::new(
        "partial.half_unmapped",
        "a huge page of which half is unmapped goes and comes back",
        OnC::Passes,
        half_unmapped,
    ),
    Case::new(
        "partial.unmapped_on_device",
        "half of a huge page is unmapped while it is on the device",
        OnC::Passes,
        unmapped_on_device,
    ),
    Case::new(
        "partial.range_inside",
        "a range inside a huge page: exactly those pages move",
        OnC::Passes,
        range_inside,
    ),
    Case::new(
        "partial.nothing_to_do",
        "pages that are there already, or nowhere: counted, nothing moves",
        NEW_ABI,
        nothing_to_do,
    ),
    Case::new(
        "partial.read_only",
        "read-only memory goes and comes back",
        OnC::Passes,
        read_only,
    ),
];

const ALL: u64 = HUGE as u64;

#[derive(Clone, Copy, PartialEq)]
enum Fill {
    Nothing,
    ZeroPage,
}

fn prepare(fill: Fill) -> Result<Area> {
    let area = Area::huge(1)?;
    if fill == Fill::ZeroPage {
        area.word(0, 0);
        // Mapped by a huge entry, and yet nothing is resident.
        let entries = pagemap::of(area.addr(), 2)?;
        if !entries[1].present() || smaps::of(area.addr(), area.size())?.rss != 0 {
            return Err(Skip("reading does not map the huge zero page here".into()).into());
        }
    }
    Ok(area)
}

fn all_zero(area: &Area) -> Result<()> {
    for page in 0..area.npages() {
        for word in [0, 1, 511] {
            check_eq!(area.word(page, word), 0, "page {page}, word {word}");
        }
    }
    Ok(())
}

fn hole(ctx: &Ctx, fill: Fill) -> Result<()> {
    let area = prepare(fill)?;
    if ctx.rust() {
        let before = ctx.dev.page(area.addr())?.where_;
        let wanted = match fill {
            Fill::Nothing => abi::NOWHERE,
            Fill::ZeroPage => abi::ZERO,
        };
        check_eq!(before, wanted, "where, before");
    }
    if let Some(result) = ctx.go(abi::TO_DEVICE, area.addr(), HUGE)? {
        check_eq!(result.whole, ALL, "made whole on the device");
    }
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    let data = ctx.dev.read(area.addr(), HUGE).context("READ")?;
    ensure!(data.iter().all(|&b| b == 0), "the device reads no zeros");
    ctx.to_system(&area)?;
    all_zero(&area)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)
}

fn hole_split(ctx: &Ctx) -> Result<()> {
    for fill in [Fill::Nothing, Fill::ZeroPage] {
        let area = prepare(fill)?;
        ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
        if let Some(result) = ctx.go(abi::TO_DEVICE, area.addr(), HUGE)? {
            check_eq!(result.split + result.small, ALL, "made small on the device");
            check_eq!(order(&ctx.dev, &area, 9)?, 0, "order");
        }
        all_at(&ctx.dev, ctx.driver, &area, Place::DeviceSmall)?;
        all_zero(&area)?;
    }
    Ok(())
}

fn every_other_page(ctx: &Ctx) -> Result<()> {
    let area = Area::small(64)?;
    for page in (0..64).step_by(2) {
        area.set_word(page, 3, page as u64 + 1);
    }
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    // A hole may be left alone or filled; the pages must go.
    ensure!(result.small >= 32, "{} pages moved", result.small);
    check_eq!(result.small + result.empty, 64, "moved or empty");
    let entries = pagemap::of(area.addr(), 64)?;
    check_eq!(
        entries.iter().filter(|e| e.swap()).count() as u64,
        result.small,
        "device entries by pagemap"
    );
    for (page, entry) in entries.iter().enumerate() {
        ensure!(page % 2 == 1 || entry.swap(), "page {page} stayed");
        let wanted = if page % 2 == 0 { page as u64 + 1 } else { 0 };
        check_eq!(area.word(page, 3), wanted, "page {page}");
    }
    Ok(())
}

fn half_unmapped(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 40)?;
    let half = HUGE / 2;
    area.unmap(half, half)?;
    let (dev, driver) = (&ctx.dev, ctx.driver);
    if let Some(result) = ctx.go(abi::TO_DEVICE, area.addr(), half)? {
        check_eq!(
            result.small,
            half as u64,
            "pages that were collected one by one"
        );
    }
    pages_at(dev, driver, &area, 0, half, Place::DeviceSmall)?;
    check_eq!(
        smaps::of(area.addr(), area.size())?.rss,
        half,
        "pages mapped"
    );
    area.verify_pages(40, 0, half)?;
    pages_at(dev, driver, &area, 0, half, Place::SystemSmall)
}

fn unmapped_on_device(ctx: &Ctx) -> Result<()> {
    for first in [0, HUGE / 4, HUGE / 2] {
        let area = Area::filled(1, 41)?;
        ctx.to_device(&area, 41)?;
        area.unmap(first, HUGE / 2)?;
        check_eq!(
            smaps::of(area.addr(), area.size())?.rss,
            HUGE / 2,
            "pages mapped"
        );
        area.verify_pages(41, 0, first)?;
        area.verify_pages(41, first + HUGE / 2, HUGE / 2 - first)?;
    }
    Ok(())
}

fn range_inside(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(2, 42)?;
    let (dev, driver) = (&ctx.dev, ctx.driver);
    if let Some(result) = ctx.go(abi::TO_DEVICE, area.page(100), 200)? {
        check_eq!(result.small, 200, "pages that were collected one by one");
    }
    pages_at(dev, driver, &area, 0, 100, Place::SystemSmall)?;
    pages_at(dev, driver, &area, 100, 200, Place::DeviceSmall)?;
    pages_at(dev, driver, &area, 300, HUGE - 300, Place::SystemSmall)?;
    pages_at(dev, driver, &area, HUGE, HUGE, Place::SystemHuge)?;
    // The other direction, out of a whole device page.
    ctx.go(abi::TO_DEVICE, area.page(HUGE), HUGE)?;
    ctx.go(abi::TO_SYSTEM, area.page(HUGE + 7), 9)?;
    pages_at(dev, driver, &area, HUGE, 7, Place::DeviceSmall)?;
    pages_at(dev, driver, &area, HUGE + 7, 9, Place::SystemSmall)?;
    area.verify(42)
}

fn nothing_to_do(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 43)?;
    let result = ctx.migrate_all(abi::TO_SYSTEM, &area)?;
    check_eq!(result.moved(), 0, "moved to where it is");
    ctx.to_device(&area, 43)?;
    let (result, data) = ctx
        .dev
        .migrate_and_read(abi::TO_DEVICE, area.addr(), HUGE)?;
    check_eq!(result.accounted(), ALL, "pages accounted for");
    check_eq!(result.moved(), 0, "moved to where it is");
    check_eq!(result.retries, 0, "attempts at what is there already");
    check_eq!(result.read_back, ALL, "read back all the same");
    verify_bytes(43, 0, &data)?;
    let hole = Area::huge(1)?;
    let result = ctx.migrate_all(abi::TO_SYSTEM, &hole)?;
    check_eq!(result.moved(), 0, "moved out of a hole");
    check_eq!(smaps::of(hole.addr(), hole.size())?.rss, 0, "pages made");
    area.verify(43)
}

fn read_only(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 44)?;
    area.protect(ProtFlags::PROT_READ)?;
    ctx.to_device(&area, 44)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    let byte = ctx.dev.snapshot(area.addr(), 1)?[0];
    check_eq!(
        byte & abi::PROT_WRITE,
        0,
        "writable in the device's snapshot"
    );
    area.verify(44)?;
    area.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    area.set_word(0, 0, 1);
    area.verify_pages(44, 1, HUGE - 1)
}
