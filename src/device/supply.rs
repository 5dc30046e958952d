// SPDX-License-Identifier: GPL-2.0

//! Allocates folios of device memory for a migration: many at a time, from a list of chunks that was copied before
//! any lock was taken.

use super::{
    chunk::{
        BackingPage,
        Chunk,
        ChunkPagemap, //
    },
    owner::Owner, //
};
use crate::layer::mm::{
    backing::Backing,
    migrate::Source,
    pagemap::{
        DeviceFolio,
        Run, //
    },
    Size, //
};
use core::cell::Cell;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The chunks to allocate from: a copy of the device's list.
pub(crate) struct Supply {
    chunks: KVec<Arc<ChunkPagemap>>,
    /// The index of the chunk that the last allocation came from.
    at: Cell<usize>,
}

impl Supply {
    /// Makes a supply of these chunks.
    pub(crate) fn new(chunks: KVec<Arc<ChunkPagemap>>) -> Self {
        Supply {
            chunks,
            at: Cell::new(0),
        }
    }

    /// Returns a taker, which allocates folios for an owner.
    pub(crate) fn taker<'a>(&'a self, owner: &'a Arc<Owner>) -> Taker<'a> {
        Taker {
            supply: self,
            owner,
            run: None,
            first: 0,
            backing: None,
        }
    }

    fn find<'a, T>(&'a self, alloc: impl Fn(&'a ChunkPagemap) -> Option<T>) -> Result<T> {
        let nr = self.chunks.len();
        let first = self.at.get();
        let (at, found) = (0..nr)
            .map(|step| (first + step) % nr)
            .find_map(|at| Some((at, alloc(&self.chunks[at])?)))
            .ok_or(ENOMEM)?;
        self.at.set(at);
        Ok(found)
    }
}

/// Allocates folios one by one. Single pages are allocated in runs and share a lookup of their backing, which is most
/// of the cost.
pub(crate) struct Taker<'a> {
    supply: &'a Supply,
    owner: &'a Arc<Owner>,
    /// The single pages of the current run that are left. They are behind `first`, in the same block.
    run: Option<Run<'a, Chunk>>,
    first: usize,
    /// Where the data of page `first` is.
    backing: Option<BackingPage>,
}

impl<'a> Taker<'a> {
    /// Allocates a folio, locked and not filled. `wanted` is the number of folios of this size that will be taken at
    /// most, with this one. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if no folio is free, or if there is no kernel memory for its backing.
    #[inline]
    pub(crate) fn next(&mut self, size: Size, wanted: usize) -> Result<NewFolio<'_>> {
        let run = self.run.as_mut().filter(|_| size == Size::Page);
        let folio = match run.and_then(Iterator::next) {
            Some(folio) => folio,
            None => self.look(size, wanted)?,
        };
        let at = folio.offset() - self.first;
        let backing = self.backing.as_ref();
        Ok(NewFolio {
            backing: backing.map(|(backing, first)| (&**backing, first + at)),
            folio,
        })
    }

    // Not inlined, so that `next`, which runs for each page, is small enough to be inlined.
    #[inline(never)]
    fn look(&mut self, size: Size, wanted: usize) -> Result<DeviceFolio> {
        // Gives the rest of the previous run back first: its pages may be the only free ones.
        self.run = None;
        let owner = self.owner;
        let (folio, run) = match size {
            Size::Huge => (self.supply.find(|chunk| chunk.alloc(size, owner))?, None),
            Size::Page => {
                let mut run = (self.supply).find(|chunk| chunk.alloc_run(wanted.max(1), owner))?;
                (run.next().ok_or(ENOMEM)?, Some(run))
            }
        };
        owner.note_use();
        let chunk = folio.pagemap::<Chunk>().ok_or(EINVAL)?.data();
        self.backing = chunk.make_backing(folio.offset())?;
        self.first = folio.offset();
        self.run = run;
        Ok(folio)
    }
}

/// A new folio of device memory that must be filled, and the backing of private memory.
pub(crate) struct NewFolio<'a> {
    folio: DeviceFolio,
    backing: Option<(&'a Backing, usize)>,
}

impl NewFolio<'_> {
    /// Fills it with the data of a source of the same size, or with zeroes. May sleep.
    #[inline]
    pub(crate) fn fill(mut self, from: Option<Source<'_>>) -> Result<DeviceFolio> {
        match (self.backing, from) {
            (Some((backing, first)), Some(source)) => source.copy_to(backing, first)?,
            (Some((backing, first)), None) => backing.clear(first, self.folio.pages())?,
            (None, Some(source)) => self.folio.fill_from(&source)?,
            (None, None) => self.folio.clear()?,
        }
        Ok(self.folio)
    }
}
