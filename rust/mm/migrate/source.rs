// SPDX-License-Identifier: GPL-2.0

//! A source of a migration, while it is locked and unmapped.

use crate::layer::mm::{
    backing::Backing,
    bindings,
    folio::{
        Counts,
        Folio, //
    }, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::prelude::*;

/// The folio or page of a collected entry.
///
/// # Invariants
///
/// It is locked, referenced and unmapped for `'a`. If `is_system`, it is system memory.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pfn: usize,
    nr: usize,
    /// Whether it was collected as system memory. Saves reading its `struct page`.
    is_system: bool,
    _collected: PhantomData<&'a ()>,
}

impl<'a> Source<'a> {
    /// # Safety
    ///
    /// The `nr` pages from `pfn` on must be of a folio that is locked, referenced and unmapped for `'a`. If
    /// `is_system`, they must be system memory.
    pub(super) unsafe fn new(pfn: usize, nr: usize, is_system: bool) -> Self {
        // INVARIANT: By the requirements of this function.
        Source {
            pfn,
            nr,
            is_system,
            _collected: PhantomData,
        }
    }

    /// Returns the page frame number of its first page.
    pub fn pfn(&self) -> usize {
        self.pfn
    }

    /// Returns the number of its pages.
    pub fn pages(&self) -> usize {
        self.nr
    }

    /// Returns one page of it.
    pub fn page(&self, at: usize) -> Option<Source<'a>> {
        // INVARIANT: The page is a part of this source.
        (at < self.nr).then_some(Source {
            pfn: self.pfn + at,
            nr: 1,
            is_system: self.is_system,
            _collected: PhantomData,
        })
    }

    /// Returns the counts of its folio.
    pub fn counts(&self) -> Counts {
        // SAFETY: By the type invariants, the folio is referenced.
        unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(self.pfn)) }
    }

    /// Returns whether the folio has just been migrated away: finalize has unlocked it, but not put it yet, so that
    /// eviction could collect it again. It has no data any more, and the core warns about a source that is not charged
    /// to a cgroup. Without memory cgroups this is always false, and the core does not warn.
    pub fn is_left(&self) -> bool {
        // SAFETY: By the type invariants, the folio is referenced and locked.
        unsafe { bindings::rust_dmirror_folio_is_left(bindings::rust_dmirror_pfn_folio(self.pfn)) }
    }

    /// Takes another reference on its folio. While it is held, the core refuses to split or migrate the folio.
    pub fn hold(&self) -> Option<Folio> {
        // SAFETY: It has a `struct page`.
        unsafe { Folio::try_get_pfn(self.pfn) }
    }

    /// Returns whether it is private memory, which the CPU cannot reach.
    fn is_private(&self) -> bool {
        if self.is_system {
            return false;
        }
        // SAFETY: By the type invariants, the folio is referenced.
        unsafe { bindings::rust_dmirror_pfn_memory(self.pfn) == bindings::MEMORY_PRIVATE }
    }

    /// Copies its data to the backing of device memory, from page `first` on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if this is private memory, or if `to` has fewer pages from there on.
    pub fn copy_to(&self, to: &Backing, first: usize) -> Result {
        if self.is_private() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariants, the pages are in use; they are not private memory, so the
        // CPU can read them.
        unsafe { to.fill_from_pfns(first, self.pfn, self.nr) }
    }

    /// Copies its data to the pages `to`.
    ///
    /// # Safety
    ///
    /// The CPU must be able to reach the pages `to`, and nobody else may use them.
    ///
    /// # Errors
    ///
    /// `EINVAL` if this is private memory, or if `to` has another number of pages.
    pub(in crate::layer) unsafe fn copy_to_pfns(&self, to: Range<usize>) -> Result {
        if to.len() != self.nr || self.is_private() {
            return Err(EINVAL);
        }
        // SAFETY: As above, and by the requirements of this function.
        unsafe { bindings::rust_dmirror_copy_pages(to.start, self.pfn, self.nr) };
        Ok(())
    }
}
