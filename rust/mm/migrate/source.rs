// SPDX-License-Identifier: GPL-2.0

//! A source while it is locked and unmapped.

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

/// The folio, or page, of an entry while it is collected.
///
/// # Invariants
///
/// It is locked, referenced and unmapped for `'a`; and of system memory, if `is_system`.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pfn: usize,
    nr: usize,
    /// Whether it was collected as system memory, which needs no look at it to be known.
    is_system: bool,
    _collected: PhantomData<&'a ()>,
}

impl<'a> Source<'a> {
    /// # Safety
    ///
    /// The `nr` pages from `pfn` on must be of a folio that is locked, referenced and unmapped for
    /// `'a`; and of system memory, if `is_system`.
    pub(super) unsafe fn new(pfn: usize, nr: usize, is_system: bool) -> Self {
        // INVARIANT: By the requirements of this function.
        Source {
            pfn,
            nr,
            is_system,
            _collected: PhantomData,
        }
    }

    /// The number of its first page.
    pub fn pfn(&self) -> usize {
        self.pfn
    }

    /// Its pages.
    pub fn pages(&self) -> usize {
        self.nr
    }

    /// One page of it.
    pub fn page(&self, at: usize) -> Option<Source<'a>> {
        // INVARIANT: A part of what is locked and referenced.
        (at < self.nr).then_some(Source {
            pfn: self.pfn + at,
            nr: 1,
            is_system: self.is_system,
            _collected: PhantomData,
        })
    }

    /// The counts of its folio.
    pub fn counts(&self) -> Counts {
        // SAFETY: By the type invariants, the folio is referenced.
        unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(self.pfn)) }
    }

    /// Whether it was migrated away already: somebody has unlocked it and not yet put it, so that it
    /// could be collected by its number once more. There is nothing to be brought anywhere, and the
    /// core complains of a source that is charged to nobody. Known only where there are memory
    /// cgroups; elsewhere nobody complains.
    pub fn is_left(&self) -> bool {
        // SAFETY: By the type invariants, the folio is referenced and locked.
        unsafe { bindings::rust_dmirror_folio_is_left(bindings::rust_dmirror_pfn_folio(self.pfn)) }
    }

    /// Another reference on its folio. While it is held, the core refuses to split or migrate it.
    pub fn hold(&self) -> Option<Folio> {
        // SAFETY: It has a `struct page`.
        unsafe { Folio::try_get_pfn(self.pfn) }
    }

    /// Whether it is memory that the CPU cannot reach.
    fn is_private(&self) -> bool {
        if self.is_system {
            return false;
        }
        // SAFETY: By the type invariants, the folio is referenced.
        unsafe { bindings::rust_dmirror_pfn_memory(self.pfn) == bindings::MEMORY_PRIVATE }
    }

    /// Copies system memory to device memory, to page `first` and on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if this is private memory, or `to` has not as many pages from there on.
    pub fn copy_to(&self, to: &Backing, first: usize) -> Result {
        if self.is_private() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariants, the pages are in use; they are not private memory, so the
        // CPU can read them.
        unsafe { to.fill_from_pfns(first, self.pfn, self.nr) }
    }

    /// Copies to as many pages.
    ///
    /// # Safety
    ///
    /// The CPU must be able to reach the pages `to`, and nobody else may use them.
    ///
    /// # Errors
    ///
    /// `EINVAL` if this is private memory, or another number of pages.
    pub(in crate::layer) unsafe fn copy_to_pfns(&self, to: Range<usize>) -> Result {
        if to.len() != self.nr || self.is_private() {
            return Err(EINVAL);
        }
        // SAFETY: As above, and by the requirements of this function.
        unsafe { bindings::rust_dmirror_copy_pages(to.start, self.pfn, self.nr) };
        Ok(())
    }
}
