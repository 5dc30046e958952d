// SPDX-License-Identifier: GPL-2.0

//! Huge pages of system memory that are ready before a fault or a migration wants them.

use std::fs;

use anyhow::{ensure, Result};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    proc::{fail::PageAlloc, smaps},
    ready::Ready,
    test::case::{Case, Ctx, NEW_ABI},
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
        "ready.number",
        "how many there are can be changed, at once, and not to nonsense",
        NEW_ABI,
        number,
    ),
];

/// The order of a huge page.
const HUGE_ORDER: u32 = HUGE.ilog2();

/// Frees some huge pages: the worker does not compact memory.
fn make_room() -> Result<()> {
    Area::filled(8, 0).map(drop)
}

/// Brings a huge page back, after which there are new ones.
fn round_trip(ctx: &Ctx, seed: u64) -> Result<Area> {
    make_room()?;
    let area = Area::filled(1, seed)?;
    ctx.to_device(&area, seed)?;
    ctx.to_system(&area)?;
    Ok(area)
}

fn used(ctx: &Ctx) -> Result<()> {
    let ready = Ready::keep(2)?;
    let by_fault = round_trip(ctx, 350)?;
    let by_request = round_trip(ctx, 351)?;
    ctx.to_device(&by_fault, 350)?;
    ctx.to_device(&by_request, 351)?;
    check_eq!(ready.wait(2)?, 2, "huge pages that are ready");
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
    let ready = Ready::keep(3)?;
    round_trip(ctx, 352)?.verify(352)?;
    check_eq!(ready.wait(3)?, 3, "huge pages that are ready");
    fs::write("/proc/sys/vm/drop_caches", "2")?;
    check_eq!(ready.wait(0)?, 0, "huge pages after the kernel took them");
    round_trip(ctx, 353)?.verify(353)?;
    check_eq!(ready.wait(3)?, 3, "huge pages that are ready again");
    Ok(())
}

fn number(ctx: &Ctx) -> Result<()> {
    let ready = Ready::keep(4)?;
    round_trip(ctx, 354)?.verify(354)?;
    check_eq!(ready.wait(4)?, 4, "huge pages that are ready");
    ready.set("1")?;
    check_eq!(ready.count()?, 1, "huge pages that are left");
    for bad in ["65", "-1", "x", "1 2"] {
        ensure!(ready.set(bad).is_err(), "`{bad}` is taken");
    }
    check_eq!(ready.most()?, "1", "the number that is shown");
    ready.set("0")?;
    check_eq!(ready.count()?, 0, "huge pages that are left");
    round_trip(ctx, 355)?.verify(355)?;
    check_eq!(ready.count()?, 0, "huge pages where none are wanted");
    ready.set("64")
}
