// SPDX-License-Identifier: GPL-2.0

//! Copies out of the device's memory, to where pages are brought back.

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

/// Where data comes from.
///
/// For pages that were collected together: while one of them is, its block keeps what stands behind it.
#[derive(Default)]
pub(crate) struct Origin<'a> {
    /// Where the pages probably are.
    chunk: Option<&'a ChunkPagemap>,
    /// What stands behind the block of the last page, since the next one is mostly of the same.
    block: Option<(Range<usize>, Arc<Backing>)>,
}

impl<'a> Origin<'a> {
    /// Of pages that are probably all of this memory.
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

/// As [`Origin::take`], if nothing is to fail.
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

/// As [`copy_to`], for a destination.
pub(crate) fn copy_back(
    injection: &Injection<'_>,
    origin: &mut Origin<'_>,
    source: &Source<'_>,
    folio: Blank,
) -> Made<Destination> {
    copy_to(injection, origin, source, folio).map(Destination::System)
}
