// SPDX-License-Identifier: GPL-2.0

//! What the device reads and writes: its page table must name the memory that holds the data, at
//! every moment.

use anyhow::{ensure, Context, Result};
use nix::sys::mman::ProtFlags;

use crate::{
    abi,
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    device::Device,
    test::{
        case::{Case, Ctx},
        check::{all_at, Place},
        child::Peer,
        shown::Shown,
    },
};

/// The device's page table holds a page that no CPU can address.
const UNADDRESSABLE: Shown =
    Shown::breaks(&["BUG: unable to handle page fault in dmirror_do_read"]);

pub const CASES: &[Case] = &[
    Case::defect(
        "t1.refault",
        "device pages seen again after mprotect: the device reads and writes the data",
        UNADDRESSABLE,
        refault,
    ),
    Case::defect(
        "t1.second_file",
        "device pages seen through a second open file and after a fork",
        UNADDRESSABLE,
        second_file,
    ),
    Case::defect(
        "t9.write_of_second_file",
        "a device write through a file that knew the page before it migrated is kept",
        Shown::fails(&["what the second file wrote is lost"]),
        write_of_second_file,
    ),
    Case::defect(
        "t10.freed_memory",
        "such a write does not land in memory that has been freed",
        Shown::fails(&["a device write is in somebody else's memory"]),
        freed_memory,
    ),
    Case::defect(
        "k7.inside_huge_entry",
        "the device reads from the middle of a huge page of its own",
        UNADDRESSABLE,
        inside_huge_entry,
    ),
];

fn refault(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 70)?;
    let rw = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    ctx.to_device(&area, 70)?;
    // The entries of the device's page table go, the pages stay on the device.
    area.protect(ProtFlags::PROT_READ)?;
    let data = ctx.dev.read(area.addr(), HUGE).context("READ")?;
    verify_bytes(70, 0, &data)?;
    area.protect(rw)?;
    let data = ctx
        .dev
        .read_by(abi::READ_UNLOCKED, area.addr(), HUGE)
        .context("READ_UNLOCKED")?;
    verify_bytes(70, 0, &data)?;
    ctx.dev
        .write(area.page(10), &pattern_bytes(71, 10, 20))
        .context("WRITE")?;
    let data = ctx.dev.read(area.page(10), 20).context("READ")?;
    verify_bytes(71, 10, &data)?;
    area.verify_pages(70, 0, 10)?;
    area.verify_pages(71, 10, 20)?;
    area.verify_pages(70, 30, HUGE - 30)
}

fn second_file(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 72)?;
    ctx.to_device(&area, 72)?;
    let other = Device::open(0)?;
    let data = other.read(area.addr(), HUGE).context("READ")?;
    verify_bytes(72, 0, &data)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    let peer = Peer::start(|_| {
        let own = Device::open(0)?;
        let data = own.read(area.addr(), HUGE).context("READ in the child")?;
        verify_bytes(72, 0, &data)?;
        area.verify(72)
    })?;
    peer.finish()?;
    let data = ctx.dev.read(area.addr(), HUGE).context("READ")?;
    verify_bytes(72, 0, &data)?;
    drop(other);
    area.verify(72)
}

/// Two files of one device: one knows where the pages are, then the other one moves them.
fn moved_by_another(ctx: &Ctx, seed: u64) -> Result<(Area, Device)> {
    let area = Area::filled_small(16, seed)?;
    let second = Device::open(0)?;
    second
        .write(area.addr(), &pattern_bytes(seed, 0, 16))
        .context("WRITE before")?;
    ctx.to_device(&area, seed)?;
    Ok((area, second))
}

fn write_of_second_file(ctx: &Ctx) -> Result<()> {
    let (area, second) = moved_by_another(ctx, 111)?;
    second
        .write(area.addr(), &pattern_bytes(112, 0, 16))
        .context("WRITE after")?;
    ensure!(
        area.verify(112).is_ok(),
        "what the second file wrote is lost"
    );
    Ok(())
}

fn freed_memory(ctx: &Ctx) -> Result<()> {
    let (area, second) = moved_by_another(ctx, 113)?;
    // What was freed just now is somebody else's next.
    let fresh = Area::small(8192)?;
    for page in 0..fresh.npages() {
        fresh.set_word(page, 0, 0);
    }
    second
        .write(area.addr(), &pattern_bytes(114, 0, 16))
        .context("WRITE after")?;
    let changed = (0..fresh.npages()).filter(|&page| fresh.word(page, 0) != 0);
    let changed = changed.count();
    println!(
        "{changed} of {} pages are not zero any more",
        fresh.npages()
    );
    ensure!(changed == 0, "a device write is in somebody else's memory");
    check_eq!(area.verify(114).is_ok(), true, "the write is kept");
    Ok(())
}

fn inside_huge_entry(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 77)?;
    ctx.to_device(&area, 77)?;
    for first in [1, 5, 33, 500] {
        // Forgets what the device's page table knows.
        area.protect(ProtFlags::PROT_READ)?;
        let data = ctx.dev.read(area.page(first), 11).context("READ")?;
        verify_bytes(77, first, &data)?;
        let bytes = ctx.dev.snapshot(area.page(first), 11).context("SNAPSHOT")?;
        ensure!(
            bytes
                .iter()
                .all(|b| b & abi::PROT_KIND == abi::PROT_DEV_PRIVATE_LOCAL),
            "snapshot from page {first}: {bytes:x?}"
        );
    }
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    area.verify(77)
}
