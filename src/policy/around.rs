// SPDX-License-Identifier: GPL-2.0

//! How many pages come back with the one that a CPU faults on. Pure.
//!
//! Who reads on will fault on the next page, and a fault costs more than a page. So while a process
//! faults where the last fault ended, each fault brings twice as many pages, up to a limit; a fault
//! anywhere else brings its page alone, and costs what it always did.

use crate::layer::mm::HUGE_PAGES;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// How many pages a fault may bring back: a power of two, up to a huge page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FaultAround(usize);

impl FaultAround {
    /// One: no page but the one that is needed.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const ONE: FaultAround = FaultAround(1);

    /// The default of `fault_around=`, for tests.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const DEFAULT: FaultAround = FaultAround(64);

    /// The number.
    pub(crate) fn pages(self) -> usize {
        self.0
    }

    /// From a number of pages.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is no power of two, or more than a huge page has.
    pub(crate) fn new(pages: u64) -> Result<Self> {
        match usize::try_from(pages) {
            Ok(pages) if pages.is_power_of_two() && pages <= HUGE_PAGES => Ok(FaultAround(pages)),
            _ => Err(EINVAL),
        }
    }
}

/// Streams that are followed at a time; more of them, in the same places, cost each other the pace.
const STREAMS: usize = 8;

/// Where faults are expected next.
///
/// A word holds the number of the page that is expected, and the logarithm of how many pages the last
/// fault brought. Two faults at a time may lose each other's word, which costs pace and nothing else.
pub(crate) struct Streams([Atomic<usize>; STREAMS]);

const PACE_BITS: u32 = 4;

impl Default for Streams {
    /// None yet.
    fn default() -> Self {
        Streams([const { Atomic::new(0) }; STREAMS])
    }
}

impl Streams {
    /// Threads mostly work in huge pages of their own.
    fn word(&self, page: usize) -> &Atomic<usize> {
        &self.0[page / HUGE_PAGES % STREAMS]
    }

    /// How many pages a fault on a page, by its number in the address space, is to bring.
    pub(crate) fn pages(&self, page: usize, most: FaultAround) -> usize {
        let word = self.word(page).load(Relaxed);
        match word >> PACE_BITS == page {
            true => (2usize << (word % (1 << PACE_BITS))).min(most.pages()),
            false => 1,
        }
    }

    /// Notes that a fault on a page brought so many, one at least.
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
        // Somewhere else, and back where it was: both are on their own.
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
