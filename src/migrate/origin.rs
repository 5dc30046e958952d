// SPDX-License-Identifier: GPL-2.0

//! Copies data from device memory to destinations in system memory.

use crate::{
    device::chunk::{
        Chunk,
        ChunkPagemap, //
    },
    inject::{
        Injection,
        Point, //
    },
    layer::mm::{
        backing::Backing,
        migrate::{
            Destination,
            Source, //
        },
        pagemap::Pagemap,
        system::{
            Blank,
            SystemFolio, //
        },
        HUGE_PAGES, //
    },
    policy::fates::{
        Fate,
        Made, //
    }, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Finds the data of device pages, and keeps what it found for the next page.
///
/// All pages must be of one migration: while a page is collected, its block keeps its backing memory.
#[derive(Default)]
pub(crate) struct Origin<'a> {
    /// The chunk that probably has the pages.
    chunk: Option<&'a ChunkPagemap>,
    /// The PFNs and the backing memory of the last page's block, which mostly is the next page's block as well.
    block: Option<(Range<usize>, Arc<Backing>)>,
}

impl<'a> Origin<'a> {
    /// For pages that are probably all of this chunk.
    pub(super) fn of(chunk: &'a ChunkPagemap) -> Self {
        Origin {
            chunk: Some(chunk),
            block: None,
        }
    }

    /// Fills a folio with the data of a source on the device.
    pub(super) fn take(&mut self, source: &Source<'_>, folio: Blank) -> Made<SystemFolio> {
        let pfn = source.pfn();
        let filled = match &self.block {
            Some((pfns, backing)) if pfns.contains(&pfn) => folio.fill(backing, pfn - pfns.start),
            _ => self.look(source, folio),
        };
        filled.map_err(|_| Fate::CopyFailed)
    }

    fn look(&mut self, source: &Source<'_>, folio: Blank) -> Result<SystemFolio> {
        let pfn = source.pfn();
        let known = self.chunk.filter(|chunk| chunk.pfns().contains(&pfn));
        let (chunk, offset) = match known {
            Some(chunk) => (chunk, pfn - chunk.pfns().start),
            None => Pagemap::<Chunk>::of_source(source).ok_or(EINVAL)?,
        };
        let Some((backing, first)) = chunk.data().backing_page(offset) else {
            return folio.fill_from(source);
        };
        let filled = folio.fill(&backing, first)?;
        let start = pfn - first;
        self.block = Some((start..start + HUGE_PAGES, backing));
        Ok(filled)
    }
}

/// As [`Origin::take`], unless injection makes the copy fail.
pub(super) fn copy_to(
    injection: &Injection<'_>,
    origin: &mut Origin<'_>,
    source: &Source<'_>,
    folio: Blank,
) -> Made<SystemFolio> {
    if injection.fires(Point::Copy) {
        return Err(Fate::CopyFailed);
    }
    origin.take(source, folio)
}

/// As [`copy_to`]. Returns a destination that can be given to a migration.
pub(crate) fn copy_back(
    injection: &Injection<'_>,
    origin: &mut Origin<'_>,
    source: &Source<'_>,
    folio: Blank,
) -> Made<Destination> {
    copy_to(injection, origin, source, folio).map(Destination::System)
}
