// SPDX-License-Identifier: GPL-2.0

//! Who has a limit gets an answer there: nobody is killed, and nothing is lost.

use std::{sync::Barrier, thread};

use anyhow::{ensure, Context, Result};
use nix::{errno::Errno, sys::mman::MapFlags};

use crate::{
    abi::{self, Point},
    area::{Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    proc::{self, cgroup::Group, fail::PageAlloc},
    ready::Ready,
    test::{
        case::{Case, Ctx, Undo, NEW_ABI},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "limit.charged",
        "T12: memory behind device pages is charged to the process's cgroup, and given back",
        NEW_ABI,
        charged,
    ),
    Case::new(
        "limit.cgroup",
        "T12: a cgroup at its limit: what still fits moves, the rest stays, nobody is killed",
        NEW_ABI,
        at_limit,
    ),
    Case::new(
        "limit.cgroup_small",
        "T12: the same without room for the memory behind one small page: none moves",
        NEW_ABI,
        at_limit_small,
    ),
    Case::new(
        "limit.mmap",
        "mapping more of the node than 16 MiB: ENOMEM",
        NEW_ABI,
        mmap,
    ),
    Case::new(
        "limit.mmap_zeroed",
        "what is mapped of the node is zeroed",
        NEW_ABI,
        mmap_zeroed,
    ),
    Case::new(
        "limit.device_memory",
        "T12: a device that is full: what fits moves, the rest stays, and there is room again after",
        NEW_ABI,
        device_memory,
    ),
    Case::new(
        "limit.fragmented",
        "no memory in one piece to be had anywhere: small pages do, both ways and in a CPU fault",
        NEW_ABI,
        fragmented,
    ),
    Case::new(
        "limit.grow_together",
        "threads that all find the device without memory make it once",
        NEW_ABI,
        grow_together,
    ),
    Case::new(
        "limit.given_back",
        "system memory behind device pages, and what was meant for them, is given back",
        NEW_ABI,
        given_back,
    ),
];

const HUGE_SIZE: usize = HUGE * PAGE_SIZE;

const LIMIT: &str = "/sys/kernel/debug/rust_dmirror/hmm_dmirror0/limit";
/// Huge pages of 256 MiB, the least that a device may have.
const LEAST: usize = 128;

fn group() -> Result<Group> {
    Group::enter().map_err(|error| Skip(format!("no memory cgroup: {error:#}")).into())
}

fn charged(ctx: &Ctx) -> Result<()> {
    // What stands behind these pages stays for as long as the file is open: it was charged before.
    let earlier = Area::filled(8, 299)?;
    ctx.to_device(&earlier, 299)?;
    ctx.to_system(&earlier)?;
    Device::trim(0)?;
    let group = group()?;
    let dev = Device::open(0)?;
    let area = Area::filled(8, 300)?;
    let before = group.charged()?;
    let result = dev
        .migrate(abi::TO_DEVICE, area.addr(), area.npages())
        .context("MIGRATE")?;
    check_eq!(result.moved(), area.npages() as u64, "pages moved");
    let there = group.charged()?;
    // The pages of the process count where they are; what plays the device's memory comes on top.
    let more = there.saturating_sub(before);
    ensure!(
        more >= area.size(),
        "{more} bytes more are charged for {} on the device",
        area.size()
    );
    area.verify(300)?;
    drop(dev);
    drop(area);
    let after = group.charged()?;
    ensure!(
        after < before,
        "{after} bytes are charged after all is gone, {before} before the migration"
    );
    Ok(())
}

fn at_limit(_: &Ctx) -> Result<()> {
    Device::trim(0)?;
    let group = group()?;
    let dev = Device::open(0)?;
    let area = Area::filled(16, 301)?;
    // Room for the memory behind some of the pages.
    group.limit(Some(group.charged()? + 5 * HUGE_SIZE))?;
    let kills = group.events("oom_kill")?;
    let result = dev
        .migrate(abi::TO_DEVICE, area.addr(), area.npages())
        .context("MIGRATE")?;
    println!("{}", result.summary());
    check_eq!(result.accounted(), result.npages, "pages accounted for");
    ensure!(result.moved() > 0, "nothing moved");
    ensure!(
        result.refused[abi::REFUSED_NO_MEMORY] > 0,
        "nothing was refused: the limit does not hold"
    );
    check_eq!(group.events("oom_kill")?, kills, "killed in the cgroup");
    ensure!(group.events("max")? > 0, "the limit was never met");
    area.verify(301)?;
    // Again, and home by closing the file, still at the limit.
    dev.migrate(abi::TO_DEVICE, area.addr(), area.npages())
        .context("MIGRATE")?;
    drop(dev);
    area.verify(301)?;
    check_eq!(group.events("oom_kill")?, kills, "killed in the cgroup");
    group.limit(None)
}

/// What stands behind the first page of a block is there for all of it.
fn at_limit_small(_: &Ctx) -> Result<()> {
    const PAGES: usize = 8;
    Device::trim(0)?;
    let group = group()?;
    let dev = Device::open(0)?;
    let area = Area::filled_small(PAGES, 305)?;
    let migrate = || {
        dev.migrate(abi::TO_DEVICE, area.addr(), PAGES)
            .context("MIGRATE")
    };
    group.limit(Some(group.charged()? + HUGE_SIZE / 2))?;
    let result = migrate()?;
    check_eq!(
        result.refused[abi::REFUSED_NO_MEMORY],
        PAGES as u64,
        "pages without memory behind them"
    );
    check_eq!(dev.stats()?.pages_used, 0, "pages in use");
    area.verify(305)?;
    group.limit(None)?;
    check_eq!(migrate()?.moved(), PAGES as u64, "pages moved");
    area.verify(305)
}

fn mmap(ctx: &Ctx) -> Result<()> {
    const MOST: usize = 8 * HUGE;
    let map = |npages| Area::file(npages, ctx.dev.file(), MapFlags::MAP_PRIVATE);
    map(MOST).context("as much as there may be")?.touch();
    let error = map(MOST + 1).err().context("more is mapped")?;
    check_eq!(
        error.downcast_ref::<Errno>(),
        Some(&Errno::ENOMEM),
        "more than there may be"
    );
    Ok(())
}

fn mmap_zeroed(ctx: &Ctx) -> Result<()> {
    // The second round gets the pages that the first one has written to and freed.
    for round in 0..2 {
        let area = Area::file(HUGE, ctx.dev.file(), MapFlags::MAP_SHARED)?;
        for page in 0..HUGE {
            check_eq!(area.word(page, 7), 0, "round {round}, page {page}");
            area.set_word(page, 7, u64::MAX);
        }
    }
    Ok(())
}

fn device_memory(ctx: &Ctx) -> Result<()> {
    let before = std::fs::read_to_string(LIMIT)
        .map_err(|error| Skip(format!("cannot read {LIMIT}: {error}")))?;
    let _undo = Undo(|| drop(std::fs::write(LIMIT, &before)));
    for bad in [" ", "0", "255", "8192", "256 256", "x"] {
        ensure!(std::fs::write(LIMIT, bad).is_err(), "`{bad}` is taken");
    }
    std::fs::write(LIMIT, "256").context(LIMIT)?;
    // What was there before is above the limit, until it is given up.
    ctx.dev.command(abi::RELEASE, 0, 0, 1).context("RELEASE")?;
    let area = Area::filled(LEAST + 2, 302)?;
    let (fits, rest) = ((LEAST * HUGE) as u64, 2 * HUGE as u64);
    for round in 0..2 {
        let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
        check_eq!(result.moved(), fits, "pages moved in round {round}");
        check_eq!(
            result.refused[abi::REFUSED_NO_MEMORY],
            rest,
            "pages for which there was no room in round {round}"
        );
        let stats = ctx.dev.stats()?;
        check_eq!(stats.pages_used, stats.pages_total, "pages in use");
        ctx.migrate_all(abi::TO_SYSTEM, &area)?;
        check_eq!(ctx.dev.stats()?.pages_used, 0, "pages in use afterwards");
    }
    area.verify(302)
}

/// All want the first page of the device, whose memory is made while the others wait.
fn grow_together(ctx: &Ctx) -> Result<()> {
    const THREADS: usize = 4;
    for round in 0..3 {
        ctx.dev.command(abi::RELEASE, 0, 0, 1).context("RELEASE")?;
        let area = Area::filled_small(THREADS, 306)?;
        let start = Barrier::new(THREADS);
        let moved = thread::scope(|scope| {
            let threads = [0, 1, 2, 3].map(|page| {
                let (start, area) = (&start, &area);
                scope.spawn(move || {
                    start.wait();
                    ctx.dev.migrate(abi::TO_DEVICE, area.page(page), 1)
                })
            });
            threads.map(|thread| thread.join().map(|result| result.map(|r| r.moved())))
        });
        for result in moved {
            let moved = result.ok().context("a thread panicked")?;
            check_eq!(moved, Ok(1), "pages moved in round {round}");
        }
        check_eq!(ctx.dev.stats()?.chunks, 1, "chunks in round {round}");
        area.verify(306)?;
    }
    Ok(())
}

/// What stands behind the device's pages goes with the device's memory, and what was not used of the pages that
/// were to come back goes at once. Each round has 32 MiB of the one; of the other, 31 pages for each huge page.
fn given_back(ctx: &Ctx) -> Result<()> {
    const HUGE_PAGES: usize = 16;
    const ROUNDS: usize = 5;
    let round = |_| -> Result<()> {
        let area = Area::filled(HUGE_PAGES, 307)?;
        ctx.to_device(&area, 307)?;
        for page in 0..HUGE_PAGES {
            // The first small page, and no other, of each.
            ctx.dev.inject(Point::HugeAlloc, 0, 1)?;
            ctx.dev.inject(Point::SmallAlloc, 1, 1)?;
            ctx.dev
                .migrate(abi::TO_SYSTEM, area.page(page * HUGE), HUGE)?;
        }
        ctx.dev.inject(Point::SmallAlloc, 0, 0)?;
        ctx.dev
            .migrate(abi::TO_SYSTEM, area.addr(), area.npages())?;
        area.verify(307)?;
        drop(area);
        ctx.dev.command(abi::RELEASE, 0, 0, 1).context("RELEASE")?;
        Ok(())
    };
    round(0)?;
    let settled = || -> Result<_> {
        proc::let_go()?;
        Ok(proc::free()? as usize / PAGE_SIZE)
    };
    let before = settled()?;
    (0..ROUNDS).try_for_each(round)?;
    let lost = before.saturating_sub(settled()?);
    println!("{lost} pages");
    ensure!(
        lost < ROUNDS * HUGE_PAGES * 31 / 2,
        "{lost} pages fewer than before"
    );
    Ok(())
}

/// The least order that counts as one piece.
const ONE_PIECE: u32 = 4;

fn fragmented(ctx: &Ctx) -> Result<()> {
    let areas = [Area::filled(2, 303)?, Area::filled(2, 304)?];
    Device::trim(0)?;
    let _none = Ready::keep(0)?;
    let _failing = PageAlloc::fail(ONE_PIECE, 0, u32::MAX >> 1)?;
    let all = areas[0].npages() as u64;
    for area in &areas {
        let result = ctx.migrate_all(abi::TO_DEVICE, area)?;
        check_eq!(result.whole, all, "pages that went there whole");
    }
    let result = ctx.migrate_all(abi::TO_SYSTEM, &areas[0])?;
    check_eq!(result.split, all, "pages that were split to come back");
    areas[0].verify(303)?;
    areas[1].verify(304)
}
