// SPDX-License-Identifier: GPL-2.0

//! Decides what to do when a huge folio cannot be migrated whole: by an ioctl, in either direction, and in a CPU fault.
//! Eviction has only one plan, which is in the table for completeness. Pure.
//!
//! | path | huge destination | source | plan |
//! | --- | --- | --- | --- |
//! | any | allocated | any | migrate it whole |
//! | ioctl | none | a hole | small destinations: there is nothing to split |
//! | ioctl | none | mapped by one process | small destinations: the core splits while it migrates; without the fixes, as if it was shared |
//! | ioctl | none | shared | give up and collect again without COMPOUND: that split reaches every mapping (K3) |
//! | CPU fault | none | any | make the core split the mapping, so that the next faults are on single pages (K4, K5); without the fixes, let a worker split the folio by address |
//! | eviction | none | any | leave it and retry later: the core cannot split without an address (K6) |
//!
//! "The fixes" are those of K19, K20 and K24 (`tests/kernel/patches/0013` to `0016`; ids: docs/defects.md). A kernel
//! without them leaks a folio, or puts one once too often, if the PMD is zapped while the core splits it during a
//! migration. It crashes if a page is zapped while a fault on it splits a large folio that is mapped by PTEs.
//!
//! A migration that is refused because of extra references is retried a few times with a pause. Then the pages
//! stay, and are reported. `patience.rs` limits the refusals of a CPU fault.

use kernel::prelude::*;

/// Whether the core may split a folio whose mapping may be zapped at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CoreSplits {
    /// It may: the kernel has the fixes, or the user wants to see what happens without them.
    Allowed,
    /// It must not: the driver takes another way.
    Avoided,
}

impl CoreSplits {
    /// The default: allowed if Kbuild has found a line of each fix in the source that the module was built for.
    pub(crate) const DEFAULT: CoreSplits = match cfg!(dmirror_core_splits) {
        true => CoreSplits::Allowed,
        false => CoreSplits::Avoided,
    };

    /// Converts the module parameter: 0 avoids, 1 allows, 2 is the default.
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

/// The path on which a folio is migrated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    /// An ioctl, by address.
    Address,
    /// A CPU fault.
    Fault,
    /// Eviction, by device page. It does not ask for a plan: the folio stays.
    #[cfg_attr(not(CONFIG_KUNIT = "y"), expect(dead_code))]
    Eviction,
}

/// What a huge source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// A folio that is mapped by one process only.
    Exclusive,
    /// A folio that other processes may map as well.
    Shared,
    /// A hole, or the huge zero page.
    Hole,
}

/// What to do with a huge source without a huge destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plan {
    /// Give small destinations: the core splits the folio while it migrates.
    SmallDestinations,
    /// Give no destination, and collect again without COMPOUND.
    SplitBefore,
    /// Make the core split the mapping.
    SplitMapping,
    /// Give no destination, and let a worker split the folio.
    SplitByWorker,
    /// Give no destination: the folio stays.
    Leave,
}

impl Plan {
    /// Returns the plan for a source.
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
    /// Whether it was given up, to collect again without COMPOUND.
    pub(crate) split_before: bool,
    /// Whether a split was refused, by the collector or later.
    pub(crate) split_refused: bool,
    /// Whether the core refused anonymous pages that had a destination.
    pub(crate) refused: bool,
}

/// What comes after an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// No other attempt.
    Done,
    /// Another attempt at once: nothing was refused.
    Again,
    /// Another attempt after this number of milliseconds.
    Pause(u32),
}

/// The number of retries after a refusal; chosen: they pause for 15 ms in all.
pub(crate) const RETRIES: u32 = 4;

/// The number of retries of eviction, for which no access waits; chosen: they pause for half a second in all.
pub(crate) const PATIENT_RETRIES: u32 = 9;

/// The attempts at one window.
pub(crate) struct Attempts {
    compound: bool,
    refusals: u32,
    most: u32,
}

impl Attempts {
    /// `compound` says whether the first attempt collects huge folios whole.
    pub(crate) fn new(compound: bool) -> Self {
        Attempts {
            compound,
            refusals: 0,
            most: RETRIES,
        }
    }

    /// Makes the attempts of an eviction.
    pub(crate) fn patient() -> Self {
        Attempts {
            compound: true,
            refusals: 0,
            most: PATIENT_RETRIES,
        }
    }

    /// Returns whether the next attempt collects huge folios whole.
    pub(crate) fn compound(&self) -> bool {
        self.compound
    }

    /// Returns the number of refusals that were followed by another attempt.
    pub(crate) fn retries(&self) -> u32 {
        self.refusals.min(self.most)
    }

    /// Records the result of an attempt. Returns what comes next.
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
