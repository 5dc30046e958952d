// SPDX-License-Identifier: GPL-2.0

//! Device accesses that begin inside a hugetlb page (T27): read and written, never migrated.

use anyhow::{ensure, Context, Result};
use nix::{
    errno::Errno,
    sys::mman::{MapFlags, ProtFlags},
};

use crate::{
    abi,
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    proc::hugetlb::Pool,
    test::{
        case::{Case, Ctx, OnC},
        child::Peer,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "hugetlb.untouched",
        "T27: the device reads and writes from the middle of hugetlb pages that nobody has touched",
        OnC::Passes,
        |ctx| untouched(ctx, SMALL),
    ),
    Case::new(
        "hugetlb.discarded",
        "T27: the same after MADV_DONTNEED",
        OnC::Passes,
        |ctx| discarded(ctx, SMALL),
    ),
    Case::new(
        "hugetlb.after_fork",
        "T27: a device write inside a private hugetlb page copies it, inside a shared one it does not",
        OnC::Passes,
        |ctx| after_fork(ctx, SMALL),
    ),
    Case::new(
        "hugetlb.across",
        "T27: an access begins inside a hugetlb page and ends inside the next, which nobody has touched",
        OnC::Passes,
        |ctx| across(ctx, SMALL),
    ),
    Case::new(
        "hugetlb.refused",
        "no page of hugetlb migrates or becomes exclusive, whole or in part; protection counts",
        OnC::Passes,
        |ctx| refused(ctx, SMALL),
    ),
    Case::new(
        "hugetlb.untouched_1g",
        "hugetlb.untouched with pages of 1 GiB",
        OnC::Passes,
        |ctx| untouched(ctx, LARGE),
    ),
    Case::new(
        "hugetlb.discarded_1g",
        "hugetlb.discarded with pages of 1 GiB",
        OnC::Passes,
        |ctx| discarded(ctx, LARGE),
    ),
    Case::new(
        "hugetlb.after_fork_1g",
        "hugetlb.after_fork with pages of 1 GiB",
        OnC::Passes,
        |ctx| after_fork(ctx, LARGE),
    ),
    Case::new(
        "hugetlb.across_1g",
        "hugetlb.across with pages of 1 GiB",
        OnC::Passes,
        |ctx| across(ctx, LARGE),
    ),
    Case::new(
        "hugetlb.refused_1g",
        "hugetlb.refused with pages of 1 GiB",
        OnC::Passes,
        |ctx| refused(ctx, LARGE),
    ),
];

/// Pages of a hugetlb page of 2 MiB, and of one of 1 GiB.
const SMALL: usize = HUGE;
const LARGE: usize = HUGE * HUGE;

const SHARING: [MapFlags; 2] = [MapFlags::MAP_PRIVATE, MapFlags::MAP_SHARED];

/// Pages of one access.
const NR: usize = 5;

/// Where accesses begin in a hugetlb page: inside a block of 2 MiB, at its end, and, if the page has
/// several, where another begins. Fewer where each touch takes a second.
fn places(pages: usize) -> &'static [usize] {
    match pages {
        SMALL => &[3, HUGE / 2, HUGE - NR],
        _ => &[3 * HUGE, LARGE - HUGE / 2],
    }
}

fn untouched(ctx: &Ctx, pages: usize) -> Result<()> {
    let _pool = Pool::with(pages, 1)?;
    let all = |sharing| places(pages).iter().map(move |at| (sharing, *at));
    for (sharing, at) in SHARING.into_iter().flat_map(all) {
        let is_right = || format!("{sharing:?}, page {at}");
        for code in [abi::READ, abi::READ_UNLOCKED] {
            let area = Area::hugetlb(1, pages, sharing)?;
            let data = ctx
                .dev
                .read_by(code, area.page(at), NR)
                .with_context(is_right)?;
            ensure!(
                data.iter().all(|byte| *byte == 0),
                "what nobody wrote is not zero"
            );
        }
        let area = Area::hugetlb(1, pages, sharing)?;
        write(ctx, &area, 500, at).with_context(is_right)?;
        area.verify_pages(500, at, NR)?;
        check_eq!(area.word(at - 1, 0), 0, "the page before");
        let size = ctx.dev.snapshot(area.page(at), 1)?[0] & (abi::PROT_PMD | abi::PROT_PUD);
        let expected = if pages == SMALL {
            abi::PROT_PMD
        } else {
            abi::PROT_PUD
        };
        check_eq!(size, expected, "the size in the device's snapshot");
    }
    Ok(())
}

