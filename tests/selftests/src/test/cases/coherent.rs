// SPDX-License-Identifier: GPL-2.0

//! Memory of a coherent device: the CPU accesses it in place, so it comes back only on request.
//! There are no huge folios on it (K10).

use anyhow::{ensure, Context, Result};
use nix::errno::Errno;

use crate::{
    abi::{self, Point, Stats},
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    device::{self, Device},
    test::{
        case::{Case, Ctx, OnC},
        check::{all_at, pages_at, Place, Rss},
        child::{Peer, Skip},
    },
};

const ON_C: OnC = OnC::Skip("T17: its coherent devices map the same range again and again");

/// A case that works with a coherent device in place of the first.
macro_rules! case {
    ($name:literal, $about:literal, $run:expr) => {
        Case::new($name, $about, ON_C, |ctx| $run(&coherent(ctx)?))
    };
}

pub const CASES: &[Case] = &[
    case!(
        "coherent.there_and_back",
        "K10: a huge page goes as small ones and comes back",
        there_and_back
    ),
    case!("coherent.small", "small pages there and back", small),
    case!(
        "coherent.hole",
        "memory that was never touched becomes zeroed pages on the device",
        hole
    ),
    case!(
        "coherent.cpu_access",
        "CPU reads and writes work in place and bring nothing back",
        cpu_access
    ),
    case!(
        "coherent.device_access",
        "the device reads and writes its pages, and the CPU sees it",
        device_access
    ),
    case!(
        "coherent.other_devices",
        "what other devices see of the pages, and that they read and write them in place",
        other_devices
    ),
    case!(
        "coherent.fork",
        "processes that share pages on the device keep their own data",
        fork
    ),
    case!(
        "coherent.partial_unmap",
        "what is unmapped is free on the device at once, the rest stays",
        partial_unmap
    ),
    case!(
        "coherent.close",
        "closing the file brings its pages back, and no others",
        close
    ),
    case!(
        "coherent.exit",
        "a process ends with pages on the device",
        exit
    ),
    case!(
        "coherent.release",
        "RELEASE gives the range back, and it can be used again",
        release
    ),
    case!(
        "coherent.injected",
        "an allocation and a copy that fail: exact counts, data intact",
        injected
    ),
    case!(
        "coherent.fill",
        "all of the range is used, then it is full, then it comes back",
        fill
    ),
];

/// The first coherent device, opened like the case's own.
fn coherent(ctx: &Ctx) -> Result<Ctx> {
    if device::count() <= device::COHERENT {
        return Err(Skip(
            "no coherent device: insmod with spm_addr_dev0= and spm_addr_dev1=".into(),
        )
        .into());
    }
    Ok(Ctx {
        dev: Device::open(device::COHERENT)?,
        driver: ctx.driver,
    })
}

fn is_at(ctx: &Ctx, area: &Area, place: Place) -> Result<()> {
    all_at(&ctx.dev, ctx.driver, area, place)
}

fn used(ctx: &Ctx) -> Result<u64> {
    Ok(ctx.dev.stats()?.pages_used)
}

fn there_and_back(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 200)?;
    let rss = Rss::now()?;
    let result = ctx.to_device(&area, 200)?.context("no counts")?;
    check_eq!(result.small, HUGE as u64, "migrated as small pages");
    check_eq!(
        ctx.dev.stats()?.pages_mine,
        HUGE as u64,
        "device pages of this file"
    );
    is_at(ctx, &area, Place::CoherentSmall)?;
    rss.unchanged(area.size())?;
    let result = ctx.to_system(&area)?.context("no counts")?;
    check_eq!(result.small, HUGE as u64, "migrated back");
    check_eq!(used(ctx)?, 0, "device pages in use");
    is_at(ctx, &area, Place::SystemSmall)?;
    rss.unchanged(area.size())?;
    area.verify(200)
}

fn small(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(100, 201)?;
    ctx.to_device(&area, 201)?;
    is_at(ctx, &area, Place::CoherentSmall)?;
    // A part of them, from the middle.
    ctx.go(abi::TO_SYSTEM, area.page(40), 20)?;
    pages_at(&ctx.dev, ctx.driver, &area, 0, 40, Place::CoherentSmall)?;
    pages_at(&ctx.dev, ctx.driver, &area, 40, 20, Place::SystemSmall)?;
    pages_at(&ctx.dev, ctx.driver, &area, 60, 40, Place::CoherentSmall)?;
    check_eq!(used(ctx)?, 80, "device pages in use");
    let rest = ctx.migrate_all(abi::TO_SYSTEM, &area)?;
    check_eq!(rest.moved(), 80, "the rest moved");
    is_at(ctx, &area, Place::SystemSmall)?;
    area.verify(201)
}

