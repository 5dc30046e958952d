// SPDX-License-Identifier: GPL-2.0

//! Folios of device memory, as a migration takes them: many at a time, from chunks that were listed
//! before it took any lock.

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

/// Chunks to allocate from, without a look at the list each time.
pub(crate) struct Supply {
    chunks: KVec<Arc<ChunkPagemap>>,
    /// The one that had something last.
    at: Cell<usize>,
}

impl Supply {
    /// What these chunks have.
    pub(crate) fn new(chunks: KVec<Arc<ChunkPagemap>>) -> Self {
        Supply {
            chunks,
            at: Cell::new(0),
        }
    }

    /// Takes folios for an owner.
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

/// Takes folios one by one. Single pages, and what stands behind them, are looked up many at a time:
/// that is most of the work.
pub(crate) struct Taker<'a> {
    supply: &'a Supply,
    owner: &'a Arc<Owner>,
    /// Single pages that nobody took yet, behind `first` in one block.
    run: Option<Run<'a, Chunk>>,
    first: usize,
    /// What stands behind page `first`.
    backing: Option<BackingPage>,
}

impl<'a> Taker<'a> {
    /// One more, locked and not filled. `wanted` is how many of the kind will be taken, with this one, at
    /// most. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is none, or none to stand behind private memory.
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

    // Apart, so that the rest of `next`, which is done for each page, is small enough to be inlined.
    #[inline(never)]
    fn look(&mut self, size: Size, wanted: usize) -> Result<DeviceFolio> {
        // What is left of the run before goes first: it may be what is found.
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

/// A new folio of device memory that is to be filled, and what stands behind it, if it is private.
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
