// SPDX-License-Identifier: GPL-2.0

//! The outcome of each page of a window, over all attempts at it. Pure.

use crate::{
    layer::mm::{
        migrate::Outcome,
        HUGE_PAGES, //
    },
    uapi, //
};
use kernel::prelude::*;

/// The outcome of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It was never collected.
    NotCollected,
    /// It migrated as a part of a huge folio.
    Whole,
    /// It migrated as a single page, after its huge folio was split.
    Split,
    /// It was collected and migrated as a single page.
    Small,
    /// It is a part of a huge folio that could not be split.
    SplitRefused,
    /// No destination could be allocated.
    NoMemory,
    /// The copy failed.
    CopyFailed,
    /// The core refused to migrate it.
    Core,
    /// It is a hole, with nothing to migrate.
    Empty,
}

impl Fate {
    /// Returns whether the page has migrated.
    pub(crate) fn is_migrated(self) -> bool {
        matches!(self, Fate::Whole | Fate::Split | Fate::Small)
    }
}

/// A destination, or the fate of the page that gets none, which is an outcome and not an error.
pub(crate) type Made<T> = core::result::Result<T, Fate>;

/// The fates of the pages of a window.
///
/// Mostly, all pages have the same fate, that of their huge page, which then is stored only once.
pub(crate) struct Fates {
    nr: usize,
    all: Option<State>,
    /// The state of each page, if they differ.
    pages: KVVec<State>,
}

/// The fate of a page, and whether it was ever collected.
type State = (Fate, bool);

const UNTOUCHED: State = (Fate::NotCollected, false);

impl Fates {
    /// Makes fates for windows of up to a huge page.
    pub(crate) fn new() -> Result<Self> {
        Ok(Fates {
            nr: 0,
            all: Some(UNTOUCHED),
            pages: KVVec::from_elem(UNTOUCHED, HUGE_PAGES, GFP_KERNEL)?,
        })
    }

    /// Begins another window of `nr` pages, of which nothing is known.
    pub(crate) fn reset(&mut self, nr: usize) {
        self.nr = nr.min(HUGE_PAGES);
        self.all = Some(UNTOUCHED);
    }

    /// Records the outcome of `nr` pages from `index` on. `reason` is why entries without a destination have none.
    /// `splitting` says that in this attempt the collector split huge folios.
    pub(crate) fn note(
        &mut self,
        index: usize,
        nr: usize,
        outcome: Outcome,
        reason: Fate,
        splitting: bool,
    ) {
        let change = |state: &mut State| {
            state.1 |= outcome != Outcome::NotCollected;
            state.0 = next(state.0, outcome, reason, splitting);
        };
        if let Some(all) = self.all.as_mut().filter(|_| index == 0 && nr >= self.nr) {
            return change(all);
        }
        if let Some(all) = self.all.take() {
            self.pages[..self.nr].fill(all);
        }
        let nr = nr.min(self.nr.saturating_sub(index));
        self.pages.iter_mut().skip(index).take(nr).for_each(change);
    }

    /// Removes the pages from index `nr` on.
    pub(crate) fn truncate(&mut self, nr: usize) {
        self.nr = self.nr.min(nr);
    }

    /// Returns the states of the pages; only one if all are the same.
    fn states(&self) -> &[State] {
        match &self.all {
            Some(_) if self.nr == 0 => &[],
            Some(all) => core::slice::from_ref(all),
            None => &self.pages[..self.nr],
        }
    }

    /// Returns whether a page was never collected, or is a part of a huge folio that could not be split.
    pub(crate) fn stays(&self, index: usize) -> bool {
        let state = match &self.all {
            Some(all) => Some(all).filter(|_| index < self.nr),
            None => self.states().get(index),
        };
        matches!(state, Some((Fate::NotCollected | Fate::SplitRefused, _)))
    }

    /// Returns whether any page was never collected.
    pub(crate) fn has_uncollected(&self) -> bool {
        self.states()
            .iter()
            .any(|state| state.0 == Fate::NotCollected)
    }

    /// Returns whether any page is a part of a huge folio that could not be split, and has not migrated since.
    pub(crate) fn has_refused_split(&self) -> bool {
        self.states()
            .iter()
            .any(|state| state.0 == Fate::SplitRefused)
    }

