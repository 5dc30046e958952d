// SPDX-License-Identifier: GPL-2.0

//! The memory, the device and the timed operations: the ten ioctls of test_hmm, which both drivers have.

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

/// The limits of a measurement in one child.
#[derive(Clone, Copy)]
pub struct Effort {
    pub most: usize,
    pub budget: Duration,
}

impl Effort {
    /// Calls `each` until a limit is reached, at least once.
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

/// Maps memory with pages of this kind, all of them allocated.
pub fn memory(pages: Pages, bytes: u64) -> Result<Area> {
    let npages = bytes as usize / PAGE_SIZE;
    let area = match pages {
        Pages::Huge => Area::huge(npages / HUGE)?,
        Pages::Small => Area::small(npages)?,
    };
    populate(&area, pages)?;
    Ok(area)
}

/// Writes to every page. If huge pages are wanted and some are not huge, collapses them; fails if that does not help.
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

/// An open device, and memory that is migrated to it. The order of the fields matters: the device is closed before the
/// memory is unmapped, so it does not see that. No memory is on the device by then.
pub struct Work {
    dev: Device,
    pub area: Area,
    /// The buffer to which the ioctls read back, from its second page on. Under QEMU, a copy between pages at the same
    /// offset in their 2 MiB was seen to take up to fifteen times as long, since they can share an entry of its TLB.
    /// Buffers of other programs need not be aligned either.
    mirror: Area,
    pages: Pages,
}

impl Work {
    /// Opens the device, maps the memory and warms up: migrates all of it to the device and back, and checks where it
    /// is each time.
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

    /// Returns the address to which the ioctls read back.
    pub fn buffer(&self) -> usize {
        self.mirror.page(1)
    }

    /// Returns the first page of each piece that needs a CPU fault: of each huge page, or every small page.
    pub fn pieces(&self) -> Vec<usize> {
        let step = match self.pages {
            Pages::Huge => HUGE,
            Pages::Small => 1,
        };
        (0..self.area.npages()).step_by(step).collect()
    }

    /// Calls an ioctl for all of the area, and returns the nanoseconds that it takes.
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

    /// Replaces the pages with new ones, which have no entries in a device's page table, and are mapped by PMDs if they
    /// are huge.
    pub fn renew(&self) -> Result<()> {
        self.area.advise(MmapAdvise::MADV_DONTNEED)?;
        populate(&self.area, self.pages)
    }
}
