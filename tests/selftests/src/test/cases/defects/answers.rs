// SPDX-License-Identifier: GPL-2.0

//! What the ioctls answer: arguments, counts, and what they leave behind after an error.

use anyhow::{ensure, Context, Result};
use nix::{errno::Errno, libc};

use crate::{
    abi,
    area::{verify_bytes, Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    proc::cgroup::Group,
    test::{
        case::{Case, Ctx},
        check::{all_at, Place},
        child::Skip,
        shown::Shown,
    },
};

pub const CASES: &[Case] = &[
    Case::defect(
        "t12.mmap_charged",
        "what mmap of the node makes the kernel allocate is charged to the process",
        Shown::fails(&["not charged for a mapping of 8 MiB"]),
        mmap_charged,
    ),
    Case::defect(
        "t15.clear_flags",
        "FLAGS can be cleared",
        Shown::fails(&["FLAGS with npages = 0: EINVAL"]),
        clear_flags,
    ),
    Case::defect(
        "t16.page_count_wraps",
        "a page count whose bytes wrap is refused",
        Shown::fails(&["ioctl 0xc0284800: None instead of Some(EINVAL)"]),
        page_count_wraps,
    ),
    Case::defect(
        "t18.exact_counts",
        "cpages of the old ioctls counts pages, those that moved and no others",
        Shown::fails(&["pages of a whole huge folio: 1 instead of 512"]),
        exact_counts,
    ),
    Case::defect(
        "t20.skipped_pages",
        "holes before, between and behind huge pages, from an odd page on: all pages come back",
        Shown::passes(&["a window is one PMD and holds one huge folio, nothing follows it"]),
        skipped_pages,
    ),
    Case::defect(
        "t23.exclusive_undone",
        "EXCLUSIVE over a hole fails and leaves no page exclusive",
        Shown::fails(&["page 0 is still exclusive"]),
        exclusive_undone,
    ),
    Case::defect(
        "t23.snapshot_inside",
        "a snapshot that starts inside a huge device page tells each page as it is",
        Shown::passes(&["all pages of a huge entry have the same answer"]),
        snapshot_inside,
    ),
];

fn mmap_charged(ctx: &Ctx) -> Result<()> {
    const SIZE: usize = 8 << 20;
    let memcg = Group::enter().map_err(|error| Skip(format!("no memory cgroup: {error:#}")))?;
    let before = memcg.charged()?;
    // SAFETY: the kernel chooses a free range, which nothing uses.
    let mapping = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            ctx.dev.fd(),
            0,
        )
    };
    ensure!(mapping != libc::MAP_FAILED, "mmap: {}", Errno::last());
    let charged = memcg.charged()?.saturating_sub(before);
    // SAFETY: the range that was just mapped.
    unsafe { libc::munmap(mapping, SIZE) };
    println!("{charged} bytes");
    ensure!(charged >= SIZE, "not charged for a mapping of 8 MiB");
    let left = memcg.charged()?.saturating_sub(before);
    ensure!(left < SIZE / 2, "{left} bytes after the mapping's end");
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

fn skipped_pages(ctx: &Ctx) -> Result<()> {
    let area = Area::huge(4)?;
    // Huge pages 1 and 3; a few small pages in 0, nothing in 2.
    let huge = Area::filled(1, 78)?;
    drop(huge);
    for page in (HUGE - 40..2 * HUGE).chain(3 * HUGE..4 * HUGE) {
        area.set_word(page, 2, page as u64);
    }
    let buffer = vec![0u8; area.size()];
    for (first, npages) in [(HUGE, HUGE), (3 * HUGE, HUGE)] {
        let ptr = buffer.as_ptr() as usize;
        ctx.dev
            .command(abi::MIGRATE_TO_DEV, area.page(first), ptr, npages as u64)
            .context("MIGRATE_TO_DEV")?;
    }
    // Windows that begin at an odd page, and one that meets a hole after a huge page.
    for first in [HUGE - 37, 0] {
        let npages = area.npages() - first;
        ctx.dev
            .command(abi::MIGRATE_TO_SYS, area.page(first), 0, npages as u64)
            .context("MIGRATE_TO_SYS")?;
        let bytes = ctx.dev.snapshot(area.addr(), area.npages())?;
        for (page, byte) in bytes.iter().enumerate() {
            check_eq!(byte & abi::PROT_KIND, 0, "page {page}: kind of memory");
        }
    }
    for page in (HUGE - 40..2 * HUGE).chain(3 * HUGE..4 * HUGE) {
        check_eq!(area.word(page, 2), page as u64, "page {page}");
    }
    Ok(())
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

fn snapshot_inside(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(2, 79)?;
    let first = Device::open(0)?;
    first.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)?;
    let device = abi::PROT_DEV_PRIVATE_LOCAL | abi::PROT_WRITE | abi::PROT_PMD;
    let system = abi::PROT_WRITE | abi::PROT_PMD;
    // From inside the device page into the system page behind it.
    for from in [1, 31, HUGE - 33, HUGE - 1] {
        let bytes = ctx.dev.snapshot(area.page(from), 64).context("SNAPSHOT")?;
        for (index, &byte) in bytes.iter().enumerate() {
            let wanted = if from + index < HUGE { device } else { system };
            check_eq!(
                byte,
                wanted,
                "page {} of a snapshot from {from}",
                from + index
            );
        }
    }
    area.verify(79)
}
