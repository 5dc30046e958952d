// SPDX-License-Identifier: GPL-2.0

//! Memory that is shared by fork or write-protected, on the device.

use anyhow::{Context, Result};
use nix::{errno::Errno, sys::mman::ProtFlags};

use crate::{
    abi,
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    test::{
        case::{Case, Ctx},
        cases::shared::{both_keep_their_data, sharer},
        shown::Shown,
    },
};

/// The device asks for a page to write to, and gets one that it may only read.
const NOT_WRITABLE: Shown = Shown::warns(&["test_hmm.c at dmirror_do_fault"]);
/// A PMD migration entry for a folio that is no huge one any more.
const HALF_SPLIT: Shown = Shown::breaks(&["kernel BUG at mm/migrate.c"]).on_own();

pub const CASES: &[Case] = &[
    Case::defect(
        "t19.device_write",
        "a device write to a device page shared by fork succeeds, and breaks COW",
        NOT_WRITABLE,
        |ctx| device_write(ctx, Area::filled(1, 50)?),
    ),
    Case::defect(
        "t19.device_write_small",
        "the same with small pages",
        NOT_WRITABLE,
        |ctx| device_write(ctx, Area::filled_small(16, 50)?),
    ),
    Case::defect(
        "k3.split_to_device",
        "a huge page shared by fork, and no huge destination on the device",
        HALF_SPLIT,
        |ctx| split(ctx, abi::MIGRATE_TO_DEV),
    ),
    Case::defect(
        "k3.split_to_system",
        "the same on the way back",
        HALF_SPLIT,
        |ctx| split(ctx, abi::MIGRATE_TO_SYS),
    ),
    Case::defect(
        "k8.read_only_write",
        "the device may not write read-only memory of its own: EPERM",
        NOT_WRITABLE,
        read_only_write,
    ),
];

fn device_write(ctx: &Ctx, area: Area) -> Result<()> {
    let npages = area.npages();
    ctx.to_device(&area, 50)?;
    let peer = sharer(&area, 50)?;
    ctx.dev
        .write(area.page(3), &pattern_bytes(57, 3, 5))
        .context("WRITE")?;
    let data = ctx.dev.read(area.page(3), 5).context("READ")?;
    verify_bytes(57, 3, &data)?;
    let mut peer = peer;
    peer.step();
    peer.step();
    peer.finish()?;
    area.verify_pages(50, 0, 3)?;
    area.verify_pages(57, 3, 5)?;
    area.verify_pages(50, 8, npages - 8)
}

/// Whatever the ioctl answers: both processes keep their data.
fn split(ctx: &Ctx, code: u32) -> Result<()> {
    let area = Area::filled(1, 52)?;
    if code == abi::MIGRATE_TO_SYS {
        ctx.to_device(&area, 52)?;
    }
    let peer = sharer(&area, 52)?;
    ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
    match ctx.dev.read_by(code, area.addr(), HUGE) {
        Ok(data) if code == abi::MIGRATE_TO_DEV => verify_bytes(52, 0, &data)?,
        Ok(_) => {}
        Err(errno) => check_eq!(errno, Errno::ENOENT, "ioctl {code:#x}"),
    }
    both_keep_their_data(peer, &area, 52)
}

fn read_only_write(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 45)?;
    area.protect(ProtFlags::PROT_READ)?;
    ctx.to_device(&area, 45)?;
    let refused = ctx.dev.write(area.addr(), &pattern_bytes(46, 0, 1));
    check_eq!(refused.err(), Some(Errno::EPERM), "a device write");
    area.verify(45)
}
