// SPDX-License-Identifier: GPL-2.0

//! Destinations for a window: allocated, filled, given.
//!
//! Filling stops at the first destination that cannot be had; what has none stays where it is.

use super::{
    fates::Fate,
    policy::{
        Path,
        Plan, //
    }, //
};
use crate::{
    devmem::{
        Chunk,
        Supply, //
    },
    file::File,
    inject::{
        Faults,
        Point, //
    },
    layer::mm::{
        folio::SystemFolio,
        migrate::{
            Collected,
            Destination,
            Kind,
            Source, //
        },
        pagemap::Pagemap, //
    }, //
};
use core::ops::Range;
use kernel::{
    mm::virt::VmaRef,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// How far filling came.
pub enum Filled {
    /// Not far: the sources must be collected again without COMPOUND.
    SplitBefore,
    /// As far as it could; entries that have no destination have none for this reason.
    Upto(Fate),
}

/// Why there is no destination: an outcome, not an error.
type Made<T> = core::result::Result<T, Fate>;

/// What filling needs to know.
pub struct Filler<'a> {
    /// The file.
    pub file: &'a File,
    /// The VMA.
    pub vma: &'a VmaRef,
    /// The addresses of the entries.
    pub range: Range<usize>,
    /// What is to fail.
    pub faults: Faults<'a>,
    /// Where device memory comes from.
    pub supply: &'a Supply,
}

impl Filler<'_> {
    /// Gives destinations on the device.
    pub fn to_device(&self, collected: &mut Collected<'_>) -> Filled {
        self.fill(collected, |source, huge, _| self.device_folio(source, huge))
    }

    /// Gives destinations in system memory.
    pub fn to_system(&self, collected: &mut Collected<'_>) -> Filled {
        self.fill(collected, |source, huge, address| {
            // Nothing comes out of a hole.
            let source = source.ok_or(Fate::Empty)?;
            let folio = system_folio(&self.faults, huge, || {
                SystemFolio::for_vma(self.vma, address, huge)
            })?;
            copy_back(&self.faults, &source, folio)
        })
    }

    fn fill(
        &self,
        collected: &mut Collected<'_>,
        make: impl Fn(Option<Source<'_>>, bool, usize) -> Made<Destination>,
    ) -> Filled {
        let address = |index: usize| self.range.start + (index << PAGE_SHIFT);
        let mut reason = Fate::NoMemory;
        let huge = match collected.kind(0) {
            Kind::Huge { exclusive } => Some(exclusive),
            Kind::HugeHole => Some(true),
            _ => None,
        };
        if let Some(exclusive) = huge {
            match make(collected.source(0), true, address(0)) {
                Ok(destination) => {
                    if collected.give(0, destination).is_err() {
                        reason = Fate::Core;
                    }
                    return Filled::Upto(reason);
                }
                // Small pages would not be copied either.
                Err(fate @ (Fate::CopyFailed | Fate::Empty)) => return Filled::Upto(fate),
                Err(_) => {}
            }
            match Plan::without_huge_destination(Path::Address, exclusive) {
                Plan::SplitWhileMigrating => {}
                Plan::SplitBefore => return Filled::SplitBefore,
                Plan::SplitMapping | Plan::Leave => return Filled::Upto(reason),
            }
        }
        for index in 0..collected.len() {
            let made = match (huge, collected.kind(index)) {
                // A part of what is at entry 0.
                (Some(_), _) => {
                    let part = collected.source(0).and_then(|source| source.page(index));
                    make(part, false, address(index))
                }
                (None, Kind::Page | Kind::Hole) => {
                    make(collected.source(index), false, address(index))
                }
                _ => continue,
            };
            match made {
                Ok(destination) => {
                    if collected.give(index, destination).is_err() {
                        reason = Fate::Core;
                        break;
                    }
                }
                Err(Fate::Empty) => {}
                Err(fate) => {
                    reason = fate;
                    break;
                }
            }
        }
        Filled::Upto(reason)
    }

    fn device_folio(&self, source: Option<Source<'_>>, huge: bool) -> Made<Destination> {
        if self.faults.fires(alloc_point(huge)) {
            return Err(Fate::NoMemory);
        }
        let folio = self
            .supply
            .alloc(huge, self.file.owner())
            .map_err(|_| Fate::NoMemory)?;
        if self.faults.fires(Point::Copy) {
            return Err(Fate::CopyFailed);
        }
        // What can fail here is memory to stand behind the device's.
        let folio = folio.fill(source).map_err(|error| match error {
            error if error == ENOMEM => Fate::NoMemory,
            _ => Fate::CopyFailed,
        })?;
        Ok(Destination::Device(folio))
    }
}

fn alloc_point(huge: bool) -> Point {
    match huge {
        true => Point::HugeAlloc,
        false => Point::SmallAlloc,
    }
}

/// A destination in system memory.
pub fn system_folio(
    faults: &Faults<'_>,
    huge: bool,
    alloc: impl FnOnce() -> Result<SystemFolio>,
) -> Made<SystemFolio> {
    if faults.fires(alloc_point(huge)) {
        return Err(Fate::NoMemory);
    }
    alloc().map_err(|_| Fate::NoMemory)
}

/// A destination in system memory, filled with the data of a source on the device.
pub fn copy_back(
    faults: &Faults<'_>,
    source: &Source<'_>,
    folio: SystemFolio,
) -> Made<Destination> {
    copy_to(faults, source, folio).map(Destination::System)
}

/// Fills a folio with the data of a source on the device.
pub fn copy_to(faults: &Faults<'_>, source: &Source<'_>, folio: SystemFolio) -> Made<SystemFolio> {
    if faults.fires(Point::Copy) {
        return Err(Fate::CopyFailed);
    }
    take_data(source, folio)
}

/// As [`copy_to`], and nobody makes it fail.
pub fn take_data(source: &Source<'_>, mut folio: SystemFolio) -> Made<SystemFolio> {
    let (memory, offset) = Pagemap::<Chunk>::of_source(source).ok_or(Fate::CopyFailed)?;
    let copied = match memory.data().place(offset) {
        Some((backing, first)) => folio.fill(&backing, first),
        None => folio.fill_from(source),
    };
    copied.map_err(|_| Fate::CopyFailed)?;
    Ok(folio)
}
