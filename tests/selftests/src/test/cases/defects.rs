// SPDX-License-Identifier: GPL-2.0

//! What the C driver gets wrong, by its number in the project's list of defects.

use anyhow::{ensure, Context, Result};
use nix::{errno::Errno, sys::mman::ProtFlags};

use crate::{
    abi,
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    test::{
        case::{Case, Ctx, OnC},
        check::{all_at, Place},
        child::Peer,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "t1.refault",
        "device pages seen again after mprotect: the device reads and writes the data",
        OnC::Skip("T1: oopses the kernel"),
        refault,
    ),
    Case::new(
        "t1.second_file",
        "device pages seen through a second open file and after a fork",
        OnC::Skip("T1: oopses the kernel"),
        second_file,
    ),
    Case::new(
        "t13.rounds",
        "150 rounds of splitting take no more device memory than one",
        OnC::Fails("T13: split device folios never coalesce"),
        rounds,
    ),
    Case::new(
        "t15.clear_flags",
        "FLAGS can be cleared",
        OnC::Fails("T15: npages = 0 is refused"),
        clear_flags,
    ),
    Case::new(
        "t16.page_count_wraps",
        "a page count whose bytes wrap is refused",
        OnC::Fails("T16: wraps to one page and reports success"),
        page_count_wraps,
    ),
    Case::new(
        "t18.exact_counts",
        "cpages of the old ioctls counts pages, those that moved and no others",
        OnC::Fails("T18: a huge folio counts as one page"),
        exact_counts,
    ),
    Case::new(
        "t23.exclusive_undone",
        "EXCLUSIVE over a hole fails and leaves no page exclusive",
        OnC::Fails("T23: earlier pages stay exclusive"),
        exclusive_undone,
    ),
    Case::new(
        "k7.inside_huge_entry",
        "the device reads from the middle of a huge page of its own",
        OnC::Skip("T1: oopses the kernel"),
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

/// Ranges of device memory: by the counters, or where there are none by the kernel's list.
fn chunks(ctx: &Ctx) -> Result<usize> {
    if ctx.rust() {
        return Ok(ctx.dev.stats()?.chunks as usize);
    }
    let text = std::fs::read_to_string("/proc/iomem")?;
    Ok(text.lines().filter(|l| l.contains("hmm_dmirror")).count())
}

fn rounds(ctx: &Ctx) -> Result<()> {
    let area = Area::huge(1)?;
    let mut before = 0;
    for round in 0..150 {
        for page in 0..HUGE {
            area.set_word(page, 0, round);
        }
        ctx.dev
            .read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)
            .context("MIGRATE_TO_DEV")?;
        if round == 0 {
            before = chunks(ctx)?;
        }
        ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
        ctx.dev
            .command(abi::MIGRATE_TO_SYS, area.addr(), 0, HUGE as u64)
            .context("MIGRATE_TO_SYS")?;
        check_eq!(area.word(HUGE - 1, 0), round, "data of round {round}");
        // Small pages cannot go as a huge one again; new memory can.
        area.advise(nix::sys::mman::MmapAdvise::MADV_DONTNEED)?;
    }
    let after = chunks(ctx)?;
    ensure!(
        after <= before,
        "ranges of device memory: {before} before, {after} now"
    );
    Ok(())
}

fn clear_flags(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 73)?;
    ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
    ctx.dev.set_flags(0).context("FLAGS with npages = 0")?;
    ctx.to_device(&area, 73)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)
}

fn page_count_wraps(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(2, 74)?;
    let buffer = vec![0u8; 2 * PAGE_SIZE];
    for code in [
        abi::READ,
        abi::WRITE,
        abi::SNAPSHOT,
        abi::MIGRATE_TO_DEV,
        abi::MIGRATE_TO_SYS,
        abi::EXCLUSIVE,
        abi::CHECK_EXCLUSIVE,
        abi::READ_UNLOCKED,
    ] {
        let ptr = buffer.as_ptr() as usize;
        let result = ctx.dev.command(code, area.addr(), ptr, (1 << 52) + 1);
        check_eq!(result.err(), Some(Errno::EINVAL), "ioctl {code:#x}");
    }
    Ok(())
}

fn exact_counts(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 75)?;
    ctx.to_device(&area, 75)?;
    let all = HUGE as u64;
    let cmd = ctx
        .dev
        .command(abi::MIGRATE_TO_SYS, area.addr(), 0, all)
        .context("MIGRATE_TO_SYS")?;
    check_eq!(cmd.cpages, all, "pages of a whole huge folio");
    let cmd = ctx
        .dev
        .command(abi::MIGRATE_TO_SYS, area.addr(), 0, all)
        .context("MIGRATE_TO_SYS")?;
    check_eq!(cmd.cpages, 0, "pages when nothing is on the device");
    area.verify(75)
}

fn exclusive_undone(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(4, 76)?;
    area.unmap(2, 1)?;
    let error = ctx.dev.read_by(abi::EXCLUSIVE, area.addr(), 4).err();
    ensure!(error.is_some(), "EXCLUSIVE over an unmapped page succeeds");
    for page in [0, 1, 3] {
        let exclusive = ctx.dev.command(abi::CHECK_EXCLUSIVE, area.page(page), 0, 1);
        ensure!(exclusive.is_ok(), "page {page} is still exclusive");
    }
    area.verify_pages(76, 0, 2)?;
    // Where nothing is in the way it works, until the CPU touches the page.
    let data = ctx.dev.read_by(abi::EXCLUSIVE, area.addr(), 2)?;
    verify_bytes(76, 0, &data)?;
    let exclusive = ctx.dev.command(abi::CHECK_EXCLUSIVE, area.addr(), 0, 2);
    check_eq!(exclusive.err(), Some(Errno::EPERM), "CHECK_EXCLUSIVE");
    area.verify_pages(76, 0, 2)?;
    let exclusive = ctx.dev.command(abi::CHECK_EXCLUSIVE, area.addr(), 0, 2);
    ensure!(exclusive.is_ok(), "exclusive although the CPU has read it");
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
