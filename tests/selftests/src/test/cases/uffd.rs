// SPDX-License-Identifier: GPL-2.0

//! Memory with a userfaultfd: protected pages stay protected on the way to the device and back, and holes are not
//! filled.

use anyhow::{ensure, Context, Result};
use nix::errno::Errno;

use crate::{
    abi,
    area::{pattern_bytes, Area, HUGE},
    check_eq,
    proc::{
        pagemap,
        uffd::{self, Handler, Uffd},
    },
    test::{
        case::{Case, Ctx, NEW_ABI},
        check::{pages_at, Place},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "uffd.wp_small",
        "write-protected small pages move and stay protected; zero pages are not offered",
        NEW_ABI,
        wp_small,
    ),
    Case::new(
        "uffd.wp_huge",
        "a write-protected huge page moves whole and stays protected",
        NEW_ABI,
        wp_huge,
    ),
    Case::new(
        "uffd.wp_holes",
        "where write protection covers nothing at all, nothing is offered: small and huge",
        NEW_ABI,
        wp_holes,
    ),
    Case::new(
        "uffd.wp_unprotected",
        "holes and zero pages of a registered VMA, not protected yet: not offered either",
        NEW_ABI,
        wp_unprotected,
    ),
    Case::new(
        "uffd.missing",
        "what user space is to provide is not offered, what it has provided moves",
        NEW_ABI,
        |ctx| holes_stay(ctx, 0, uffd::MISSING),
    ),
    Case::new(
        "uffd.rwp",
        "the same where reads are watched, too",
        NEW_ABI,
        |ctx| holes_stay(ctx, uffd::FEATURE_RWP, uffd::RWP),
    ),
];

const PAGES: usize = 64;

fn register(area: &Area, features: u64, mode: u64) -> Result<Uffd> {
    match Uffd::register(area, features, mode) {
        Ok(uffd) => Ok(uffd),
        Err(Errno::EINVAL | Errno::ENOSYS) if mode == uffd::RWP => {
            Err(Skip("this kernel's userfaultfd does not watch reads".into()).into())
        }
        Err(Errno::ENOSYS) => Err(Skip("this kernel has no userfaultfd".into()).into()),
        Err(error) => Err(error).context("registering with userfaultfd"),
    }
}

pub fn protected(area: &Area, first: usize, npages: usize) -> Result<usize> {
    let entries = pagemap::of(area.page(first), npages)?;
    Ok(entries.iter().filter(|entry| entry.uffd_wp()).count())
}

/// A CPU write and a device write, each to its own page, wait until the handler resolves them.
fn both_are_seen(ctx: &Ctx, area: &Area, handler: &Handler, pages: [usize; 2]) -> Result<()> {
    let [by_cpu, by_device] = pages;
    ctx.dev
        .write(area.page(by_device), &pattern_bytes(431, by_device, 1))
        .context("WRITE")?;
    ensure!(
        handler.has_seen(area.page(by_device)),
        "the device wrote a protected page"
    );
    area.verify_pages(431, by_device, 1)?;
    area.set_word(by_cpu, 0, area.word(by_cpu, 0));
    ensure!(
        handler.has_seen(area.page(by_cpu)),
        "the CPU wrote a protected page"
    );
    Ok(())
}

fn wp_small(ctx: &Ctx) -> Result<()> {
    const HALF: usize = PAGES / 2;
    let area = Area::small(PAGES)?;
    area.fill_pages(430, 0, HALF);
    area.touch();
    let uffd = register(&area, uffd::FEATURE_WP, uffd::WP)?;
    uffd.protect(area.addr(), PAGES, true)
        .context("protecting")?;
    check_eq!(protected(&area, 0, PAGES)?, PAGES, "pages protected");
    let half = HALF as u64;
    for direction in [abi::TO_DEVICE, abi::TO_SYSTEM, abi::TO_DEVICE] {
        let result = ctx.migrate_all(direction, &area)?;
        check_eq!(result.small, half, "pages moved");
        if direction == abi::TO_DEVICE {
            check_eq!(result.refused[abi::REFUSED_COLLECT], half, "not offered");
        }
        check_eq!(result.retries, 0, "retries");
        check_eq!(protected(&area, 0, PAGES)?, PAGES, "pages still protected");
    }
    let handler = uffd.handle();
    // On the device, brought back, and the zero page.
    both_are_seen(ctx, &area, &handler, [1, 2])?;
    ctx.migrate_all(abi::TO_SYSTEM, &area)?;
    both_are_seen(ctx, &area, &handler, [3, 4])?;
    both_are_seen(ctx, &area, &handler, [HALF + 1, HALF + 2])?;
    area.verify_pages(430, 5, HALF - 5)?;
    area.verify_pages(430, 0, 2)
}

