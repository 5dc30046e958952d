// SPDX-License-Identifier: GPL-2.0

//! What an attempt at a window has left behind, and where another one is to go on. Pure.
//!
//! The collector splits large folios that it is not to take whole. At the first that it cannot split,
//! because somebody holds a reference, it skips the rest of the page table (T28). So after an attempt the
//! window is gone through again from behind that folio, as often as there is another one; only then
//! comes a pause, and what was held is tried again.

use kernel::prelude::kunit_tests;

/// Pages that could go and are still there.
#[derive(Default)]
pub(crate) struct Behind {
    /// The folio at which the collector may have stopped, and the page behind it.
    held: Option<(usize, usize)>,
    next: Option<usize>,
    is_any: bool,
}

impl Behind {
    /// Takes note of `nr` pages from page `at` on: of the folio that begins at page frame `folio`, which is
    /// large or not. Pages must be told in order.
    pub(crate) fn see(&mut self, at: usize, nr: usize, folio: usize, is_large: bool) {
        self.is_any = true;
        match &mut self.held {
            None if is_large => self.held = Some((folio, at + nr)),
            Some((held, end)) if *held == folio && *end == at => *end = at + nr,
            Some(_) if self.next.is_none() => self.next = Some(at),
            // What is no large folio was refused by itself.
            _ => {}
        }
    }

    /// Whether there are any.
    pub(crate) fn is_any(&self) -> bool {
        self.is_any
    }

    /// The first behind the first large folio: later than any page from which an attempt began that left
    /// these, so that going on from there comes to an end.
    pub(crate) fn next(&self) -> Option<usize> {
        self.next
    }
}

#[kunit_tests(rust_dmirror_behind)]
mod tests {
    use super::*;

    /// Folios by their first page and pages, of which each is of a folio of its own.
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
        // What lies between is there already.
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
