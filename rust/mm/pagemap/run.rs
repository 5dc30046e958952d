// SPDX-License-Identifier: GPL-2.0

//! A run of single pages of device memory, allocated together.

use super::{
    DeviceFolio,
    Driver,
    Pagemap, //
};
use crate::layer::mm::Size;
use core::ops::Range;
use kernel::sync::Arc;

/// An iterator over consecutive single pages of one huge block that makes a folio of each.
///
/// Pages that were not taken are freed on drop.
///
/// # Invariants
///
/// The slots of these pages are taken for `owner`, and belong to this value; none of them has a folio.
#[must_use = "dropping it gives the pages back"]
pub struct Run<'a, T: Driver> {
    pagemap: &'a Pagemap<T>,
    owner: &'a Arc<T::Owner>,
    left: Range<usize>,
}

impl<'a, T: Driver> Run<'a, T> {
    /// # Safety
    ///
    /// The caller must have taken the slots of these pages, as single pages, for `owner`, and must not have made folios
    /// of them. The slots are passed to the returned value.
    pub(super) unsafe fn new(
        pagemap: &'a Pagemap<T>,
        owner: &'a Arc<T::Owner>,
        pages: Range<usize>,
    ) -> Self {
        // INVARIANT: By the requirements of this function.
        Run {
            pagemap,
            owner,
            left: pages,
        }
    }
}

impl<T: Driver> Iterator for Run<'_, T> {
    type Item = DeviceFolio;

    fn next(&mut self) -> Option<DeviceFolio> {
        // INVARIANT: The page is removed from `left`, and its slot now belongs to the folio.
        let offset = self.left.next()?;
        // SAFETY: By the type invariants, its slot was taken for `owner` and belonged to this value, and the page has
        // no folio.
        Some(unsafe { self.pagemap.init_folio(offset, Size::Page, self.owner) })
    }
}

impl<T: Driver> Drop for Run<'_, T> {
    fn drop(&mut self) {
        self.pagemap.give_back(self.left.clone());
    }
}