fn discarded(ctx: &Ctx, pages: usize) -> Result<()> {
    let _pool = Pool::with(pages, 1)?;
    for sharing in SHARING {
        let area = Area::hugetlb(1, pages, sharing)?;
        for &at in places(pages) {
            area.fill_pages(510, at, NR);
            check_eq!(
                ctx.dev.read(area.page(at), NR)?,
                pattern_bytes(510, at, NR),
                "read"
            );
            area.discard(0, pages)?;
            let data = ctx.dev.read(area.page(at), NR).context("READ")?;
            if sharing == MapFlags::MAP_SHARED {
                verify_bytes(510, at, &data)?;
            } else {
                ensure!(
                    data.iter().all(|byte| *byte == 0),
                    "the device reads what is discarded"
                );
            }
            area.discard(0, pages)?;
            write(ctx, &area, 511, at)?;
            area.verify_pages(511, at, NR)?;
        }
    }
    Ok(())
}

fn after_fork(ctx: &Ctx, pages: usize) -> Result<()> {
    let _pool = Pool::with(pages, 2)?;
    for sharing in SHARING {
        let is_shared = sharing == MapFlags::MAP_SHARED;
        let area = Area::hugetlb(1, pages, sharing)?;
        let at = pages - HUGE / 2;
        area.fill_pages(520, at - 1, NR + 2);
        let mut peer = Peer::start(|end| {
            end.next()?;
            area.verify_pages(if is_shared { 521 } else { 520 }, at, NR)
        })?;
        let data = ctx.dev.read(area.page(at), NR).context("READ")?;
        verify_bytes(520, at, &data)?;
        write(ctx, &area, 521, at)?;
        peer.step();
        peer.finish()?;
        area.verify_pages(521, at, NR)?;
        // The rest was copied along.
        area.verify_pages(520, at - 1, 1)?;
        area.verify_pages(520, at + NR, 1)?;
    }
    Ok(())
}

fn across(ctx: &Ctx, pages: usize) -> Result<()> {
    let _pool = Pool::with(pages, 2)?;
    for sharing in SHARING {
        let area = Area::hugetlb(2, pages, sharing)?;
        let first = pages - 100;
        area.fill_pages(530, first, pages - first);
        let data = ctx.dev.read(area.page(first), HUGE).context("READ")?;
        let (filled, hole) = data.split_at((pages - first) * crate::device::PAGE_SIZE);
        verify_bytes(530, first, filled)?;
        ensure!(
            hole.iter().all(|byte| *byte == 0),
            "what nobody wrote is not zero"
        );
        let new = pattern_bytes(531, first, HUGE);
        ctx.dev.write(area.page(first), &new).context("WRITE")?;
        area.verify_pages(531, first, HUGE)?;
        check_eq!(area.word(first + HUGE, 0), 0, "the page behind");
    }
    Ok(())
}

fn refused(ctx: &Ctx, pages: usize) -> Result<()> {
    let _pool = Pool::with(pages, 1)?;
    for sharing in SHARING {
        let area = Area::hugetlb(1, pages, sharing)?;
        let at = pages - HUGE;
        area.fill_pages(540, at, HUGE);
        for (first, nr) in [(at, HUGE), (at + 5, 3)] {
            let page = area.page(first);
            for code in [abi::MIGRATE_TO_DEV, abi::EXCLUSIVE] {
                ensure!(
                    ctx.dev.read_by(code, page, nr).is_err(),
                    "{code:#x} succeeds"
                );
            }
        }
        check_eq!(
            ctx.dev
                .command(abi::CHECK_EXCLUSIVE, area.page(at), 0, HUGE as u64)
                .err(),
            None,
            "CHECK_EXCLUSIVE"
        );
        area.verify_pages(540, at, HUGE)?;
        area.protect(ProtFlags::PROT_READ)?;
        let denied = ctx
            .dev
            .write(area.page(at + 7), &pattern_bytes(541, at, 1))
            .err();
        check_eq!(denied, Some(Errno::EPERM), "WRITE to what may only be read");
        verify_bytes(540, at + 7, &ctx.dev.read(area.page(at + 7), 1)?)?;
        area.protect(ProtFlags::PROT_NONE)?;
        let denied = ctx.dev.read(area.page(at + 7), 1).err();
        check_eq!(denied, Some(Errno::EFAULT), "READ of what may not be read");
    }
    Ok(())
}

fn write(ctx: &Ctx, area: &Area, seed: u64, first: usize) -> Result<()> {
    let done = ctx
        .dev
        .write(area.page(first), &pattern_bytes(seed, first, NR))
        .context("WRITE")?;
    check_eq!(done.cpages, NR as u64, "pages written");
    Ok(())
}
