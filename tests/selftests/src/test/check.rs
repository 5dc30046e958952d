// SPDX-License-Identifier: GPL-2.0

//! Checks of a range of memory by three sources: the driver, the page tables (`/proc/self/pagemap`, `smaps`), and
//! the data.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{ensure, Context, Result};

use crate::{
    abi,
    area::Area,
    device::{Device, Driver, PAGE_SIZE},
    proc::{self, pagemap, smaps},
};

/// Fails if two values differ, with both values and the text.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr, $($what:tt)+) => {{
        let (left, right) = (&$left, &$right);
        anyhow::ensure!(
            left == right,
            "{}: {:?} instead of {:?}", format_args!($($what)+), left, right
        );
    }};
}

/// The counts of one in this many pages are compared; on a slow kernel not those of each page.
pub static EVERY: AtomicUsize = AtomicUsize::new(1);

/// Where all pages of a range must be, and how they must be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// System memory, mapped by huge entries.
    SystemHuge,
    /// System memory, mapped by PTEs.
    SystemSmall,
    DeviceHuge,
    DeviceSmall,
    /// Memory of a coherent device, which the CPU can access.
    CoherentSmall,
}

impl Place {
    fn on_device(self) -> bool {
        self.private() || self == Place::CoherentSmall
    }

    /// Returns whether the CPU cannot access it, and finds a device-private entry instead.
    fn private(self) -> bool {
        matches!(self, Place::DeviceHuge | Place::DeviceSmall)
    }

    fn huge(self) -> bool {
        matches!(self, Place::SystemHuge | Place::DeviceHuge)
    }
}

/// Checks that all of `area` is in `place`.
pub fn all_at(dev: &Device, driver: Driver, area: &Area, place: Place) -> Result<()> {
    by_smaps(area, place).with_context(|| format!("{place:?} by smaps"))?;
    pages_at(dev, driver, area, 0, area.npages(), place)
}

/// Checks that `npages` of `area` from `first` on are in `place`.
pub fn pages_at(
    dev: &Device,
    driver: Driver,
    area: &Area,
    first: usize,
    npages: usize,
    place: Place,
) -> Result<()> {
    let range = || format!("pages {first}+{npages}: {place:?}");
    let entries = by_pagemap(area, first, npages, place)
        .with_context(|| format!("{} by pagemap", range()))?;
    by_snapshot(dev, area, first, npages, place)
        .with_context(|| format!("{} by the device's snapshot", range()))?;
    if driver == Driver::Rust {
        let step = if place.huge() { 64 } else { 1 } * EVERY.load(Ordering::Relaxed);
        for (page, entry) in (first..).zip(entries).step_by(step) {
            by_counts(dev, area, page, entry, place)
                .with_context(|| format!("page {page}: {place:?}"))?;
        }
    }
    Ok(())
}

fn by_smaps(area: &Area, place: Place) -> Result<()> {
    let wanted = smaps::Smaps {
        rss: area.npages(),
        anon_huge: if place.huge() { area.npages() } else { 0 },
        swap: 0,
    };
    check_eq!(smaps::of(area.addr(), area.size())?, wanted, "pages mapped");
    Ok(())
}

fn by_pagemap(
    area: &Area,
    first: usize,
    npages: usize,
    place: Place,
) -> Result<Vec<pagemap::Entry>> {
    let entries = pagemap::of(area.page(first), npages)?;
    for (index, entry) in entries.iter().enumerate() {
        let page = first + index;
        check_eq!(entry.swap(), place.private(), "page {page}: a device entry");
        check_eq!(entry.present(), !place.private(), "page {page}: present");
    }
    Ok(entries)
}

fn by_snapshot(dev: &Device, area: &Area, first: usize, npages: usize, place: Place) -> Result<()> {
    let bytes = dev.snapshot(area.page(first), npages).context("SNAPSHOT")?;
    for (index, &byte) in bytes.iter().enumerate() {
        let page = first + index;
        let kind = match place {
            Place::CoherentSmall => abi::PROT_DEV_COHERENT_LOCAL,
            _ if place.private() => abi::PROT_DEV_PRIVATE_LOCAL,
            _ => 0,
        };
        ensure!(byte != abi::PROT_ERROR, "page {page}: an error entry");
        check_eq!(byte & abi::PROT_KIND, kind, "page {page}: kind of memory");
        ensure!(byte & 0x03 != 0, "page {page}: {byte:#x}: nothing mapped");
        check_eq!(
            byte & abi::PROT_PMD != 0,
            place.huge(),
            "page {page}: mapped huge"
        );
    }
    Ok(())
}

/// Checks the counts of a page's folio: those of the driver must be consistent, also with the page tables.
fn by_counts(
    dev: &Device,
    area: &Area,
    page: usize,
    entry: pagemap::Entry,
    place: Place,
) -> Result<()> {
    let addr = area.page(page);
    let mut info = dev.page(addr).context("RUST_DMIRROR_PAGE")?;
    if info.refs != info.expected {
        proc::drain_lru();
        info = dev.page(addr).context("RUST_DMIRROR_PAGE")?;
    }
    let wanted = if place.on_device() {
        abi::DEVICE
    } else {
        abi::SYSTEM
    };
    check_eq!(info.where_, wanted, "where");
    check_eq!(
        info.map_order,
        if place.huge() { 9 } else { 0 },
        "map order"
    );
    check_eq!(
        info.refs,
        info.expected,
        "references (nobody else holds any)"
    );
    check_eq!(info.flags & abi::PAGE_LOCKED, 0, "locked");
    check_eq!(info.flags & abi::PAGE_ANON, abi::PAGE_ANON, "anonymous");
    // A page on a per-CPU list on its way to the LRU has one more reference than expected.
    check_eq!(
        info.flags & abi::PAGE_LRU != 0,
        !place.on_device(),
        "on a list of the LRU"
    );
    check_eq!(
        info.flags & abi::PAGE_PRIVATE != 0,
        place.private(),
        "device-private"
    );
    check_eq!(
        info.flags & abi::PAGE_COHERENT != 0,
        place == Place::CoherentSmall,
        "device-coherent"
    );
    ensure!(
        place.huge() <= (info.order == 9),
        "a huge mapping of a folio of order {}",
        info.order
    );
    if let Some(pfn) = entry.pfn() {
        check_eq!(info.pfn, pfn, "page frame number, by pagemap");
        // kpagecount is 0 for all device memory, since it is not online.
        let in_system = entry.present() && !place.on_device();
        if let (true, 0, Some(mapcount)) = (in_system, info.order, pagemap::mapcount(pfn)) {
            check_eq!(
                u64::from(info.mapcount),
                mapcount,
                "map count, by kpagecount"
            );
        }
    }
    Ok(())
}

/// Returns the order of a page's folio.
pub fn order(dev: &Device, area: &Area, page: usize) -> Result<u32> {
    Ok(dev
        .page(area.page(page))
        .context("RUST_DMIRROR_PAGE")?
        .order)
}

/// The process's count of anonymous pages, to be compared later.
pub struct Rss(usize);

impl Rss {
    pub fn now() -> Result<Rss> {
        Ok(Rss(proc::rss_anon()?))
    }

    /// Checks that the count has not changed, except for what this program has allocated itself.
    pub fn unchanged(&self, slack_bytes: usize) -> Result<()> {
        let (before, after) = (self.0, proc::rss_anon()?);
        let slack = slack_bytes.div_ceil(PAGE_SIZE) + 96;
        ensure!(
            before.abs_diff(after) <= slack,
            "anonymous pages of the process: {after}, before {before}"
        );
        Ok(())
    }
}
