// SPDX-License-Identifier: GPL-2.0

//! Decides what to do when a huge folio cannot move whole: by an ioctl, in either direction, and in a CPU
//! fault. Eviction has one answer, which is in the table for completeness. Pure.
//!
//! | who asks | huge destination | source | plan |
//! | --- | --- | --- | --- |
//! | anybody | there is one | any | move it whole |
//! | an ioctl | none | a hole | small destinations: there is nothing to split |
//! | an ioctl | none | mapped by one process | small destinations, the core splits while it migrates; without the fixes as if it were shared |
//! | an ioctl | none | shared | leave it, collect again without COMPOUND: that split reaches every mapping (K3) |
//! | a CPU fault | none | any | have the mapping split; the next faults are of single pages (K4, K5); without the fixes have a worker split the folio by address |
//! | eviction | none | any | leave it, try again later: nothing can split without an address (K6) |
//!
//! "The fixes" are those of K19, K20 and K24 (`tests/kernel/patches/0013` to `0016`). A kernel without them leaks
//! a folio, or frees one too often, if the PMD is zapped while the core splits it in the middle of a
//! migration, and crashes if a page is zapped while a fault on it splits a large folio that is mapped by PTEs.
//!
//! What is refused, because somebody holds a reference, is tried again a few times with a pause, then
//! left where it is, and reported. `patience.rs` says how often a CPU fault is refused.

use kernel::prelude::*;

/// Whether the core may split a folio whose mapping may be zapped meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CoreSplits {
    /// It has the fixes, or somebody wants to see what happens without.
    Allowed,
    /// There is another way, which is taken.
    Avoided,
}

impl CoreSplits {
    /// What the kernel allows that the module was built for: Kbuild looks for a line of each fix.
    pub(crate) const DEFAULT: CoreSplits = match cfg!(dmirror_core_splits) {
        true => CoreSplits::Allowed,
        false => CoreSplits::Avoided,
    };

    /// From the module's parameter: 0 avoids, 1 allows, 2 is the default.
    ///
    /// # Errors
    ///
    /// `EINVAL` for any other number.
    pub(crate) fn new(parameter: u64) -> Result<Self> {
        match parameter {
            0 => Ok(CoreSplits::Avoided),
            1 => Ok(CoreSplits::Allowed),
            2 => Ok(CoreSplits::DEFAULT),
            _ => Err(EINVAL),
        }
    }
}

/// Who migrates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    /// An ioctl, by address.
    Address,
    /// A CPU fault.
    Fault,
    /// Eviction, by device page. It leaves the folio without asking for a plan.
    #[cfg_attr(not(CONFIG_KUNIT = "y"), expect(dead_code))]
    Eviction,
}

/// A huge source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// A folio that one process maps.
    Exclusive,
    /// A folio that others may map as well.
    Shared,
    /// Nothing, or the huge zero page.
    Hole,
}

/// What to do with a huge source for which there is no huge destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plan {
    /// Give small destinations: the core splits a folio while it migrates.
    SmallDestinations,
    /// Give none, and collect again without COMPOUND.
    SplitBefore,
    /// Have the mapping split.
    SplitMapping,
    /// Give none, and have a worker split the folio.
    SplitByWorker,
    /// Give none.
    Leave,
}

impl Plan {
    /// The plan for a source.
    pub(crate) fn without_huge_destination(path: Path, source: Source, core: CoreSplits) -> Self {
        match (path, source, core) {
            (Path::Address, Source::Hole, _) => Plan::SmallDestinations,
            (Path::Address, Source::Exclusive, CoreSplits::Allowed) => Plan::SmallDestinations,
            (Path::Address, _, _) => Plan::SplitBefore,
            (Path::Fault, _, CoreSplits::Allowed) => Plan::SplitMapping,
            (Path::Fault, _, CoreSplits::Avoided) => Plan::SplitByWorker,
            (Path::Eviction, _, _) => Plan::Leave,
        }
    }
}

/// The result of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct AttemptResult {
    /// It was given up to collect again without COMPOUND.
    pub(crate) split_before: bool,
    /// A split was refused, or pages that were to be split were not offered.
    pub(crate) split_refused: bool,
    /// The core withdrew anonymous pages that had a destination.
    pub(crate) refused: bool,
}

/// What comes after an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// That was it.
    Done,
    /// Again at once: nothing was refused.
    Again,
    /// Again after so many milliseconds.
    Pause(u32),
}

/// How often what was refused is tried again: 15 ms in all.
pub(crate) const RETRIES: u32 = 4;

/// How often where pages must go, and nobody waits for a single one: half a second in all.
pub(crate) const PATIENT_RETRIES: u32 = 9;

/// The attempts at one window.
pub(crate) struct Attempts {
    compound: bool,
    refusals: u32,
    most: u32,
}