fn wp_huge(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 432)?;
    let uffd = register(&area, uffd::FEATURE_WP, uffd::WP)?;
    uffd.protect(area.addr(), HUGE, true)
        .context("protecting")?;
    for direction in [abi::TO_DEVICE, abi::TO_SYSTEM, abi::TO_DEVICE] {
        let result = ctx.migrate_all(direction, &area)?;
        check_eq!(result.whole, HUGE as u64, "pages moved whole");
        check_eq!(protected(&area, 0, HUGE)?, HUGE, "pages still protected");
    }
    let handler = uffd.handle();
    both_are_seen(ctx, &area, &handler, [100, 200])?;
    ctx.migrate_all(abi::TO_SYSTEM, &area)?;
    both_are_seen(ctx, &area, &handler, [300, 400])?;
    area.verify_pages(432, 0, 200)?;
    area.verify_pages(432, 401, HUGE - 401)
}

fn wp_holes(ctx: &Ctx) -> Result<()> {
    for (area, page) in [(Area::small(PAGES)?, 7), (Area::huge(1)?, 300)] {
        let npages = area.npages();
        let features = uffd::FEATURE_WP | uffd::FEATURE_WP_UNPOPULATED;
        let uffd = register(&area, features, uffd::WP)?;
        uffd.protect(area.addr(), npages, true)
            .context("protecting")?;
        nothing_is_offered(ctx, &area)?;
        check_eq!(
            protected(&area, 0, npages)?,
            npages,
            "pages still protected"
        );
        let handler = uffd.handle();
        both_are_seen(ctx, &area, &handler, [page, page + 1])?;
    }
    Ok(())
}

fn nothing_is_offered(ctx: &Ctx, area: &Area) -> Result<()> {
    let before = ctx.dev.stats()?.pages_used;
    let result = ctx.migrate_all(abi::TO_DEVICE, area)?;
    let all = area.npages() as u64;
    check_eq!(result.refused[abi::REFUSED_COLLECT], all, "not offered");
    check_eq!(result.retries, 0, "retries");
    check_eq!(ctx.dev.stats()?.pages_used, before, "device pages in use");
    Ok(())
}

fn wp_unprotected(ctx: &Ctx) -> Result<()> {
    for area in [Area::small(PAGES)?, Area::huge(1)?] {
        let _uffd = register(&area, uffd::FEATURE_WP, uffd::WP)?;
        nothing_is_offered(ctx, &area)?;
        // Zero pages, the huge one among them.
        area.touch();
        nothing_is_offered(ctx, &area)?;
    }
    Ok(())
}

fn holes_stay(ctx: &Ctx, features: u64, mode: u64) -> Result<()> {
    const FIRST: usize = 10;
    const THERE: usize = 20;
    let area = Area::small(PAGES)?;
    area.fill_pages(433, FIRST, THERE);
    let uffd = register(&area, features, mode)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    let there = THERE as u64;
    check_eq!(result.small, there, "pages moved");
    check_eq!(
        result.refused[abi::REFUSED_COLLECT],
        PAGES as u64 - there,
        "not offered"
    );
    check_eq!(result.retries, 0, "retries");
    pages_at(
        &ctx.dev,
        ctx.driver,
        &area,
        FIRST,
        THERE,
        Place::DeviceSmall,
    )?;
    area.verify_pages(433, FIRST, THERE)?;
    drop(uffd);
    // Nobody watches any more.
    ctx.go(abi::TO_DEVICE, area.addr(), PAGES)?;
    Ok(())
}