fn hole(ctx: &Ctx) -> Result<()> {
    // Pages that were used hold what was in them: a zeroed one must have been cleared.
    let before = Area::filled_small(HUGE, 202)?;
    ctx.to_device(&before, 202)?;
    drop(before);
    for area in [Area::huge(1)?, Area::small(64)?] {
        ctx.go(abi::TO_DEVICE, area.addr(), area.npages())?;
        is_at(ctx, &area, Place::CoherentSmall)?;
        let data = ctx.dev.read(area.addr(), area.npages()).context("READ")?;
        ensure!(
            data.iter().all(|&byte| byte == 0),
            "the device reads no zeros"
        );
        for page in 0..area.npages() {
            for word in 0..512 {
                check_eq!(area.word(page, word), 0, "page {page}, word {word}");
            }
        }
    }
    Ok(())
}

fn cpu_access(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 203)?;
    ctx.to_device(&area, 203)?;
    let before = ctx.dev.stats()?;
    area.verify(203)?;
    area.fill(204);
    area.verify(204)?;
    is_at(ctx, &area, Place::CoherentSmall)?;
    let data = ctx.dev.read(area.addr(), HUGE).context("READ")?;
    verify_bytes(204, 0, &data)?;
    let moved = |stats: &Stats| {
        (
            stats.pages_used,
            stats.faulted,
            stats.to_system,
            stats.evicted,
        )
    };
    check_eq!(
        moved(&ctx.dev.stats()?),
        moved(&before),
        "pages in use, faulted, moved, evicted"
    );
    ctx.to_system(&area)?;
    area.verify(204)
}

fn device_access(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 205)?;
    ctx.to_device(&area, 205)?;
    let data = ctx.dev.read(area.page(7), 100).context("READ")?;
    verify_bytes(205, 7, &data)?;
    ctx.dev
        .write(area.page(32), &pattern_bytes(206, 32, 64))
        .context("WRITE")?;
    is_at(ctx, &area, Place::CoherentSmall)?;
    for place in [Place::CoherentSmall, Place::SystemSmall] {
        if place == Place::SystemSmall {
            ctx.to_system(&area)?;
        }
        area.verify_pages(205, 0, 32)?;
        area.verify_pages(206, 32, 64)?;
        area.verify_pages(205, 96, HUGE - 96)?;
        is_at(ctx, &area, place)?;
    }
    Ok(())
}

fn other_devices(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(16, 207)?;
    ctx.to_device(&area, 207)?;
    for (index, seed) in [(device::COHERENT + 1, 208), (0, 209)] {
        let other = Device::open(index)?;
        let bytes = other.snapshot(area.addr(), 16).context("SNAPSHOT")?;
        ensure!(
            bytes
                .iter()
                .all(|byte| byte & abi::PROT_KIND == abi::PROT_DEV_COHERENT_REMOTE),
            "device {index} sees {bytes:x?}"
        );
        other
            .write(area.addr(), &pattern_bytes(seed, 0, 16))
            .with_context(|| format!("WRITE by device {index}"))?;
        let data = other.read(area.addr(), 16).context("READ")?;
        verify_bytes(seed, 0, &data)?;
        // It is not the other device's to move.
        let result = other.migrate(abi::TO_SYSTEM, area.addr(), 16)?;
        check_eq!(result.moved(), 0, "pages moved by device {index}");
        is_at(ctx, &area, Place::CoherentSmall)?;
        area.verify(seed)?;
    }
    Ok(())
}

fn fork(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 210)?;
    ctx.to_device(&area, 210)?;
    let mut peer = Peer::start(|end| {
        end.next()?;
        area.verify(210).context("shared")?;
        end.next()?;
        area.fill(211);
        area.verify(211).context("its own")?;
        end.next()?;
        area.verify(211)
            .context("its own, after the device's write")
    })?;
    check_eq!(ctx.dev.page(area.addr())?.mapcount, 2, "map count");
    peer.step();
    is_at(ctx, &area, Place::CoherentSmall)?;
    peer.step();
    area.verify(210).context("after the child's writes")?;
    // T19: the first page is shared no more; a page that is must be copied first.
    let other = Peer::start(|end| {
        end.next()?;
        area.verify(210).context("of before the device's write")
    })?;
    ctx.dev
        .write(area.page(3), &pattern_bytes(212, 3, 5))
        .context("WRITE")?;
    other.finish()?;
    peer.finish()?;
    area.verify_pages(210, 0, 3)?;
    area.verify_pages(212, 3, 5)?;
    area.verify_pages(210, 8, HUGE - 8)
}

fn partial_unmap(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 213)?;
    ctx.to_device(&area, 213)?;
    area.unmap(100, 50)?;
    check_eq!(used(ctx)?, HUGE as u64 - 50, "device pages in use");
    pages_at(&ctx.dev, ctx.driver, &area, 0, 100, Place::CoherentSmall)?;
    pages_at(
        &ctx.dev,
        ctx.driver,
        &area,
        150,
        HUGE - 150,
        Place::CoherentSmall,
    )?;
    ctx.go(abi::TO_SYSTEM, area.addr(), 100)?;
    check_eq!(used(ctx)?, HUGE as u64 - 150, "device pages in use");
    area.verify_pages(213, 0, 100)?;
    area.verify_pages(213, 150, HUGE - 150)
}

