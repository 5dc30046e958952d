// SPDX-License-Identifier: GPL-2.0

//! Memory, a device, and what is timed: the ten old ioctls, which both drivers have.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use nix::sys::mman::MmapAdvise;

use super::{record::Pages, rows::MIB};
use crate::{
    abi,
    area::{Area, HUGE},
    device::{Device, PAGE_SIZE},
    proc::{pagemap, smaps},
};

/// How long one child measures.
#[derive(Clone, Copy)]
pub struct Effort {
    pub most: usize,
    pub budget: Duration,
}

impl Effort {
    /// Calls `each` until that is enough, once at least.
    pub fn repeat(&self, mut each: impl FnMut() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        for _ in 0..self.most.max(1) {
            each()?;
            if begin.elapsed() >= self.budget {
                break;
            }
        }
        Ok(())
    }
}

pub fn nanos(begin: Instant) -> u64 {
    begin.elapsed().as_nanos() as u64
}

/// Memory of either kind, all of it there.
pub fn memory(pages: Pages, bytes: u64) -> Result<Area> {
    let npages = bytes as usize / PAGE_SIZE;
    let area = match pages {
        Pages::Huge => Area::huge(npages / HUGE)?,
        Pages::Small => Area::small(npages)?,
    };
    populate(&area, pages)?;
    Ok(area)
}

/// Writes to every page, and sees that they are of the kind that is wanted.
pub fn populate(area: &Area, pages: Pages) -> Result<()> {
    for page in 0..area.npages() {
        area.set_word(page, 0, page as u64 + 1);
    }
    let huge = || smaps::of(area.addr(), area.size()).map(|seen| seen.anon_huge);
    if pages == Pages::Huge && huge()? != area.npages() {
        area.collapse().context("no huge page to be had")?;
        ensure!(huge()? == area.npages(), "not all of it is huge pages");
    }
    Ok(())
}

/// An open device, and memory that goes there. The device is closed first: it must not see the memory
/// unmapped, and by then it has none of it.
pub struct Work {
    dev: Device,
    pub area: Area,
    /// What the ioctls read back to, from its second page on. Under QEMU, a copy between pages at the
    /// same place in their 2 MiB was seen to take up to fifteen times as long: they can share an entry
    /// of its TLB. Nobody promises that a buffer is aligned.
    mirror: Area,
    pages: Pages,
}

impl Work {
    /// Warmed up: all has been on the device once, is back, and was seen to be in either place.
    pub fn new(node: &Path, pages: Pages, bytes: u64) -> Result<Work> {
        let area = memory(pages, bytes)?;
        let mirror = memory(Pages::Huge, bytes.next_multiple_of(2 * MIB) + 2 * MIB)?;
        let work = Work {
            dev: Device::open_node(node)?,
            area,
            mirror,
            pages,
        };
        work.to_device()?;
        ensure!(work.is_on_device()?, "not all pages are on the device");
        work.to_system()?;
        let there = pagemap::of(work.area.addr(), work.area.npages())?;
        ensure!(there.iter().all(|page| page.present()), "pages are missing");
        for page in [0, work.area.npages() - 1] {
            let seen = work.area.word(page, 0);
            ensure!(seen == page as u64 + 1, "page {page} came back as {seen}");
        }
        Ok(work)
    }

    pub fn device(&self) -> &Device {
        &self.dev
    }

    /// Where the ioctls read back to.
    pub fn buffer(&self) -> usize {
        self.mirror.page(1)
    }

    /// The first page of each piece that a fault brings back.
    pub fn pieces(&self) -> Vec<usize> {
        let step = match self.pages {
            Pages::Huge => HUGE,
            Pages::Small => 1,
        };
        (0..self.area.npages()).step_by(step).collect()
    }

    /// All of the area, timed.
    pub fn time(&self, code: u32) -> Result<u64> {
        let (addr, ptr) = (self.area.addr(), self.buffer());
        let begin = Instant::now();
        let done = self.dev.command(code, addr, ptr, self.area.npages() as u64);
        let ns = nanos(begin);
        done.with_context(|| format!("ioctl {code:#x}"))?;
        Ok(ns)
    }

    pub fn to_device(&self) -> Result<u64> {
        self.time(abi::MIGRATE_TO_DEV)
    }

    pub fn to_system(&self) -> Result<u64> {
        self.time(abi::MIGRATE_TO_SYS)
    }

    pub fn is_on_device(&self) -> Result<bool> {
        let there = pagemap::of(self.area.addr(), self.area.npages())?;
        Ok(there.iter().all(|page| page.swap()))
    }

    /// Makes it as new: no page table of a device knows it, no huge page is mapped in parts.
    pub fn renew(&self) -> Result<()> {
        self.area.advise(MmapAdvise::MADV_DONTNEED)?;
        populate(&self.area, self.pages)
    }
}
