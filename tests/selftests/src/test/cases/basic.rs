// SPDX-License-Identifier: GPL-2.0

//! Nothing fails: whole pages there and back, by every way there is.

use anyhow::{Context, Result};
use nix::errno::Errno;

use crate::{
    abi,
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    device::Device,
    test::{
        case::{Case, Ctx, OnC, NEW_ABI},
        check::{all_at, Place, Rss},
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "whole.there_and_back",
        "a huge page to the device and back, both by ioctl",
        OnC::Passes,
        there_and_back,
    ),
    Case::new(
        "whole.fault",
        "a CPU fault brings the whole huge page back",
        OnC::Passes,
        fault,
    ),
    Case::new(
        "whole.many",
        "four huge pages in one call",
        OnC::Passes,
        many,
    ),
    Case::new(
        "whole.device_read_write",
        "the device reads and writes pages of its own, and the CPU sees it",
        OnC::Passes,
        device_read_write,
    ),
    Case::new(
        "whole.cpu_write",
        "a CPU write to a page on the device is kept",
        OnC::Passes,
        cpu_write,
    ),
    Case::new(
        "small.there_and_back",
        "small pages to the device and back",
        OnC::Passes,
        small,
    ),
    Case::new(
        "whole.exclusive",
        "pages of a huge page become exclusive to the device, until the CPU touches them",
        OnC::Passes,
        exclusive,
    ),
    Case::new(
        "whole.other_device",
        "another device's read brings the page home",
        OnC::Passes,
        other_device,
    ),
    Case::new(
        "whole.release",
        "RELEASE gives the device's memory back with the data intact",
        OnC::Passes,
        release,
    ),
    Case::new(
        "whole.memory_comes_back",
        "two hundred rounds use no more system memory than one",
        OnC::Passes,
        memory_comes_back,
    ),
    Case::new(
        "whole.small_memory_comes_back",
        "sixty rounds with small pages use no more system memory than one",
        NEW_ABI,
        small_memory_comes_back,
    ),
];

fn there_and_back(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 1)?;
    let rss = Rss::now()?;
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)?;
    if let Some(result) = ctx.to_device(&area, 1)? {
        check_eq!(result.whole, HUGE as u64, "migrated whole");
        check_eq!(result.collected, HUGE as u64, "collected");
        check_eq!(result.retries, 0, "retries");
        for (phase, ns) in [
            ("setup", result.ns_setup),
            ("copy", result.ns_copy),
            ("pages", result.ns_pages),
            ("finalize", result.ns_finalize),
            ("readback", result.ns_readback),
        ] {
            anyhow::ensure!(ns > 0, "no time spent in {phase}");
        }
        let stats = ctx.dev.stats()?;
        check_eq!(stats.pages_mine, HUGE as u64, "device pages of this file");
    }
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    rss.unchanged(area.size())?;
    if let Some(result) = ctx.to_system(&area)? {
        check_eq!(result.whole, HUGE as u64, "migrated back whole");
        check_eq!(ctx.dev.stats()?.pages_mine, 0, "device pages of this file");
    }
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)?;
    area.verify(1)?;
    rss.unchanged(area.size())
}

fn fault(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 2)?;
    ctx.to_device(&area, 2)?;
    let before = ctx.dev.stats().unwrap_or_default().faulted;
    area.word(300, 5);
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)?;
    area.verify(2)?;
    if ctx.rust() {
        let faulted = ctx.dev.stats()?.faulted - before;
        check_eq!(faulted, HUGE as u64, "pages counted as faulted back");
    }
    Ok(())
}

fn many(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(4, 3)?;
    if let Some(result) = ctx.to_device(&area, 3)? {
        check_eq!(result.whole, 4 * HUGE as u64, "migrated whole");
    }
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    if let Some(result) = ctx.to_system(&area)? {
        check_eq!(result.whole, 4 * HUGE as u64, "migrated back whole");
    }
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)?;
    area.verify(3)
}

fn device_read_write(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 4)?;
    ctx.to_device(&area, 4)?;
    let data = ctx.dev.read(area.page(7), 100).context("READ")?;
    verify_bytes(4, 7, &data)?;
    ctx.dev
        .write(area.page(32), &pattern_bytes(5, 32, 64))
        .context("WRITE")?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    area.verify_pages(4, 0, 32)?;
    area.verify_pages(5, 32, 64)?;
    area.verify_pages(4, 96, HUGE - 96)
}

