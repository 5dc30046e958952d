// SPDX-License-Identifier: GPL-2.0

//! New folios of single pages of device memory, had together.

use super::{
    DeviceFolio,
    Driver,
    Pagemap, //
};
use crate::layer::mm::Size;
use core::ops::Range;
use kernel::sync::Arc;

/// Single pages that follow each other, of one huge block, each to become a folio: an iterator.
///
/// What is not taken is given back on drop.
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
    /// The caller must have taken the slots of these pages singly, for `owner`, not made folios of them,
    /// and give them up here.
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
        // INVARIANT: The page is not ours any more.
        let offset = self.left.next()?;
        // SAFETY: By the type invariants, its slot was ours, taken for this owner, and it has no folio.
        Some(unsafe { self.pagemap.init_folio(offset, Size::Page, self.owner) })
    }
}

impl<T: Driver> Drop for Run<'_, T> {
    fn drop(&mut self) {
        self.pagemap.give_back(self.left.clone());
    }
}
