// SPDX-License-Identifier: GPL-2.0

//! Huge pages of system memory that are kept ready for faults and migrations.

use std::fs;

use anyhow::{ensure, Result};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    proc::{
        self,
        fail::PageAlloc,
        policy::{self, Preferred},
        smaps,
    },
    ready::Ready,
    test::{
        case::{Case, Ctx, NEW_ABI},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "ready.used",
        "what comes back comes back huge, although no huge page is to be had",
        NEW_ABI,
        used,
    ),
    Case::new(
        "ready.given_back",
        "when the kernel wants memory, they go; when pages come back, there are new ones",
        NEW_ABI,
        given_back,
    ),
    Case::new(
        "ready.none_at_hand",
        "where no huge page is at hand, none are kept, and what comes back comes back in pages",
        NEW_ABI,
        none_at_hand,
    ),
    Case::new(
        "ready.number",
        "how many there are can be changed, at once, and not to nonsense",
        NEW_ABI,
        number,
    ),
    Case::new(
        "ready.movable",
        "none are kept where there is a zone for movable memory, which they could not be of",
        NEW_ABI,
        movable,
    ),
    Case::new(
        "ready.policy",
        "none are taken where a memory policy says from where memory comes",
        NEW_ABI,
        policy,
    ),
];

/// The order of a huge page.
const HUGE_ORDER: u32 = HUGE.ilog2();

/// The number that is kept ready, if any are.
fn keep(most: u64) -> Result<Ready> {
    if proc::has_movable_zone()? {
        return Err(Skip("there is a zone for movable memory".into()).into());
    }
    Ready::keep(most)
}

/// Brings a huge page back, after which the worker allocates new ones.
fn round_trip(ctx: &Ctx, seed: u64) -> Result<Area> {
    let area = Area::filled(1, seed)?;
    ctx.to_device(&area, seed)?;
    ctx.to_system(&area)?;
    area.verify(seed)?;
    Ok(area)
}

/// Brings huge pages back until there are so many ready. The worker takes what is at hand: at times
/// that is too little, and next time there is more.
fn fill(ctx: &Ctx, ready: &Ready, count: u64) -> Result<()> {
    const TRIES: u64 = 20;
    for seed in 0..TRIES {
        round_trip(ctx, 360 + seed)?;
        if ready.wait(count)? == count {
            return Ok(());
        }
        // What was a process's is at hand then.
        drop(Area::filled(8, 0)?);
    }
    check_eq!(ready.count()?, count, "huge pages that are ready");
    Ok(())
}

fn used(ctx: &Ctx) -> Result<()> {
    let ready = keep(2)?;
    let by_fault = round_trip(ctx, 350)?;
    let by_request = round_trip(ctx, 351)?;
    ctx.to_device(&by_fault, 350)?;
    ctx.to_device(&by_request, 351)?;
    fill(ctx, &ready, 2)?;
    {
        // Of this thread, and not of the worker.
        let _fail = PageAlloc::fail(HUGE_ORDER, 0, u32::MAX >> 1)?;
        by_fault.word(0, 0);
        let back = ctx.migrate(abi::TO_SYSTEM, by_request.addr(), HUGE)?;
        check_eq!(back.whole, HUGE as u64, "pages that came back whole");
    }
    for (area, seed) in [(&by_fault, 350), (&by_request, 351)] {
        let huge = smaps::of(area.addr(), area.size())?.anon_huge;
        check_eq!(huge, HUGE, "pages in huge pages");
        area.verify(seed)?;
    }
    // Nothing of that is so without them.
    ready.set("0")?;
    ctx.to_device(&by_request, 351)?;
    {
        let _fail = PageAlloc::fail(HUGE_ORDER, 0, u32::MAX >> 1)?;
        let back = ctx.migrate(abi::TO_SYSTEM, by_request.addr(), HUGE)?;
        check_eq!(back.whole, 0, "pages that came back whole");
    }
    by_request.verify(351)
}

fn given_back(ctx: &Ctx) -> Result<()> {
    let ready = keep(3)?;
    fill(ctx, &ready, 3)?;
    // Waits for the worker.
    ready.set("3")?;
    fs::write("/proc/sys/vm/drop_caches", "2")?;
    check_eq!(ready.count()?, 0, "huge pages after the kernel took them");
    fill(ctx, &ready, 3)
}

fn none_at_hand(ctx: &Ctx) -> Result<()> {
    let ready = keep(0)?;
    let area = Area::filled(1, 356)?;
    ctx.to_device(&area, 356)?;
    ready.set("4")?;
    {
        let _fail = PageAlloc::fail_for_all(HUGE_ORDER)?;
        // Asks for others, which the worker does not get.
        let back = ctx.migrate_all(abi::TO_SYSTEM, &area)?;
        check_eq!(back.split, HUGE as u64, "pages that came back in pages");
        // Waits for the worker.
        ready.set("4")?;
        check_eq!(ready.count()?, 0, "huge pages that are ready");
    }
    area.verify(356)?;
    fill(ctx, &ready, 4)
}

fn number(ctx: &Ctx) -> Result<()> {
    let ready = keep(4)?;
    fill(ctx, &ready, 4)?;
    ready.set("1")?;
    check_eq!(ready.count()?, 1, "huge pages that are left");
    for bad in ["65", "-1", "x", "1 2"] {
        ensure!(ready.set(bad).is_err(), "`{bad}` is taken");
    }
    check_eq!(ready.most()?, "1", "the number that is shown");
    ready.set("0")?;
    check_eq!(ready.count()?, 0, "huge pages that are left");
    round_trip(ctx, 355)?;
    check_eq!(ready.count()?, 0, "huge pages where none are wanted");
    ready.set("64")
}

fn movable(ctx: &Ctx) -> Result<()> {
    if !proc::has_movable_zone()? {
        return Err(Skip("no zone for movable memory: boot with movablecore=".into()).into());
    }
    let ready = Ready::keep(4)?;
    for seed in 0..3 {
        let area = Area::filled(1, 365 + seed)?;
        ctx.to_device(&area, 365 + seed)?;
        match seed {
            0 => area.word(0, 0),
            _ => ctx.to_system(&area).map(|_| 0)?,
        };
        area.verify(365 + seed)?;
        // Waits for the worker.
        ready.set("4")?;
        check_eq!(ready.count()?, 0, "huge pages that are ready");
    }
    Ok(())
}

fn policy(ctx: &Ctx) -> Result<()> {
    let ready = keep(4)?;
    for (seed, of_thread, by_fault) in [
        (370, true, true),
        (371, true, false),
        (372, false, true),
        (373, false, false),
    ] {
        let area = Area::filled(1, seed)?;
        ctx.to_device(&area, seed)?;
        // None is left, and to take one is what makes others.
        ready.set("0")?;
        ready.set("4")?;
        let _thread = of_thread.then(Preferred::now).transpose()?;
        if !of_thread {
            policy::prefer(&area)?;
        }
        match by_fault {
            true => drop(area.word(0, 0)),
            false => drop(ctx.to_system(&area)?),
        }
        area.verify(seed)?;
        // Waits for the worker.
        ready.set("4")?;
        check_eq!(ready.count()?, 0, "huge pages that are ready");
    }
    fill(ctx, &ready, 4)
}
