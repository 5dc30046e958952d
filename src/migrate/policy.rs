// SPDX-License-Identifier: GPL-2.0

//! What to do when a huge folio cannot move whole. One place for all four ways that pages go: by an
//! ioctl there and back, by a CPU fault, by eviction. Pure.
//!
//! | who asks | huge destination | source | plan |
//! | --- | --- | --- | --- |
//! | anybody | there is one | any | move it whole |
//! | an ioctl | none | mapped by one process | small destinations, the core splits while it migrates |
//! | an ioctl | none | shared | leave it, collect again without COMPOUND: that split reaches every mapping (K3) |
//! | a CPU fault | none | any | have the mapping split; the next faults are of single pages (K4, K5) |
//! | eviction | none | any | leave it, try again later: nothing can split without an address (K6) |
//!
//! What is refused, because somebody holds a reference, is tried again a few times with a pause, then
//! left where it is, and reported; how often a CPU fault is, is in `patience.rs`.

use kernel::prelude::kunit_tests;

/// Who migrates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// An ioctl, by address.
    Address,
    /// A CPU fault.
    Fault,
    /// Eviction, by device page.
    Eviction,
}

/// What to do with a huge source for which there is no huge destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Give small destinations.
    SplitWhileMigrating,
    /// Give none, and collect again without COMPOUND.
    SplitBefore,
    /// Have the mapping split.
    SplitMapping,
    /// Give none.
    Leave,
}

impl Plan {
    /// The plan for a source; a huge hole counts as exclusive.
    pub fn without_huge_destination(path: Path, exclusive: bool) -> Self {
        match (path, exclusive) {
            (Path::Address, true) => Plan::SplitWhileMigrating,
            (Path::Address, false) => Plan::SplitBefore,
            (Path::Fault, _) => Plan::SplitMapping,
            (Path::Eviction, _) => Plan::Leave,
        }
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Result {
    /// It was given up to collect again without COMPOUND.
    pub split_before: bool,
    /// A split was refused, or pages that were to be split were not offered.
    pub split_refused: bool,
    /// The core withdrew anonymous pages that had a destination.
    pub refused: bool,
}

/// What comes after an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// That was it.
    Done,
    /// Again at once: nothing was refused.
    Again,
    /// Again after so many milliseconds.
    Pause(u32),
}

/// How often what was refused is tried again: 15 ms in all.
pub const RETRIES: u32 = 4;

/// How often where pages must go, and nobody waits for a single one: half a second in all.
pub const PATIENT_RETRIES: u32 = 9;

/// The attempts at one window.
pub struct Attempts {
    compound: bool,
    refusals: u32,
    most: u32,
}

impl Attempts {
    /// The first is to collect huge folios whole, or not.
    pub fn new(compound: bool) -> Self {
        Attempts {
            compound,
            refusals: 0,
            most: RETRIES,
        }
    }

    /// For eviction.
    pub fn patient() -> Self {
        Attempts {
            compound: true,
            refusals: 0,
            most: PATIENT_RETRIES,
        }
    }

    /// Whether the next attempt collects huge folios whole.
    pub fn compound(&self) -> bool {
        self.compound
    }

    /// Refusals that were followed by another attempt.
    pub fn retries(&self) -> u32 {
        self.refusals.min(self.most)
    }

    /// Takes note of an attempt.
    pub fn after(&mut self, result: Result) -> Next {
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

#[kunit_tests(rust_dmirror_policy)]
mod tests {
    use super::*;

    const REFUSED: Result = Result {
        split_before: false,
        split_refused: true,
        refused: false,
    };

    #[test]
    fn only_an_exclusive_source_is_split_by_the_core() {
        for path in [Path::Address, Path::Fault, Path::Eviction] {
            for exclusive in [false, true] {
                let plan = Plan::without_huge_destination(path, exclusive);
                let may = path == Path::Address && exclusive;
                let splits = plan == Plan::SplitWhileMigrating;
                assert_eq!(splits, may);
            }
        }
        assert_eq!(
            Plan::without_huge_destination(Path::Address, false),
            Plan::SplitBefore
        );
    }

    #[test]
    fn a_fault_only_splits_the_mapping() {
        for exclusive in [false, true] {
            assert_eq!(
                Plan::without_huge_destination(Path::Fault, exclusive),
                Plan::SplitMapping
            );
        }
    }

    #[test]
    fn success_is_the_end() {
        let mut attempts = Attempts::new(true);
        assert_eq!(attempts.after(Result::default()), Next::Done);
        assert_eq!(attempts.retries(), 0);
    }

    #[test]
    fn a_shared_source_is_collected_again_once() {
        let mut attempts = Attempts::new(true);
        let split_before = Result {
            split_before: true,
            ..Result::default()
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
        assert_eq!(attempts.after(Result::default()), Next::Done);
        assert_eq!(attempts.retries(), 1);
    }
}
