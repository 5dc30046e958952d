// SPDX-License-Identifier: GPL-2.0

//! Folios of orders between a page and a huge page. The collector splits them. One that cannot be split, because of an
//! extra reference, must stay without keeping other pages from migrating.

use std::{fs::File, io::Read, os::fd::AsRawFd};

use anyhow::{ensure, Context, Result};
use nix::{errno::Errno, libc, sys::mman::MmapAdvise};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    device::PAGE_SIZE,
    proc::{
        pagemap,
        sysfs::{Settings, THP},
    },
    test::{
        case::{Case, Ctx, NEW_ABI},
        cases::shared::{both_keep_their_data, sharer},
        check::{all_at, Place},
        child::pipe,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "mthp.all_sizes",
        "folios of each size from 16 KiB to 1 MiB: all move, and come back",
        NEW_ABI,
        |ctx| each_size(ctx, |_| vec![]),
    ),
    Case::new(
        "mthp.first_held",
        "the first folio of a huge page is held: it stays, and no other",
        NEW_ABI,
        |ctx| each_size(ctx, |_| vec![0]),
    ),
    Case::new(
        "mthp.middle_held",
        "the same with one in the middle",
        NEW_ABI,
        |ctx| each_size(ctx, |folios| vec![folios / 2]),
    ),
    Case::new(
        "mthp.last_held",
        "the same with the last one",
        NEW_ABI,
        |ctx| each_size(ctx, |folios| vec![folios - 1]),
    ),
    Case::new(
        "mthp.several_held",
        "several are held, two of them neighbours",
        NEW_ABI,
        |ctx| each_size(ctx, |folios| (0..folios).filter(|at| at % 7 < 2).collect()),
    ),
    Case::new(
        "mthp.all_held",
        "every folio is held: nothing moves, and it ends soon",
        NEW_ABI,
        |ctx| each_size(ctx, |folios| (0..folios).collect()),
    ),
    Case::new(
        "mthp.part_of_a_huge_page",
        "the range begins and ends inside folios, one of which is held",
        NEW_ABI,
        part,
    ),
    Case::new(
        "mthp.held_and_shared",
        "one is held of folios that are shared by fork",
        NEW_ABI,
        held_and_shared,
    ),
];

/// Pages of the folios that are tried: 16 KiB to 1 MiB.
const SIZES: [usize; 7] = [4, 8, 16, 32, 64, 128, 256];

/// How often the driver tries again what is refused.
const RETRIES: u64 = 4;

/// `huge` huge pages' worth of folios of so many pages.
pub fn folios(huge: usize, pages: usize, seed: u64) -> Result<Area> {
    let mut settings = Settings::default();
    let size = format!("hugepages-{}kB/enabled", pages * PAGE_SIZE / 1024);
    settings.set(THP, "hugepages-2048kB/enabled", "never")?;
    settings.set(THP, &size, "always")?;
    let area = Area::small(huge * HUGE)?;
    area.advise(MmapAdvise::MADV_HUGEPAGE)?;
    area.fill(seed);
    for entry in pagemap::of(area.addr(), area.npages())? {
        let pfn = entry.pfn().context("no page frame number")?;
        let flags = pagemap::flags(pfn)?;
        ensure!(
            flags & pagemap::KPF_COMPOUND != 0,
            "no large folio to be had"
        );
    }
    Ok(area)
}

/// A reference on the folio of a page, until this goes.
pub struct Held {
    read: File,
    _write: File,
}

impl Held {
    pub fn of(area: &Area, page: usize) -> Result<Held> {
        let (read, write) = pipe()?;
        let bytes = libc::iovec {
            iov_base: area.page(page) as *mut _,
            iov_len: 1,
        };
        // SAFETY: one byte of memory that is there.
        let done = unsafe { libc::vmsplice(write.as_raw_fd(), &bytes, 1, 0) };
        check_eq!(Errno::result(done).context("vmsplice")?, 1, "bytes");
        Ok(Held {
            read,
            _write: write,
        })
    }

    pub fn let_go(mut self) -> Result<()> {
        self.read.read_exact(&mut [0]).context("the pipe")
    }
}

/// Migrates with extra references on the folios that `which` selects, then without any.
fn each_size(ctx: &Ctx, which: fn(usize) -> Vec<usize>) -> Result<()> {
    for pages in SIZES {
        println!("folios of {pages} pages:");
        let area = folios(1, pages, 450)?;
        let held = which(HUGE / pages);
        let holders: Vec<_> = held
            .iter()
            .map(|at| Held::of(&area, at * pages + (at + 1) % pages))
            .collect::<Result<_>>()?;
        let stay = (held.len() * pages) as u64;
        let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
        check_eq!(result.moved(), HUGE as u64 - stay, "pages moved");
        check_eq!(result.refused[abi::REFUSED_COLLECT], stay, "not offered");
        let retries = if held.is_empty() { 0 } else { RETRIES };
        check_eq!(result.retries, retries, "retries");
        area.verify(450)?;
        let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
        check_eq!(result.moved(), HUGE as u64 - stay, "pages moved again");
        holders.into_iter().try_for_each(Held::let_go)?;
        ctx.migrate_all(abi::TO_DEVICE, &area)?;
        all_at(&ctx.dev, ctx.driver, &area, Place::DeviceSmall)?;
        ctx.to_system(&area)?;
        area.verify(450)?;
    }
    Ok(())
}

fn part(ctx: &Ctx) -> Result<()> {
    const PAGES: usize = 16;
    let area = folios(2, PAGES, 451)?;
    // Behind the boundary of a huge page.
    let held = Held::of(&area, HUGE + 5)?;
    let (first, npages) = (HUGE - 20, 60);
    let result = ctx.migrate(abi::TO_DEVICE, area.page(first), npages)?;
    check_eq!(result.moved(), (npages - PAGES) as u64, "pages moved");
    area.verify(451)?;
    held.let_go()?;
    ctx.go(abi::TO_DEVICE, area.page(first), npages)?;
    area.verify(451)
}

fn held_and_shared(ctx: &Ctx) -> Result<()> {
    const PAGES: usize = 16;
    let area = folios(1, PAGES, 452)?;
    let held = Held::of(&area, 40)?;
    let peer = sharer(&area, 452)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.moved(), (HUGE - PAGES) as u64, "pages moved");
    held.let_go()?;
    both_keep_their_data(peer, &area, 452)
}
