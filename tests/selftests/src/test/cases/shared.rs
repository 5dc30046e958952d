// SPDX-License-Identifier: GPL-2.0

//! Memory shared by fork: each process keeps its own data, wherever the folio is migrated.

use std::time::Instant;

use anyhow::{ensure, Context, Result};
use nix::errno::Errno;

use crate::{
    abi::{self, Point},
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    test::{
        case::{Case, Ctx, OnC, NEW_ABI},
        check::{all_at, Place},
        child::Peer,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "shared.whole",
        "a huge page that two processes map migrates whole",
        OnC::Passes,
        whole,
    ),
    Case::new(
        "shared.split_to_device",
        "without a huge destination it is split through every mapping, or left",
        OnC::Skip("K3: kernel BUG at mm/migrate.c:369"),
        |ctx| split(ctx, abi::TO_DEVICE),
    ),
    Case::new(
        "shared.split_to_system",
        "the same on the way back",
        OnC::Skip("K3: kernel BUG at mm/migrate.c:369"),
        |ctx| split(ctx, abi::TO_SYSTEM),
    ),
    Case::new(
        "shared.split_fault",
        "the same in a CPU fault of either process",
        OnC::Skip("K3: kernel BUG at mm/migrate.c:369"),
        split_fault,
    ),
    Case::new(
        "shared.split_refused",
        "a shared folio whose split is refused: everything stays",
        NEW_ABI,
        split_refused,
    ),
    Case::new(
        "shared.cpu_write",
        "a CPU write of one process to the shared device page is not seen by the other",
        OnC::Passes,
        cpu_write,
    ),
    Case::new(
        "shared.device_write_refused",
        "a device writes to a shared page that somebody holds: EBUSY, and it writes when the page is free",
        NEW_ABI,
        device_write_refused,
    ),
    Case::new(
        "shared.fd_of_parent",
        "a child's ioctls on its parent's file work on the parent's memory",
        OnC::Passes,
        fd_of_parent,
    ),
];

/// A child that checks the pattern when it is told to, and once more after writing its own.
pub fn sharer(area: &Area, seed: u64) -> Result<Peer> {
    Peer::start(|end| {
        end.next()?;
        area.verify(seed).context("shared")?;
        end.next()?;
        for page in 0..area.npages() {
            area.set_word(page, 1, 77);
        }
        for page in 0..area.npages() {
            check_eq!(area.word(page, 1), 77, "its own page {page}");
        }
        end.next()
    })
}

/// Both processes see the pattern; then the child writes, and the parent still does.
pub fn both_keep_their_data(mut peer: Peer, area: &Area, seed: u64) -> Result<()> {
    peer.step();
    area.verify(seed).context("after the child's reads")?;
    peer.step();
    area.verify(seed).context("after the child's writes")?;
    peer.finish()?;
    area.verify(seed).context("after the child's end")
}

fn whole(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 51)?;
    let peer = sharer(&area, 51)?;
    if let Some(result) = ctx.to_device(&area, 51)? {
        check_eq!(result.whole, HUGE as u64, "migrated whole");
        check_eq!(ctx.dev.page(area.addr())?.mapcount, 2, "map count");
    }
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    both_keep_their_data(peer, &area, 51)
}

fn split(ctx: &Ctx, direction: u32) -> Result<()> {
    let area = Area::filled(1, 52)?;
    if direction == abi::TO_SYSTEM {
        ctx.to_device(&area, 52)?;
    }
    let peer = sharer(&area, 52)?;
    ctx.dev.inject(Point::HugeAlloc, 0, 1000)?;
    let result = ctx.migrate_all(direction, &area)?;
    ensure!(
        result.whole == 0,
        "migrated whole without a huge destination"
    );
    ctx.dev.inject(Point::All, 0, 0)?;
    both_keep_their_data(peer, &area, 52)
}

fn split_fault(ctx: &Ctx) -> Result<()> {
    for child_first in [false, true] {
        let area = Area::filled(1, 53)?;
        ctx.to_device(&area, 53)?;
        let peer = sharer(&area, 53)?;
        ctx.dev.inject(Point::HugeAlloc, 0, 1000)?;
        if !child_first {
            area.verify(53)?;
        }
        both_keep_their_data(peer, &area, 53)?;
        ctx.dev.inject(Point::All, 0, 0)?;
    }
    Ok(())
}

fn split_refused(ctx: &Ctx) -> Result<()> {
    for direction in [abi::TO_DEVICE, abi::TO_SYSTEM] {
        let area = Area::filled(1, 54)?;
        if direction == abi::TO_SYSTEM {
            ctx.to_device(&area, 54)?;
        }
        let peer = sharer(&area, 54)?;
        ctx.dev.inject(Point::HugeAlloc, 0, 1000)?;
        ctx.dev.inject(Point::ExtraRef, 0, 1000)?;
        let result = ctx.migrate_all(direction, &area)?;
        ensure!(
            result.whole == 0,
            "migrated whole without a huge destination"
        );
        ctx.dev.inject(Point::All, 0, 0)?;
        both_keep_their_data(peer, &area, 54)?;
    }
    Ok(())
}

/// The page cannot go back to be shared out, which a write by the device needs (K8).
fn device_write_refused(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(1, 57)?;
    ctx.to_device(&area, 57)?;
    let peer = sharer(&area, 57)?;
    ctx.dev.inject(Point::ExtraRef, 0, u64::MAX)?;
    let start = Instant::now();
    let written = ctx.dev.write(area.addr(), &pattern_bytes(58, 0, 1));
    println!("{:.1?}", start.elapsed());
    ctx.dev.inject(Point::ExtraRef, 0, 0)?;
    check_eq!(written.err(), Some(Errno::EBUSY), "WRITE");
    both_keep_their_data(peer, &area, 57)?;
    ctx.dev
        .write(area.addr(), &pattern_bytes(58, 0, 1))
        .context("WRITE")?;
    area.verify(58)
}

fn cpu_write(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 55)?;
    ctx.to_device(&area, 55)?;
    let mut peer = sharer(&area, 55)?;
    area.fill(56);
    peer.step();
    peer.step();
    peer.finish()?;
    area.verify(56)
}

fn fd_of_parent(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 58)?;
    let peer = Peer::start(|end| {
        // The child's own memory at this address differs from now on.
        area.fill(59);
        let data = ctx
            .dev
            .read(area.addr(), HUGE)
            .context("READ by the child")?;
        verify_bytes(58, 0, &data).context("the parent's memory")?;
        ctx.dev
            .read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)
            .context("MIGRATE_TO_DEV by the child")?;
        area.verify(59).context("the child's own memory")?;
        end.next()
    })?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    peer.finish()?;
    area.verify(58)
}