impl Attempts {
    /// The first is to collect huge folios whole, or not.
    pub(crate) fn new(compound: bool) -> Self {
        Attempts {
            compound,
            refusals: 0,
            most: RETRIES,
        }
    }

    /// For eviction.
    pub(crate) fn patient() -> Self {
        Attempts {
            compound: true,
            refusals: 0,
            most: PATIENT_RETRIES,
        }
    }

    /// Whether the next attempt collects huge folios whole.
    pub(crate) fn compound(&self) -> bool {
        self.compound
    }

    /// Refusals that were followed by another attempt.
    pub(crate) fn retries(&self) -> u32 {
        self.refusals.min(self.most)
    }

    /// Takes note of an attempt.
    pub(crate) fn after(&mut self, result: AttemptResult) -> Next {
        if result.split_before && self.compound {
            self.compound = false;
            return Next::Again;
        }
        if !result.split_refused && !result.refused {
            return Next::Done;
        }
        self.refusals += 1;
        if self.refusals > self.most {
            return Next::Done;
        }
        Next::Pause(1 << (self.refusals - 1))
    }
}

#[kunit_tests(rust_dmirror_plan)]
mod tests {
    use super::*;

    const REFUSED: AttemptResult = AttemptResult {
        split_before: false,
        split_refused: true,
        refused: false,
    };

    const BOTH: [CoreSplits; 2] = [CoreSplits::Allowed, CoreSplits::Avoided];
    const FOLIOS: [Source; 2] = [Source::Exclusive, Source::Shared];

    #[test]
    fn only_an_exclusive_source_is_split_by_the_core() {
        for path in [Path::Address, Path::Fault, Path::Eviction] {
            for source in FOLIOS {
                for core in BOTH {
                    let plan = Plan::without_huge_destination(path, source, core);
                    let may = path == Path::Address
                        && source == Source::Exclusive
                        && core == CoreSplits::Allowed;
                    let splits = plan == Plan::SmallDestinations;
                    assert_eq!(splits, may);
                }
            }
        }
        for core in BOTH {
            let plan = |source| Plan::without_huge_destination(Path::Address, source, core);
            assert_eq!(plan(Source::Shared), Plan::SplitBefore);
            assert_eq!(plan(Source::Hole), Plan::SmallDestinations);
        }
    }

    #[test]
    fn a_fault_only_splits_the_mapping_or_nothing() {
        for source in FOLIOS {
            let plan = |core| Plan::without_huge_destination(Path::Fault, source, core);
            assert_eq!(plan(CoreSplits::Allowed), Plan::SplitMapping);
            assert_eq!(plan(CoreSplits::Avoided), Plan::SplitByWorker);
        }
    }

    #[test]
    fn the_parameter_has_three_values() {
        assert_eq!(CoreSplits::new(0), Ok(CoreSplits::Avoided));
        assert_eq!(CoreSplits::new(1), Ok(CoreSplits::Allowed));
        assert_eq!(CoreSplits::new(2), Ok(CoreSplits::DEFAULT));
        for bad in [3, u64::MAX] {
            assert_eq!(CoreSplits::new(bad), Err(EINVAL));
        }
    }

    #[test]
    fn success_is_the_end() {
        let mut attempts = Attempts::new(true);
        assert_eq!(attempts.after(AttemptResult::default()), Next::Done);
        assert_eq!(attempts.retries(), 0);
    }

    #[test]
    fn a_shared_source_is_collected_again_once() {
        let mut attempts = Attempts::new(true);
        let split_before = AttemptResult {
            split_before: true,
            ..AttemptResult::default()
        };
        assert!(attempts.compound());
        assert_eq!(attempts.after(split_before), Next::Again);
        assert!(!attempts.compound());
        assert_eq!(attempts.after(split_before), Next::Done);
        assert_eq!(attempts.retries(), 0);
    }

    #[test]
    fn refusals_are_tried_again_with_growing_pauses_and_an_end() {
        let mut attempts = Attempts::new(true);
        for retry in 0..RETRIES {
            assert_eq!(attempts.after(REFUSED), Next::Pause(1 << retry));
            assert_eq!(attempts.retries(), retry + 1);
        }
        assert_eq!(attempts.after(REFUSED), Next::Done);
        assert_eq!(attempts.retries(), RETRIES);
    }

    #[test]
    fn eviction_is_patient_and_ends_too() {
        let mut attempts = Attempts::patient();
        let mut pauses = 0;
        while let Next::Pause(milliseconds) = attempts.after(REFUSED) {
            pauses += milliseconds;
        }
        assert_eq!(pauses, 511);
        assert_eq!(attempts.retries(), PATIENT_RETRIES);
    }

    #[test]
    fn a_retry_that_succeeds_is_the_end() {
        let mut attempts = Attempts::new(true);
        assert_eq!(attempts.after(REFUSED), Next::Pause(1));
        assert_eq!(attempts.after(AttemptResult::default()), Next::Done);
        assert_eq!(attempts.retries(), 1);
    }
}
