// SPDX-License-Identifier: GPL-2.0

//! A new folio of device memory: a destination.

use super::{
    Driver,
    Pagemap, //
};
use crate::layer::mm::{
    bindings,
    folio::{
        Folio,
        LockedFolio, //
    },
    migrate::Source,
    HUGE_PAGES, //
};
use core::ops::Range;
use kernel::prelude::*;

/// A new folio of device memory, locked, that nobody else knows: a destination.
///
/// # Invariants
///
/// Nobody else has a reference, or knows the folio.
#[must_use = "dropping it frees the folio"]
pub struct DeviceFolio {
    folio: LockedFolio,
    offset: usize,
    huge: bool,
}

impl DeviceFolio {
    /// Nobody else may know `folio`, whose first page is number `offset` of its pagemap.
    pub(super) fn new(folio: LockedFolio, offset: usize, huge: bool) -> Self {
        // INVARIANT: By the requirement of this function, which only `Pagemap::alloc` calls.
        DeviceFolio {
            folio,
            offset,
            huge,
        }
    }

    /// The number of its first page in the pagemap.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its pages.
    pub fn pages(&self) -> usize {
        match self.huge {
            true => HUGE_PAGES,
            false => 1,
        }
    }

    /// Whether it is a huge folio.
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// The pagemap that it belongs to, which stays while the folio is in use.
    pub fn pagemap<T: Driver>(&self) -> Option<&Pagemap<T>> {
        // SAFETY: We hold a reference on the folio.
        unsafe { Pagemap::of_pfn(self.folio.pfn()) }.map(|(pagemap, _)| pagemap)
    }

    /// Its folio.
    pub fn folio(&self) -> &Folio {
        &self.folio
    }

    fn coherent_pfns(&self) -> Result<Range<usize>> {
        // Private memory has no address that the CPU could use.
        if !self.folio.counts().device_coherent {
            return Err(EINVAL);
        }
        Ok(self.folio.pfns())
    }

    /// Fills coherent memory from a source of as many pages.
    pub fn fill_from(&mut self, from: &Source<'_>) -> Result {
        from.copy_to_pfns(self.coherent_pfns()?)
    }

    /// Fills coherent memory with zeroes.
    pub fn clear(&mut self) -> Result {
        let pfns = self.coherent_pfns()?;
        // SAFETY: By the type invariants nobody else knows these pages, which the CPU can reach.
        unsafe { bindings::rust_dmirror_clear_pages(pfns.start, pfns.len()) };
        Ok(())
    }

    pub(in crate::layer) fn into_locked(self) -> LockedFolio {
        self.folio
    }
}