fn close(ctx: &Ctx) -> Result<()> {
    let mine = Area::filled_small(64, 214)?;
    let theirs = Area::filled(1, 215)?;
    ctx.to_device(&mine, 214)?;
    let other = Device::open(device::COHERENT)?;
    other.read_by(abi::MIGRATE_TO_DEV, theirs.addr(), HUGE)?;
    is_at(ctx, &theirs, Place::CoherentSmall)?;
    let before = ctx.dev.stats()?;
    drop(other);
    is_at(ctx, &theirs, Place::SystemSmall)?;
    is_at(ctx, &mine, Place::CoherentSmall)?;
    let after = ctx.dev.stats()?;
    check_eq!(after.evicted - before.evicted, HUGE as u64, "pages evicted");
    check_eq!(after.pages_used, 64, "device pages in use");
    mine.verify(214)?;
    theirs.verify(215)
}

fn exit(ctx: &Ctx) -> Result<()> {
    let peer = Peer::start(|end| {
        let dev = Device::open(device::COHERENT)?;
        let area = Area::filled(1, 216)?;
        dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)?;
        end.next()?;
        std::mem::forget((dev, area));
        Ok(())
    })?;
    check_eq!(used(ctx)?, HUGE as u64, "device pages in use");
    // That they come back is what every case's end is checked for.
    peer.finish()
}

fn release(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 217)?;
    for _ in 0..2 {
        ctx.to_device(&area, 217)?;
        is_at(ctx, &area, Place::CoherentSmall)?;
        ctx.dev
            .command(abi::RELEASE, area.addr(), 0, 1)
            .context("RELEASE")?;
        check_eq!(ctx.dev.stats()?.chunks, 0, "ranges");
        is_at(ctx, &area, Place::SystemSmall)?;
        area.verify(217)?;
    }
    // The others find it as it was.
    ctx.to_device(&area, 217).map(drop)
}

fn injected(ctx: &Ctx) -> Result<()> {
    for (point, index) in [
        (Point::SmallAlloc, abi::REFUSED_NO_MEMORY),
        (Point::Copy, abi::REFUSED_COPY),
    ] {
        for direction in [abi::TO_DEVICE, abi::TO_SYSTEM] {
            let area = Area::filled(1, 218)?;
            if direction == abi::TO_SYSTEM {
                ctx.to_device(&area, 218)?;
            }
            ctx.dev.inject(point, 100, 1_000_000)?;
            let result = ctx.migrate_all(direction, &area)?;
            check_eq!(result.moved(), 100, "{point:?}: pages moved");
            check_eq!(
                result.refused[index],
                HUGE as u64 - 100,
                "{point:?}: pages refused"
            );
            ctx.dev.inject(Point::All, 0, 0)?;
            let on_device = match direction {
                abi::TO_DEVICE => 100,
                _ => HUGE as u64 - 100,
            };
            check_eq!(used(ctx)?, on_device, "{point:?}: device pages in use");
            area.verify(218)?;
        }
    }
    Ok(())
}

/// More than the range holds. Only the first word of a page is looked at: there are many.
fn fill(ctx: &Ctx) -> Result<()> {
    let probe = Area::filled_small(1, 219)?;
    ctx.to_device(&probe, 219)?;
    ctx.to_system(&probe)?;
    let total = ctx.dev.stats()?.pages_total;
    let over = HUGE as u64 + 7;
    let area = Area::small((total + over) as usize)?;
    let word = |page: usize| page as u64 + 1;
    for page in 0..area.npages() {
        area.set_word(page, 0, word(page));
    }
    let intact = || -> Result<()> {
        for page in 0..area.npages() {
            check_eq!(area.word(page, 0), word(page), "the word of page {page}");
        }
        Ok(())
    };

    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.moved(), total, "pages moved");
    check_eq!(
        result.refused[abi::REFUSED_NO_MEMORY],
        over,
        "pages without memory"
    );
    check_eq!(used(ctx)?, total, "device pages in use");
    intact()?;

    // Full: what asks for more is told so, by both ABIs.
    let result = ctx.migrate_all(abi::TO_DEVICE, &probe)?;
    check_eq!(
        result.refused[abi::REFUSED_NO_MEMORY],
        1,
        "pages without memory"
    );
    let errno = ctx.dev.read_by(abi::MIGRATE_TO_DEV, probe.addr(), 1).err();
    check_eq!(errno, Some(Errno::ENOENT), "MIGRATE_TO_DEV");
    probe.verify(219)?;

    // One page of room is enough for one page.
    ctx.go(abi::TO_SYSTEM, area.page(1000), 1)?;
    ctx.to_device(&probe, 219)?;
    check_eq!(used(ctx)?, total, "device pages in use");
    ctx.to_system(&probe)?;

    let result = ctx.migrate_all(abi::TO_SYSTEM, &area)?;
    check_eq!(result.moved(), total - 1, "pages moved back");
    check_eq!(used(ctx)?, 0, "device pages in use");
    intact()
}