fn cpu_write(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 6)?;
    ctx.to_device(&area, 6)?;
    area.set_word(99, 0, 42);
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)?;
    check_eq!(area.word(99, 0), 42, "the word written");
    area.verify_pages(6, 0, 99)?;
    area.verify_pages(6, 100, HUGE - 100)
}

fn small(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(100, 7)?;
    let rss = Rss::now()?;
    if let Some(result) = ctx.to_device(&area, 7)? {
        check_eq!(result.small, 100, "migrated small");
    }
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceSmall)?;
    area.word(50, 0);
    crate::test::check::pages_at(&ctx.dev, ctx.driver, &area, 50, 1, Place::SystemSmall)?;
    if ctx.rust() {
        let result = ctx.migrate_all(abi::TO_SYSTEM, &area)?;
        check_eq!(result.small, 99, "migrated back small");
    } else {
        ctx.to_system(&area)?;
    }
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemSmall)?;
    area.verify(7)?;
    rss.unchanged(area.size())
}

fn exclusive(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 10)?;
    let data = ctx
        .dev
        .read_by(abi::EXCLUSIVE, area.page(5), 20)
        .context("EXCLUSIVE")?;
    verify_bytes(10, 5, &data)?;
    let check = |page| ctx.dev.command(abi::CHECK_EXCLUSIVE, area.page(page), 0, 1);
    check_eq!(check(24).err(), Some(Errno::EPERM), "CHECK_EXCLUSIVE");
    check_eq!(check(25).err(), None, "CHECK_EXCLUSIVE of the page behind");
    area.verify(10)?;
    check_eq!(
        check(24).err(),
        None,
        "CHECK_EXCLUSIVE after the CPU's access"
    );
    Ok(())
}

fn other_device(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 8)?;
    let other = Device::open(1)?;
    ctx.to_device(&area, 8)?;
    let data = other.read(area.addr(), area.npages()).context("READ")?;
    verify_bytes(8, 0, &data)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)?;
    area.verify(8)
}

fn release(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(2, 9)?;
    ctx.to_device(&area, 9)?;
    ctx.dev
        .command(abi::RELEASE, area.addr(), 0, 1)
        .context("RELEASE")?;
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)?;
    area.verify(9)?;
    if ctx.rust() {
        check_eq!(ctx.dev.stats()?.pages_used, 0, "device pages in use");
    }
    // The device must be usable again.
    ctx.to_device(&area, 9)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)
}

/// A page of system memory whose reference is leaked in each round is 400 MiB in the end.
fn memory_comes_back(ctx: &Ctx) -> Result<()> {
    let round = |_| -> Result<()> {
        let area = Area::huge(1)?;
        for page in 0..HUGE {
            area.set_word(page, 0, 1);
        }
        let npages = area.npages() as u64;
        let mut buffer = vec![0u8; area.size()];
        let ptr = buffer.as_mut_ptr() as usize;
        ctx.dev
            .command(abi::MIGRATE_TO_DEV, area.addr(), ptr, npages)?;
        area.word(0, 0);
        Ok(())
    };
    keeps_memory(200, round)
}

/// If half of the pages that come back leak, 60 MiB are lost in the end.
fn small_memory_comes_back(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(HUGE, 10)?;
    keeps_memory(60, |_| {
        let there = ctx.dev.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
        let back = ctx.dev.migrate(abi::TO_SYSTEM, area.addr(), HUGE)?;
        check_eq!(there.small.min(back.small), HUGE as u64, "small pages");
        Ok(())
    })
}

/// Fails if each round loses a quarter of a huge page of system memory or more.
fn keeps_memory(rounds: usize, round: impl Fn(usize) -> Result<()>) -> Result<()> {
    (0..20).try_for_each(&round)?;
    let before = crate::proc::available()?;
    (0..rounds).try_for_each(&round)?;
    let after = crate::proc::available()?;
    let lost = before.saturating_sub(after);
    anyhow::ensure!(
        lost < rounds * HUGE / 4,
        "{lost} pages of system memory fewer than before"
    );
    Ok(())
}
