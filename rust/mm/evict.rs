// SPDX-License-Identifier: GPL-2.0

//! Migration out of device memory by page, when no address is known: eviction.
//!
//! The same protocol as [`super::migrate`], whose types it uses. Without a VMA the core cannot
//! split: a huge folio takes a huge destination, or stays (K6).
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

use super::{
    folio::Folio,
    migrate::{
        Batch,
        Collected, //
    },
    pagemap::{
        Driver,
        Pagemap, //
    },
    HUGE_ORDER,
    HUGE_PAGES, //
};
use kernel::prelude::*;

impl Batch {
    /// Collects, locks and unmaps device pages, wherever they are mapped. C:
    /// `migrate_device_pfns()`. Sleeps.
    ///
    /// The batch must be for a huge page, and `pfns` are at most as many pages of `pagemap`: one that is the first of a huge folio,
    /// or single ones. What they are may have changed since they were listed; pages that are free
    /// again, locked or pinned are left alone.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none, there are too many, one is not of `pagemap`, or the batch is too small.
    pub fn setup_device<'a, T: Driver>(
        &'a mut self,
        pagemap: &'a Pagemap<T>,
        pfns: &[usize],
    ) -> Result<Collected<'a>> {
        let range = pagemap.pfns();
        let is_good = (1..=HUGE_PAGES).contains(&pfns.len())
            && self.room() >= HUGE_PAGES
            && pfns.iter().all(|pfn| range.contains(pfn));
        if !is_good {
            return Err(EINVAL);
        }
        // A huge folio needs entries for all its pages. They are filled with its pages, so that it
        // makes no difference if it is split before the core looks.
        let is_huge = |pfn: usize| {
            pfn % HUGE_PAGES == 0
                // SAFETY: The page belongs to a registered pagemap.
                && unsafe { Folio::try_get_pfn(pfn) }.is_some_and(|f| f.order() == HUGE_ORDER)
        };
        let is_huge = is_huge(pfns[0]);
        let list = self.listed();
        let len = if is_huge {
            for (at, entry) in list[..HUGE_PAGES].iter_mut().enumerate() {
                *entry = pfns[0] + at;
            }
            HUGE_PAGES
        } else {
            list[..pfns.len()].copy_from_slice(pfns);
            pfns.len()
        };
        // SAFETY: The entries are numbers of pages of a registered pagemap, which is borrowed.
        unsafe { self.setup_listed(len) }
    }
}