    /// Adds the pages to the counts.
    pub(crate) fn count(&self, counts: &mut FateCounts) {
        let each = if self.all.is_some() { self.nr } else { 1 };
        for (fate, collected) in self.states() {
            counts.collected += if *collected { each as u64 } else { 0 };
            *counts.of(*fate) += each as u64;
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
        // If the collector cannot split a folio, it does not collect its pages.
        Outcome::NotCollected if was_split => Fate::SplitRefused,
        Outcome::NotCollected => before,
    }
}

/// The number of pages with each fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct FateCounts {
    /// Pages that were collected.
    pub(crate) collected: u64,
    /// See [`Fate::Whole`].
    pub(crate) whole: u64,
    /// See [`Fate::Split`].
    pub(crate) split: u64,
    /// See [`Fate::Small`].
    pub(crate) small: u64,
    /// See [`Fate::SplitRefused`].
    pub(crate) split_refused: u64,
    /// By `enum rust_dmirror_refusal`.
    pub(crate) refused: [u64; uapi::REFUSED_REASONS as usize],
    /// See [`Fate::Empty`].
    pub(crate) empty: u64,
}

impl FateCounts {
    fn of(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Whole => &mut self.whole,
            Fate::Split => &mut self.split,
            Fate::Small => &mut self.small,
            Fate::SplitRefused => &mut self.split_refused,
            Fate::NotCollected => &mut self.refused[uapi::REFUSED_COLLECT as usize],
            Fate::NoMemory => &mut self.refused[uapi::REFUSED_NO_MEMORY as usize],
            Fate::CopyFailed => &mut self.refused[uapi::REFUSED_COPY as usize],
            Fate::Core => &mut self.refused[uapi::REFUSED_CORE as usize],
            Fate::Empty => &mut self.empty,
        }
    }

    /// Returns the number of pages that migrated.
    pub(crate) fn migrated(&self) -> u64 {
        self.whole + self.split + self.small
    }
}

#[kunit_tests(rust_dmirror_fates)]
mod tests {
    use super::*;

    fn fates(nr: usize) -> Result<Fates> {
        let mut fates = Fates::new()?;
        // An earlier window, which must be forgotten.
        fates.reset(HUGE_PAGES);
        fates.note(1, 5, Outcome::Refused, Fate::NoMemory, true);
        fates.reset(nr);
        Ok(fates)
    }

    fn counted(fates: &Fates) -> FateCounts {
        let mut counts = FateCounts::default();
        fates.count(&mut counts);
        counts
    }

    #[test]
    fn every_page_is_counted_once() -> Result {
        let mut fates = fates(8)?;
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
        let mut fates = fates(HUGE_PAGES)?;
        fates.note(0, HUGE_PAGES, Outcome::Whole, Fate::NoMemory, false);
        fates.note(0, HUGE_PAGES, Outcome::NotCollected, Fate::NoMemory, true);
        assert_eq!(counted(&fates).whole, HUGE_PAGES as u64);
        Ok(())
    }

    #[test]
    fn a_refused_split_stays_one_until_the_pages_move() -> Result {
        let mut fates = fates(HUGE_PAGES)?;
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
        let mut fates = fates(2)?;
        fates.note(0, 1, Outcome::NotCollected, Fate::NoMemory, true);
        fates.note(1, 1, Outcome::Small, Fate::NoMemory, true);
        let counts = counted(&fates);
        assert_eq!((counts.split_refused, counts.split), (1, 1));
        Ok(())
    }

    #[test]
    fn pages_part_ways_and_keep_what_they_had() -> Result {
        let mut fates = fates(8)?;
        fates.note(0, 8, Outcome::SplitRefused, Fate::NoMemory, false);
        assert!(fates.has_refused_split() && !fates.has_uncollected());
        fates.note(3, 100, Outcome::Small, Fate::NoMemory, false);
        fates.truncate(6);
        let counts = counted(&fates);
        assert_eq!((counts.split_refused, counts.split), (3, 3));
        assert_eq!(counts.collected, 6);
        assert!(fates.stays(0) && !fates.stays(3) && !fates.stays(7));
        fates.truncate(0);
        assert_eq!(counted(&fates), FateCounts::default());
        Ok(())
    }
}
