// SPDX-License-Identifier: GPL-2.0

//! Decides how many pages a CPU fault brings back. Pure.
//!
//! A fault costs more than the copy of a page. While a process faults on the page where the last fault ended, each
//! fault brings back twice as many pages as the last, up to a limit. Any other fault brings back its page only, at
//! no extra cost.

use crate::layer::mm::HUGE_PAGES;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// The number of pages that a fault may bring back at most: a power of two, up to a huge page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FaultAround(usize);

impl FaultAround {
    /// Only the page that faulted.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const ONE: FaultAround = FaultAround(1);

    /// The default of `fault_around=`, for tests.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const DEFAULT: FaultAround = FaultAround(64);

    /// Returns the number of pages.
    pub(crate) fn pages(self) -> usize {
        self.0
    }

    /// Makes a limit from a number of pages.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not a power of two, or more than the pages of a huge page.
    pub(crate) fn new(pages: u64) -> Result<Self> {
        match usize::try_from(pages) {
            Ok(pages) if pages.is_power_of_two() && pages <= HUGE_PAGES => Ok(FaultAround(pages)),
            _ => Err(EINVAL),
        }
    }
}

/// The number of streams that are tracked; chosen. Streams that share a place reset each other.
const STREAMS: usize = 8;

/// The pages on which a process is expected to fault next.
///
/// A word has the number of the expected page and the binary logarithm of the number of pages that the last fault
/// brought back. Concurrent faults may overwrite each other's word, after which a stream starts again with one
/// page.
pub(crate) struct Streams([Atomic<usize>; STREAMS]);

const PACE_BITS: u32 = 4;

impl Default for Streams {
    /// Makes streams that expect nothing.
    fn default() -> Self {
        Streams([const { Atomic::new(0) }; STREAMS])
    }
}

impl Streams {
    /// Returns the word for a page, chosen by its huge page: threads mostly work in different huge pages.
    fn word(&self, page: usize) -> &Atomic<usize> {
        &self.0[page / HUGE_PAGES % STREAMS]
    }

    /// Returns the number of pages that a fault is to bring back. `page` is its page number in the address space.
    pub(crate) fn pages(&self, page: usize, most: FaultAround) -> usize {
        let word = self.word(page).load(Relaxed);
        match word >> PACE_BITS == page {
            true => (2usize << (word % (1 << PACE_BITS))).min(most.pages()),
            false => 1,
        }
    }

    /// Records that a fault on a page brought back this number of pages, at least one.
    pub(crate) fn brought(&self, page: usize, pages: usize) {
        let next = page + pages;
        let pace = pages.checked_ilog2().unwrap_or(0) as usize;
        self.word(page).store(next << PACE_BITS | pace, Relaxed);
    }
}

#[kunit_tests(rust_dmirror_around)]
mod tests {
    use super::*;

    fn fault(streams: &Streams, page: usize, most: FaultAround) -> usize {
        let pages = streams.pages(page, most);
        streams.brought(page, pages);
        pages
    }

    #[test]
    fn numbers_are_powers_of_two() {
        assert_eq!(FaultAround::new(1), Ok(FaultAround::ONE));
        assert_eq!(FaultAround::new(512).map(FaultAround::pages), Ok(512));
        for bad in [0, 3, 1024, 1 << 63, u64::MAX] {
            assert_eq!(FaultAround::new(bad), Err(EINVAL));
        }
    }

    #[test]
    fn a_stream_gathers_pace() {
        let streams = Streams::default();
        let mut page = 5 * HUGE_PAGES;
        for pages in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            assert_eq!(fault(&streams, page, FaultAround::DEFAULT), pages);
            page += pages;
        }
        // A fault elsewhere, and the next one in the stream, bring back one page each.
        assert_eq!(fault(&streams, page + 3, FaultAround::DEFAULT), 1);
        assert_eq!(fault(&streams, page, FaultAround::DEFAULT), 1);
        assert_eq!(fault(&streams, page + 1, FaultAround::DEFAULT), 2);
    }

    #[test]
    fn less_than_asked_for_slows_down() {
        let streams = Streams::default();
        streams.brought(10, 32);
        assert_eq!(streams.pages(42, FaultAround::DEFAULT), 64);
        streams.brought(42, 3);
        assert_eq!(streams.pages(45, FaultAround::DEFAULT), 4);
    }

    #[test]
    fn the_limit_holds_and_one_is_one() {
        let streams = Streams::default();
        let mut page = 0x123;
        for _ in 0..20 {
            assert_eq!(fault(&streams, page, FaultAround::ONE), 1);
            page += 1;
        }
    }

    #[test]
    fn streams_in_other_huge_pages_do_not_meet() {
        let streams = Streams::default();
        for at in 0..40 {
            for huge in 1..=STREAMS {
                let pages = streams.pages(huge * HUGE_PAGES + at, FaultAround::DEFAULT);
                let goes_on = at > 0;
                assert_eq!(pages, if goes_on { 2 } else { 1 });
                streams.brought(huge * HUGE_PAGES + at, 1);
            }
        }
    }
}
