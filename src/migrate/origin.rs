// SPDX-License-Identifier: GPL-2.0

//! Copies out of the device's memory, to where pages are brought back.

use super::{
    fates::Fate,
    fill::Made, //
};
use crate::{
    devmem::Chunk,
    inject::{
        Faults,
        Point, //
    },
    layer::mm::{
        backing::Backing,
        migrate::{
            Destination,
            Source, //
        },
        pagemap::Pagemap,
        system::SystemFolio,
        HUGE_PAGES, //
    }, //
};
use core::ops::Range;
use kernel::sync::Arc;

/// Where data comes from: what stands behind the block of the last page, since the next one is mostly of
/// the same.
///
/// For pages that were collected together: while one of them is, the block keeps what is behind it.
#[derive(Default)]
pub struct Origin(Option<(Range<usize>, Arc<Backing>)>);

impl Origin {
    /// Fills a folio with the data of a source on the device.
    pub fn take(&mut self, source: &Source<'_>, mut folio: SystemFolio) -> Made<SystemFolio> {
        let pfn = source.pfn();
        let copied = match &self.0 {
            Some((pfns, backing)) if pfns.contains(&pfn) => folio.fill(backing, pfn - pfns.start),
            _ => {
                let (memory, offset) =
                    Pagemap::<Chunk>::of_source(source).ok_or(Fate::CopyFailed)?;
                match memory.data().place(offset) {
                    Some((backing, first)) => {
                        let copied = folio.fill(&backing, first);
                        let block = pfn - first;
                        self.0 = Some((block..block + HUGE_PAGES, backing));
                        copied
                    }
                    None => folio.fill_from(source),
                }
            }
        };
        copied.map_err(|_| Fate::CopyFailed)?;
        Ok(folio)
    }
}

/// As [`Origin::take`], if nothing is to fail.
pub fn copy_to(
    faults: &Faults<'_>,
    origin: &mut Origin,
    source: &Source<'_>,
    folio: SystemFolio,
) -> Made<SystemFolio> {
    if faults.fires(Point::Copy) {
        return Err(Fate::CopyFailed);
    }
    origin.take(source, folio)
}

/// As [`copy_to`], for a destination.
pub fn copy_back(
    faults: &Faults<'_>,
    origin: &mut Origin,
    source: &Source<'_>,
    folio: SystemFolio,
) -> Made<Destination> {
    copy_to(faults, origin, source, folio).map(Destination::System)
}
