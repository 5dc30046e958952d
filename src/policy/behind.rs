// SPDX-License-Identifier: GPL-2.0

//! The pages that an attempt at a window left behind, and where the next attempt begins. Pure.
//!
//! Without COMPOUND, the collector splits large folios. At the first one that it cannot split, because of an extra
//! reference, it skips the rest of the page table (T28 in docs/defects.md). The next attempt therefore begins
//! behind that folio, and so on until the end of the window. Only then comes a pause, after which the folios that
//! could not be split are retried.

use kernel::prelude::kunit_tests;

/// The pages that can be migrated but were left behind.
#[derive(Default)]
pub(crate) struct Behind {
    /// The PFN of the folio at which the collector may have stopped, and the page behind that folio.
    held: Option<(usize, usize)>,
    next: Option<usize>,
    is_any: bool,
}

impl Behind {
    /// Records `nr` pages from page `at` on, of the folio whose first page frame is `folio`. Must be called in the
    /// order of pages.
    pub(crate) fn see(&mut self, at: usize, nr: usize, folio: usize, is_large: bool) {
        self.is_any = true;
        match &mut self.held {
            None if is_large => self.held = Some((folio, at + nr)),
            Some((held, end)) if *held == folio && *end == at => *end = at + nr,
            Some(_) if self.next.is_none() => self.next = Some(at),
            // The collector does not stop at a small folio.
            _ => {}
        }
    }

    /// Returns whether there are any.
    pub(crate) fn is_any(&self) -> bool {
        self.is_any
    }

    /// Returns the first such page behind the first large folio, where the next attempt begins. It is behind the
    /// begin of the attempt that left these pages, so that attempts come to an end.
    pub(crate) fn next(&self) -> Option<usize> {
        self.next
    }
}

#[kunit_tests(rust_dmirror_behind)]
mod tests {
    use super::*;

    /// Records folios, given by their first page and their number of pages.
    fn seen(folios: &[(usize, usize)]) -> Behind {
        let mut behind = Behind::default();
        for (first, pages) in folios {
            for at in *first..first + pages {
                behind.see(at, 1, 1000 + first, *pages > 1);
            }
        }
        behind
    }

    #[test]
    fn nothing_is_left() {
        let behind = seen(&[]);
        assert!(!behind.is_any());
        assert_eq!(behind.next(), None);
    }

    #[test]
    fn small_pages_stop_nobody() {
        let behind = seen(&[(0, 1), (7, 1), (8, 1)]);
        assert!(behind.is_any());
        assert_eq!(behind.next(), None);
    }

    #[test]
    fn a_folio_at_the_end_is_the_end() {
        assert_eq!(seen(&[(496, 16)]).next(), None);
        assert_eq!(seen(&[(3, 1), (496, 16)]).next(), None);
        let mut huge = Behind::default();
        huge.see(0, 512, 1000, true);
        assert!(huge.is_any());
        assert_eq!(huge.next(), None);
    }

    #[test]
    fn it_goes_on_with_what_is_left_behind_the_first() {
        assert_eq!(seen(&[(0, 16), (16, 16)]).next(), Some(16));
        // The pages in between have been migrated.
        assert_eq!(seen(&[(0, 16), (64, 16)]).next(), Some(64));
        assert_eq!(seen(&[(2, 1), (16, 4), (40, 1)]).next(), Some(40));
    }

    #[test]
    fn a_folio_in_two_pieces_is_met_twice() {
        let mut behind = Behind::default();
        behind.see(0, 1, 1000, true);
        behind.see(5, 1, 1000, true);
        assert_eq!(behind.next(), Some(5));
    }
}
