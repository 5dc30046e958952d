// SPDX-License-Identifier: GPL-2.0

//! A new folio of device memory, to be the destination of a migration.

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

/// A new locked folio of device memory, to be the destination of a migration.
///
/// # Invariants
///
/// - This value owns the lock and a reference, and nobody else accesses the contents. Others who find the folio by
///   its PFN, as eviction does, may take a reference for a moment.
/// - It has the size `size`. Its first page is page `offset` of its pagemap, and has the page frame number `pfn`.
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
    /// `folio` must be new and have this size. Its first page must be page `offset` of its pagemap, and have the page
    /// frame number `pfn`.
    pub(super) unsafe fn new(folio: LockedFolio, pfn: usize, offset: usize, size: Size) -> Self {
        // INVARIANT: By the requirements of this function.
        DeviceFolio {
            folio,
            pfn,
            offset,
            size,
        }
    }

    /// Returns the page frame number of its first page.
    pub(in crate::layer) fn pfn(&self) -> usize {
        self.pfn
    }

    /// Returns the index of its first page in the pagemap.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the number of its pages.
    pub fn pages(&self) -> usize {
        self.size.pages()
    }

    /// Returns its size.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Returns its pagemap, which stays while the folio is in use. `None` if it is one of another driver.
    pub fn pagemap<T: Driver>(&self) -> Option<&Pagemap<T>> {
        // SAFETY: We hold a reference on the folio.
        unsafe { Pagemap::of_pfn(self.pfn) }.map(|(pagemap, _)| pagemap)
    }

    /// Returns the counts of its folio.
    pub fn counts(&self) -> Counts {
        self.folio.counts()
    }

    /// Returns the page frame numbers of its pages.
    pub fn pfns(&self) -> Range<usize> {
        self.pfn..self.pfn + self.size.pages()
    }

    fn coherent_pfns(&self) -> Result<Range<usize>> {
        // The CPU cannot reach private memory.
        if !self.folio.counts().device_coherent {
            return Err(EINVAL);
        }
        Ok(self.pfns())
    }

    /// Fills it from a source of the same number of pages. `EINVAL` unless it is coherent memory.
    pub fn fill_from(&mut self, from: &Source<'_>) -> Result {
        let pfns = self.coherent_pfns()?;
        // SAFETY: By the type invariants nobody else uses these pages, which the CPU can reach.
        unsafe { from.copy_to_pfns(pfns) }
    }

    /// Fills it with zeroes. `EINVAL` unless it is coherent memory.
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
