// SPDX-License-Identifier: GPL-2.0

//! What became of each page of a window, over all attempts at it. Pure.

use crate::{
    layer::mm::migrate::Outcome,
    uapi, //
};
use kernel::prelude::*;

/// What became of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was never offered.
    NotCollected,
    /// It moved as part of a huge folio.
    Whole,
    /// It moved out of a huge folio that was split for it.
    Split,
    /// It moved, and was collected as a single page.
    Small,
    /// It is part of a huge folio whose split was refused.
    SplitRefused,
    /// There was no destination.
    NoMemory,
    /// The copy failed.
    CopyFailed,
    /// The core withdrew it.
    Core,
    /// There was nothing.
    Empty,
}

impl Fate {
    /// Whether it moved.
    pub fn is_migrated(self) -> bool {
        matches!(self, Fate::Whole | Fate::Split | Fate::Small)
    }
}

/// The pages of a window.
pub struct Fates {
    pages: KVec<(Fate, bool)>,
}

impl Fates {
    /// For `nr` pages.
    pub fn new(nr: usize) -> Result<Self> {
        let pages = KVec::from_elem((Fate::NotCollected, false), nr, GFP_KERNEL)?;
        Ok(Fates { pages })
    }

    /// Takes note of an outcome. `reason` is why entries have no destination; `splitting` says that
    /// this attempt had the core split huge folios before.
    pub fn note(
        &mut self,
        index: usize,
        nr: usize,
        outcome: Outcome,
        reason: Fate,
        splitting: bool,
    ) {
        for page in self.pages.iter_mut().skip(index).take(nr) {
            page.1 |= outcome != Outcome::NotCollected;
            page.0 = next(page.0, outcome, reason, splitting);
        }
    }

    /// Forgets the pages from the `nr`-th on.
    pub fn truncate(&mut self, nr: usize) {
        self.pages.truncate(nr);
    }

    /// Whether a page was never offered.
    pub fn is_uncollected(&self, index: usize) -> bool {
        matches!(self.pages.get(index), Some((Fate::NotCollected, _)))
    }

    /// Whether any page was never offered.
    pub fn has_uncollected(&self) -> bool {
        (0..self.pages.len()).any(|index| self.is_uncollected(index))
    }

    /// Whether a split was refused, and its pages have not moved since.
    pub fn has_refused_split(&self) -> bool {
        self.pages.iter().any(|page| page.0 == Fate::SplitRefused)
    }

    /// Adds the pages to the counts.
    pub fn count(&self, counts: &mut Counts) {
        for (fate, collected) in &self.pages {
            counts.collected += u64::from(*collected);
            *counts.of(*fate) += 1;
        }
    }
}

fn next(before: Fate, outcome: Outcome, reason: Fate, splitting: bool) -> Fate {
    if before.is_migrated() {
        return before;
    }
    let was_split = splitting || before == Fate::SplitRefused;
    match outcome {
        Outcome::Whole => Fate::Whole,
        Outcome::Split => Fate::Split,
        Outcome::Small if was_split => Fate::Split,
        Outcome::Small => Fate::Small,
        Outcome::SplitRefused => Fate::SplitRefused,
        Outcome::Refused => Fate::Core,
        Outcome::NotGiven => reason,
        Outcome::Empty => Fate::Empty,
        // Not to be offered is how the collector says that it could not split.
        Outcome::NotCollected if was_split => Fate::SplitRefused,
        Outcome::NotCollected => before,
    }
}

/// Exact counts, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Offered by setup.
    pub collected: u64,
    /// See [`Fate::Whole`].
    pub whole: u64,
    /// See [`Fate::Split`].
    pub split: u64,
    /// See [`Fate::Small`].
    pub small: u64,
    /// See [`Fate::SplitRefused`].
    pub split_refused: u64,
    /// Never offered, no memory, copy failed, withdrawn.
    pub refused: [u64; 4],
    /// See [`Fate::Empty`].
    pub empty: u64,
}

impl Counts {
    fn of(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Whole => &mut self.whole,
            Fate::Split => &mut self.split,
            Fate::Small => &mut self.small,
            Fate::SplitRefused => &mut self.split_refused,
            Fate::NotCollected => &mut self.refused[0],
            Fate::NoMemory => &mut self.refused[1],
            Fate::CopyFailed => &mut self.refused[2],
            Fate::Core => &mut self.refused[3],
            Fate::Empty => &mut self.empty,
        }
    }

    /// Pages that moved.
    pub fn migrated(&self) -> u64 {
        self.whole + self.split + self.small
    }

    /// Fills the counts of the answer to user space in.
    pub fn tell(&self, arg: &mut uapi::Migrate) {
        arg.collected = self.collected;
        arg.whole = self.whole;
        arg.split = self.split;
        arg.small = self.small;
        arg.split_refused = self.split_refused;
        arg.refused = self.refused;
        arg.empty = self.empty;
    }
}

#[kunit_tests(rust_dmirror_fates)]
mod tests {
    use super::*;
    use crate::layer::mm::HUGE_PAGES;

    fn counted(fates: &Fates) -> Counts {
        let mut counts = Counts::default();
        fates.count(&mut counts);
        counts
    }

    #[test]
    fn every_page_is_counted_once() -> Result {
        let mut fates = Fates::new(8)?;
        fates.note(0, 2, Outcome::Small, Fate::NoMemory, false);
        fates.note(2, 1, Outcome::NotGiven, Fate::NoMemory, false);
        fates.note(3, 1, Outcome::NotGiven, Fate::CopyFailed, false);
        fates.note(4, 1, Outcome::Refused, Fate::NoMemory, false);
        fates.note(5, 1, Outcome::Empty, Fate::NoMemory, false);
        fates.note(6, 1, Outcome::NotCollected, Fate::NoMemory, false);
        let counts = counted(&fates);
        assert_eq!(counts.small, 2);
        assert_eq!(counts.refused, [2, 1, 1, 1]);
        assert_eq!(counts.empty, 1);
        assert_eq!(counts.collected, 6);
        assert_eq!(counts.migrated(), 2);
        Ok(())
    }

    #[test]
    fn what_moved_stays_moved() -> Result {
        let mut fates = Fates::new(HUGE_PAGES)?;
        fates.note(0, HUGE_PAGES, Outcome::Whole, Fate::NoMemory, false);
        fates.note(0, HUGE_PAGES, Outcome::NotCollected, Fate::NoMemory, true);
        assert_eq!(counted(&fates).whole, HUGE_PAGES as u64);
        Ok(())
    }

    #[test]
    fn a_refused_split_stays_one_until_the_pages_move() -> Result {
        let mut fates = Fates::new(HUGE_PAGES)?;
        fates.note(0, HUGE_PAGES, Outcome::SplitRefused, Fate::NoMemory, false);
        fates.note(0, HUGE_PAGES, Outcome::NotCollected, Fate::NoMemory, false);
        assert_eq!(counted(&fates).split_refused, HUGE_PAGES as u64);
        fates.note(0, 1, Outcome::Small, Fate::NoMemory, false);
        let counts = counted(&fates);
        assert_eq!(counts.split, 1);
        assert_eq!(counts.split_refused, HUGE_PAGES as u64 - 1);
        Ok(())
    }

    #[test]
    fn what_the_collector_could_not_split_was_refused() -> Result {
        let mut fates = Fates::new(2)?;
        fates.note(0, 1, Outcome::NotCollected, Fate::NoMemory, true);
        fates.note(1, 1, Outcome::Small, Fate::NoMemory, true);
        let counts = counted(&fates);
        assert_eq!((counts.split_refused, counts.split), (1, 1));
        Ok(())
    }
}
