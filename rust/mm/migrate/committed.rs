// SPDX-License-Identifier: GPL-2.0

//! What became of the entries, between pages and finalize.

use super::collected::{
    Collected,
    Kind, //
};
use crate::layer::mm::{
    bindings,
    folio::Counts,
    mpfn::Mpfn,
    HUGE_PAGES, //
};
use core::mem::ManuallyDrop;

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A huge folio, or hole, migrated as one.
    Whole,
    /// A page of a huge folio, or hole, that was split for it, migrated.
    Split,
    /// A small page migrated.
    Small,
    /// The core could not split the huge folio: somebody holds a reference.
    SplitRefused,
    /// It had a destination, and the core withdrew it.
    Refused,
    /// It had no destination; a hole among them that might have been filled.
    NotGiven,
    /// There was nothing, and nothing was to be made.
    Empty,
    /// It was not collected.
    NotCollected,
}

impl Outcome {
    /// Whether the page is at its destination now.
    pub fn is_migrated(self) -> bool {
        matches!(self, Outcome::Whole | Outcome::Split | Outcome::Small)
    }
}

/// Entries that have been migrated, or not; source and destination are still locked.
///
/// # Invariants
///
/// The core has seen the destinations; they belong to it.
#[must_use = "what became of the pages has to be looked at"]
pub struct Committed<'a>(ManuallyDrop<Collected<'a>>);

impl<'a> Committed<'a> {
    /// # Safety
    ///
    /// The core must have seen the destinations of `collected`.
    pub(super) unsafe fn new(collected: Collected<'a>) -> Self {
        // INVARIANT: By the requirements of this function.
        Committed(ManuallyDrop::new(collected))
    }

    /// Entries, one per page.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none; never, but a `len` wants it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `tell` for the entries in order: with the number of the first, how many follow each other
    /// to which the same has happened, and what.
    pub fn outcomes(&self, mut tell: impl FnMut(usize, usize, Outcome)) {
        let mut run: Option<(usize, usize, Outcome)> = None;
        self.each(|index, nr, outcome| match &mut run {
            Some((_, length, same)) if *same == outcome => *length += nr,
            _ => {
                if let Some((first, length, same)) = run.replace((index, nr, outcome)) {
                    tell(first, length, same);
                }
            }
        });
        if let Some((first, length, same)) = run {
            tell(first, length, same);
        }
    }

    /// Calls `tell` for the entries in order: with the number of the entry, how many it stands for, which
    /// are more than one for huge ones that were not split, and what happened to it.
    #[inline]
    pub fn each(&self, mut tell: impl FnMut(usize, usize, Outcome)) {
        let this = &*self.0;
        let mut index = 0;
        while index < self.len() {
            let (nr, outcome) = match this.kind(index) {
                Kind::Huge { .. } | Kind::HugeHole => {
                    let nr = HUGE_PAGES.min(self.len() - index);
                    match self.huge(index) {
                        Some(outcome) => (nr, outcome),
                        None => {
                            // It was split: each page has an outcome of its own.
                            for at in index..index + nr {
                                tell(at, 1, self.single(at, Outcome::Split));
                            }
                            index += nr;
                            continue;
                        }
                    }
                }
                Kind::Page => (1, self.single(index, Outcome::Small)),
                Kind::Hole if self.dst(index) == Mpfn::EMPTY => (1, this.unfilled()),
                Kind::Hole => (1, self.single(index, Outcome::Small)),
                Kind::Skipped => (1, Outcome::NotCollected),
            };
            tell(index, nr, outcome);
            index += nr;
        }
    }

    fn src(&self, index: usize) -> Mpfn {
        self.0.src(index)
    }

    fn dst(&self, index: usize) -> Mpfn {
        self.0.dst(index)
    }

    /// What became of a huge entry as one; `None` if it was split.
    fn huge(&self, index: usize) -> Option<Outcome> {
        let (src, dst) = (self.src(index), self.dst(index));
        let is_hole = self.0.kind(index) == Kind::HugeHole;
        if dst.compound() {
            return Some(match src.migrates() {
                true => Outcome::Whole,
                false => Outcome::Refused,
            });
        }
        if dst.pfn().is_none() {
            return Some(match is_hole {
                true => self.0.unfilled(),
                false => Outcome::NotGiven,
            });
        }
        if is_hole {
            return None;
        }
        // Small destinations: after a split, the following entries have pages of their own.
        let is_split = self.src(index + 1).pfn().is_some();
        (!is_split).then_some(Outcome::SplitRefused)
    }

    fn single(&self, index: usize, migrated: Outcome) -> Outcome {
        match (self.src(index).migrates(), self.dst(index).pfn()) {
            (true, Some(_)) => migrated,
            (_, None) => Outcome::NotGiven,
            (false, Some(_)) => Outcome::Refused,
        }
    }

    /// The counts of the entry's source, if it has one.
    pub fn source_counts(&self, index: usize) -> Option<Counts> {
        let pfn = self.src(index).pfn().or(self.0.before(index).pfn())?;
        // SAFETY: The source is locked and referenced until finalize.
        Some(unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(pfn)) })
    }

    /// The counts of the entry's destination, if it has one.
    pub fn destination_counts(&self, index: usize) -> Option<Counts> {
        let pfn = self.dst(index).pfn()?;
        // SAFETY: The destination is locked and referenced until finalize.
        Some(unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(pfn)) })
    }
}

impl Drop for Committed<'_> {
    /// Maps what migrated at its destination, and the rest where it was. C:
    /// `migrate_vma_finalize()` or `migrate_device_finalize()`.
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the core has seen every destination.
        unsafe { self.0.finalize() };
    }
}
