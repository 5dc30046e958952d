// SPDX-License-Identifier: GPL-2.0

//! A new folio of device memory: a destination.

use super::{
    Driver,
    Pagemap, //
};
use crate::layer::mm::{
    bindings,
    folio::{
        Counts,
        LockedFolio, //
    },
    migrate::Source,
    Size, //
};
use core::ops::Range;
use kernel::prelude::*;

/// A new folio of device memory, locked: a destination.
///
/// # Invariants
///
/// We hold the lock, and nobody else accesses the contents. Who finds it by its number, as eviction
/// does, may take a reference for a moment. It is of this `size`; its first page has the number `pfn`, and
/// in its pagemap `offset`.
#[must_use = "dropping it frees the folio"]
pub struct DeviceFolio {
    folio: LockedFolio,
    pfn: usize,
    offset: usize,
    size: Size,
}

impl DeviceFolio {
    /// # Safety
    ///
    /// `folio` must be new and of this size, and its first page number `pfn`, and number `offset` of its
    /// pagemap.
    pub(super) unsafe fn new(folio: LockedFolio, pfn: usize, offset: usize, size: Size) -> Self {
        // INVARIANT: By the requirements of this function.
        DeviceFolio {
            folio,
            pfn,
            offset,
            size,
        }
    }

    /// The number of its first page.
    pub(in crate::layer) fn pfn(&self) -> usize {
        self.pfn
    }

    /// The number of its first page in the pagemap.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its pages.
    pub fn pages(&self) -> usize {
        self.size.pages()
    }

    /// Its size.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The pagemap that it belongs to, which stays while the folio is in use.
    pub fn pagemap<T: Driver>(&self) -> Option<&Pagemap<T>> {
        // SAFETY: We hold a reference on the folio.
        unsafe { Pagemap::of_pfn(self.pfn) }.map(|(pagemap, _)| pagemap)
    }

    /// The counts of its folio.
    pub fn counts(&self) -> Counts {
        self.folio.counts()
    }

    /// The page frame numbers of its pages.
    pub fn pfns(&self) -> Range<usize> {
        self.pfn..self.pfn + self.size.pages()
    }

    fn coherent_pfns(&self) -> Result<Range<usize>> {
        // Private memory has no address that the CPU could use.
        if !self.folio.counts().device_coherent {
            return Err(EINVAL);
        }
        Ok(self.pfns())
    }

    /// Fills coherent memory from a source of as many pages.
    pub fn fill_from(&mut self, from: &Source<'_>) -> Result {
        let pfns = self.coherent_pfns()?;
        // SAFETY: By the type invariants nobody else uses these pages, which the CPU can reach.
        unsafe { from.copy_to_pfns(pfns) }
    }

    /// Fills coherent memory with zeroes.
    pub fn clear(&mut self) -> Result {
        let pfns = self.coherent_pfns()?;
        // SAFETY: By the type invariants nobody else uses these pages, which the CPU can reach.
        unsafe { bindings::rust_dmirror_clear_pages(pfns.start, pfns.len()) };
        Ok(())
    }

    pub(in crate::layer) fn into_locked(self) -> LockedFolio {
        self.folio
    }
}
