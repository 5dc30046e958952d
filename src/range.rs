// SPDX-License-Identifier: GPL-2.0

//! Address ranges from user space, which are checked before anything is accessed. Pure.

use crate::layer::mm::HUGE_SIZE;
use core::ops::Range;
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// A range of user addresses: whole pages, at least one.
///
/// # Invariants
///
/// `start < end`, both are multiples of the page size, and `end` is within the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pages {
    start: usize,
    end: usize,
}

impl Pages {
    /// Makes a range of `npages` pages from `address` on, in an address space that ends at `limit`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is no range of whole pages, is empty, or does not fit.
    pub(crate) fn new(address: u64, npages: u64, limit: usize) -> Result<Self> {
        let start = usize::try_from(address).map_err(|_| EINVAL)?;
        let npages = usize::try_from(npages).map_err(|_| EINVAL)?;
        let bytes = npages.checked_mul(PAGE_SIZE).ok_or(EINVAL)?;
        let end = start.checked_add(bytes).ok_or(EINVAL)?;
        if start % PAGE_SIZE != 0 || npages == 0 || end > limit {
            return Err(EINVAL);
        }
        // INVARIANT: All this was just checked.
        Ok(Pages { start, end })
    }

    /// Returns the first address.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Returns the address behind the last one.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Returns the number of pages.
    pub(crate) fn count(&self) -> usize {
        (self.end - self.start) >> PAGE_SHIFT
    }

    /// Returns an iterator over the windows of the range, from `from` on: its parts in each huge page.
    pub(crate) fn windows(&self, from: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let end = self.end;
        let mut at = from.max(self.start);
        core::iter::from_fn(move || {
            let start = at;
            at = (start | (HUGE_SIZE - 1)).saturating_add(1).min(end);
            (start < end).then_some(start..at)
        })
    }
}

#[kunit_tests(rust_dmirror_range)]
mod tests {
    use super::*;

    const LIMIT: usize = (1 << 47) - PAGE_SIZE;

    #[test]
    fn good_ranges_pass() -> Result {
        let pages = Pages::new(PAGE_SIZE as u64, 3, LIMIT)?;
        assert_eq!(pages.start(), PAGE_SIZE);
        assert_eq!(pages.end(), 4 * PAGE_SIZE);
        assert_eq!(pages.count(), 3);
        assert!(Pages::new((LIMIT - PAGE_SIZE) as u64, 1, LIMIT).is_ok());
        Ok(())
    }

    #[test]
    fn bad_ranges_do_not() {
        for (address, npages) in [
            (1, 1),                               // not aligned
            (0, 0),                               // empty
            (PAGE_SIZE as u64, (1 << 52) + 1),    // wraps to one page (T16)
            (PAGE_SIZE as u64, u64::MAX),         // overflows
            (PAGE_SIZE as u64, 1 << 51),          // ends in the kernel
            (0xffff_8880_0000_0000, 1),           // a kernel address
            (u64::MAX - PAGE_SIZE as u64 + 1, 1), // ends at zero
            ((LIMIT - PAGE_SIZE) as u64, 2),      // past the end
        ] {
            assert_eq!(Pages::new(address, npages, LIMIT), Err(EINVAL));
        }
    }

    #[test]
    fn windows_end_at_huge_boundaries() -> Result {
        let pages = Pages::new((HUGE_SIZE - PAGE_SIZE) as u64, 514, LIMIT)?;
        let mut windows = pages.windows(0);
        assert_eq!(windows.next(), Some(HUGE_SIZE - PAGE_SIZE..HUGE_SIZE));
        assert_eq!(windows.next(), Some(HUGE_SIZE..2 * HUGE_SIZE));
        assert_eq!(
            windows.next(),
            Some(2 * HUGE_SIZE..2 * HUGE_SIZE + PAGE_SIZE)
        );
        assert_eq!(windows.next(), None);
        let mut rest = pages.windows(HUGE_SIZE + PAGE_SIZE);
        assert_eq!(rest.next(), Some(HUGE_SIZE + PAGE_SIZE..2 * HUGE_SIZE));
        Ok(())
    }
}
