// SPDX-License-Identifier: GPL-2.0

//! The outcomes of a migration, between `migrate_vma_pages()` and `migrate_vma_finalize()`.

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

/// The outcome of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A huge folio or hole that migrated whole.
    Whole,
    /// A page that migrated after its huge folio or hole was split.
    Split,
    /// A small page that migrated.
    Small,
    /// A huge folio that the core could not split, because of an extra reference.
    SplitRefused,
    /// An entry whose destination the core withdrew.
    Refused,
    /// An entry without a destination. On the way to a device, holes included.
    NotGiven,
    /// A hole on the way to system memory: there was nothing to migrate.
    Empty,
    /// An entry that was not collected.
    NotCollected,
}

impl Outcome {
    /// Returns whether the page is at its destination now.
    pub fn is_migrated(self) -> bool {
        matches!(self, Outcome::Whole | Outcome::Split | Outcome::Small)
    }
}

/// The entries of a migration after `migrate_vma_pages()`. Sources and destinations are still locked.
///
/// # Invariants
///
/// The core has seen the destinations, and owns them.
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

    /// Returns the number of entries, one per page.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no entries. There always are; clippy asks for this beside `len`.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `tell` for each run of entries with the same outcome, in order: with the index of the first entry, the
    /// number of entries, and the outcome.
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

    /// Calls `tell` for each entry in order: with its index, the number of entries that it covers, and the outcome. A
    /// huge entry that was not split covers many; any other covers one.
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
                            // After a split, each page has its own outcome.
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

    /// Returns the outcome of a huge entry as a whole. `None` if it was split.
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
        // It has small destinations. If the core has split the source, the next entry has a page.
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

    /// Returns the counts of the entry's source, if it has one.
    pub fn source_counts(&self, index: usize) -> Option<Counts> {
        let pfn = self.src(index).pfn().or(self.0.before(index).pfn())?;
        // SAFETY: The source is locked and referenced until finalize.
        Some(unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(pfn)) })
    }

    /// Returns the counts of the entry's destination, if it has one.
    pub fn destination_counts(&self, index: usize) -> Option<Counts> {
        let pfn = self.dst(index).pfn()?;
        // SAFETY: The destination is locked and referenced until finalize.
        Some(unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(pfn)) })
    }
}

impl Drop for Committed<'_> {
    /// Maps the destinations of entries that migrated, and the sources of all others. C: `migrate_vma_finalize()` or
    /// `migrate_device_finalize()`.
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the core has seen every destination.
        unsafe { self.0.finalize() };
    }
}
