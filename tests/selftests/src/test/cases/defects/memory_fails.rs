// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail in the middle of a migration, in a CPU fault, in eviction.

use anyhow::{ensure, Context, Result};
use nix::errno::Errno;

use crate::{
    abi,
    area::{Area, HUGE},
    device::Device,
    proc::fail::PageAlloc,
    ready::Ready,
    test::{
        case::{Case, Ctx},
        shown::Shown,
    },
};

pub const CASES: &[Case] = &[
    Case::defect(
        "t2.small_alloc_fails",
        "neither a huge nor a small page of device memory can be had: nothing moves",
        Shown::breaks(&["BUG: kernel NULL pointer dereference in dmirror_migrate_to_device"])
            .on_own(),
        small_alloc_fails,
    ),
    Case::defect(
        "t3.way_back_fails",
        "no memory half way back: every page is in one place or the other",
        Shown::breaks(&["WARNING: include/linux/leafops.h at softleaf_to_folio"]).on_own(),
        way_back_fails,
    ),
    Case::defect(
        "t4.evict_without_huge",
        "a file is closed while no huge page can be had: its data come home",
        Shown::breaks(&["BUG: kernel NULL pointer dereference in dmirror_device_evict_chunk"])
            .on_own(),
        |_| evict_without_huge(1),
    )
    .may_stick(),
    Case::defect(
        "k1.touch_after_failure",
        "no memory half way back: the CPU reaches every page",
        Shown::hangs().on_own(),
        touch_after_failure,
    ),
    Case::defect(
        "k4.fault_without_huge",
        "a CPU fault on a huge device page while no huge page can be had: it ends",
        Shown::passes(&[
            "2 MiB are copied in vain, but that splits the mapping, and pages come singly",
        ])
        .on_own(),
        fault_without_huge,
    ),
    Case::defect(
        "k6.evict_more_than_reserve",
        "the same as t4 with more huge pages than any reserve has",
        Shown::breaks(&["BUG: kernel NULL pointer dereference in dmirror_device_evict_chunk"])
            .on_own(),
        |_| evict_without_huge(4),
    )
    .may_stick(),
];

/// More than any call here allocates, and yet an end.
const ALL: u32 = 100_000;
const HUGE_ORDER: u32 = 9;

fn small_alloc_fails(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 170)?;
    // Touched before: nothing may be missing but what the driver asks for.
    let mut buffer = vec![0xffu8; area.size()];
    let ptr = buffer.as_mut_ptr() as usize;
    ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
    let failing = PageAlloc::fail(0, 0, ALL)?;
    let moved = ctx
        .dev
        .command(abi::MIGRATE_TO_DEV, area.addr(), ptr, HUGE as u64);
    drop(failing);
    ensure!(
        matches!(moved, Err(Errno::ENOENT | Errno::ENOMEM)),
        "MIGRATE_TO_DEV: {moved:?}"
    );
    area.verify(170)?;
    // With memory it goes.
    ctx.to_device(&Area::filled(1, 171)?, 171)?;
    Ok(())
}

/// Small pages on the device, of which eight find memory when they are to come back.
fn half_way_back(ctx: &Ctx, seed: u64) -> Result<Area> {
    let area = Area::filled_small(16, seed)?;
    ctx.to_device(&area, seed)?;
    let failing = PageAlloc::fail(0, 8, 1)?;
    let moved = ctx.dev.command(abi::MIGRATE_TO_SYS, area.addr(), 0, 16);
    drop(failing);
    println!("MIGRATE_TO_SYS: {moved:?}");
    Ok(area)
}

fn way_back_fails(ctx: &Ctx) -> Result<()> {
    let area = half_way_back(ctx, 172)?;
    let bytes = ctx.dev.snapshot(area.addr(), 16).context("SNAPSHOT")?;
    println!("snapshot: {bytes:x?}");
    let nowhere = bytes.iter().filter(|byte| *byte & 3 == 0).count();
    ensure!(nowhere == 0, "{nowhere} pages are nowhere");
    area.verify(172)
}

fn touch_after_failure(ctx: &Ctx) -> Result<()> {
    half_way_back(ctx, 173)?.verify(173)
}

fn fault_without_huge(ctx: &Ctx) -> Result<()> {
    let _none = Ready::none(ctx.driver)?;
    let area = Area::filled(1, 174)?;
    ctx.to_device(&area, 174)?;
    let failing = PageAlloc::fail(HUGE_ORDER, 0, u32::MAX >> 1)?;
    area.word(77, 0);
    drop(failing);
    area.verify(174)
}

fn evict_without_huge(huge: usize) -> Result<()> {
    let area = Area::filled(huge, 175)?;
    let dev = Device::open(0)?;
    dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), area.npages())
        .context("MIGRATE_TO_DEV")?;
    let failing = PageAlloc::fail(HUGE_ORDER, 0, ALL)?;
    drop(dev);
    drop(failing);
    area.verify(175)
}
