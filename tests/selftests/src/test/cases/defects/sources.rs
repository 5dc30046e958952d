// SPDX-License-Identifier: GPL-2.0

//! Memory that the core offers and that must not be taken, or not as it is offered.

use anyhow::{ensure, Result};
use nix::errno::Errno;

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    proc::{
        smaps,
        uffd::{self, Uffd},
    },
    test::{
        case::{Case, Ctx},
        cases::{ksm, mthp, sources, uffd::protected},
        shown::Shown,
    },
};

pub const CASES: &[Case] = &[
    Case::defect(
        "t26.secret_memory",
        "secret memory, which no kernel address reaches, is not migrated",
        Shown::breaks(&["BUG: unable to handle page fault"]),
        secret_memory,
    ),
    Case::defect(
        "t28.folio_held",
        "a folio of 64 KiB that somebody holds keeps 16 pages from the device",
        Shown::fails(&["pages on the device: 0 instead of 496"]),
        folio_held,
    ),
    Case::defect(
        "t29.nohugepage",
        "untouched memory with MADV_NOHUGEPAGE gets no huge page on the device",
        Shown::fails(&["huge pages: 512 instead of 0"]),
        nohugepage,
    ),
    Case::defect(
        "k17.scan",
        "ksmd goes on after pages that it has merged were migrated",
        Shown::breaks(&["BUG: unable to handle page fault"]),
        scan,
    ),
    Case::defect(
        "k17.race",
        "pages are migrated while ksmd merges them: the CPU reaches every page",
        Shown::hangs(),
        race,
    ),
    Case::defect(
        "k18.zero_page",
        "a zero page that is write-protected by userfaultfd stays that",
        Shown::fails(&["pages protected: 0 instead of 16"]),
        zero_page,
    ),
];

fn on_device(ctx: &Ctx, area: &Area) -> Result<usize> {
    let bytes = ctx.dev.snapshot(area.addr(), area.npages())?;
    let is_there = |byte: &&u8| **byte & abi::PROT_KIND == abi::PROT_DEV_PRIVATE_LOCAL;
    Ok(bytes.iter().filter(is_there).count())
}

fn secret_memory(ctx: &Ctx) -> Result<()> {
    let area = sources::secret(8)?;
    area.fill(460);
    let moved = ctx.dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), 8);
    check_eq!(moved.err(), Some(Errno::ENOENT), "MIGRATE_TO_DEV");
    area.verify(460)
}

fn folio_held(ctx: &Ctx) -> Result<()> {
    const PAGES: usize = 16;
    let area = mthp::folios(1, PAGES, 461)?;
    let held = mthp::Held::of(&area, 3)?;
    let moved = ctx.dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE);
    check_eq!(moved.err(), Some(Errno::ENOENT), "MIGRATE_TO_DEV");
    check_eq!(on_device(ctx, &area)?, HUGE - PAGES, "pages on the device");
    held.let_go()?;
    area.verify(461)
}

fn nohugepage(ctx: &Ctx) -> Result<()> {
    let area = Area::small(HUGE)?;
    ctx.go(abi::TO_DEVICE, area.addr(), HUGE)?;
    area.word(77, 0);
    let huge = smaps::of(area.addr(), area.size())?.anon_huge;
    check_eq!(huge, 0, "huge pages");
    Ok(())
}

/// By the ioctl that both drivers have; whatever it answers.
fn send(ctx: &Ctx, area: &Area) {
    let answer = ctx
        .dev
        .read_by(abi::MIGRATE_TO_DEV, area.addr(), area.npages());
    println!("MIGRATE_TO_DEV: {:?}", answer.err());
}

fn scan(ctx: &Ctx) -> Result<()> {
    let mut ksmd = ksm::Ksm::new()?;
    let area = ksm::area(&mut ksmd, |_| true)?;
    send(ctx, &area);
    println!("{} pages on the device", on_device(ctx, &area)?);
    let more = ksm::more(&mut ksmd)?;
    ksmd.scans()?;
    (0..more.npages()).try_for_each(|page| ksm::verify_same(&more, page))?;
    (0..area.npages()).try_for_each(|page| ksm::verify_same(&area, page))
}

fn race(ctx: &Ctx) -> Result<()> {
    ksm::while_merging(|area| {
        send(ctx, area);
        Ok(())
    })
}

fn zero_page(ctx: &Ctx) -> Result<()> {
    const PAGES: usize = 16;
    let area = Area::small(PAGES)?;
    area.touch();
    let uffd = Uffd::register(&area, uffd::FEATURE_WP, uffd::WP)?;
    uffd.protect(area.addr(), PAGES, true)?;
    send(ctx, &area);
    let back = ctx.dev.command(abi::MIGRATE_TO_SYS, area.addr(), 0, 16);
    ensure!(back.is_ok(), "MIGRATE_TO_SYS: {back:?}");
    let protected = protected(&area, 0, PAGES)?;
    check_eq!(protected, PAGES, "pages protected");
    Ok(())
}
