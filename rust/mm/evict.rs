// SPDX-License-Identifier: GPL-2.0

//! Eviction: migrates device pages without knowing the addresses where they are mapped.
//!
//! Uses the protocol and the types of [`super::migrate`]. Without a VMA the core cannot split a folio: a huge one takes
//! a huge destination, or stays (K6 in docs/defects.md).
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
    /// Collects, locks and unmaps device pages, wherever they are mapped. C: `migrate_device_pfns()`. Sleeps.
    ///
    /// The batch must have been made for a huge page. `pfns` lists pages of `pagemap`: either one that is the first
    /// of a huge folio, or up to [`HUGE_PAGES`] single pages. Pages may have changed since they were listed. Those
    /// that are free, locked or pinned are skipped.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `pfns` is empty, has too many pages or one of another pagemap, or if the batch is too small.
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
        // A huge folio needs an entry for each of its pages. All are listed, so that all are still collected if
        // the folio is split before the core locks it.
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
        // SAFETY: The entries are page frame numbers of `pagemap`, which is borrowed for `'a` and so stays registered.
        unsafe { self.setup_listed(len) }
    }
}
