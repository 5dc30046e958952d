// SPDX-License-Identifier: GPL-2.0

//! `src/policy/plan.rs`: its table, row by row, and attempts as they are told of in words.

use super::{
    edgy,
    seeds_in, //
};
use crate::policy::plan::{
    AttemptResult,
    Attempts,
    CoreSplits,
    Next,
    Path,
    Plan,
    Source, //
};
use kernel::prelude::EINVAL;
use proptest::prelude::*;

/// What is in the head of the file; all there is.
#[test]
fn the_plan_is_that_of_the_table() {
    use CoreSplits::{
        Allowed,
        Avoided, //
    };
    use Path::*;
    use Source::*;
    let plan = Plan::without_huge_destination;
    for core in [Allowed, Avoided] {
        assert_eq!(plan(Address, Hole, core), Plan::SmallDestinations);
        assert_eq!(plan(Address, Shared, core), Plan::SplitBefore);
        for source in [Exclusive, Shared, Hole] {
            assert_eq!(plan(Eviction, source, core), Plan::Leave);
        }
    }
    assert_eq!(plan(Address, Exclusive, Allowed), Plan::SmallDestinations);
    assert_eq!(plan(Address, Exclusive, Avoided), Plan::SplitBefore);
    for source in [Exclusive, Shared, Hole] {
        assert_eq!(plan(Fault, source, Allowed), Plan::SplitMapping);
        assert_eq!(plan(Fault, source, Avoided), Plan::SplitByWorker);
    }
}

fn results() -> impl Strategy<Value = AttemptResult> {
    any::<(bool, bool, bool)>().prop_map(|(split_before, split_refused, refused)| AttemptResult {
        split_before,
        split_refused,
        refused,
    })
}

proptest! {
    #![proptest_config(seeds_in!("plan"))]

    /// The pauses double from a millisecond on; one attempt more is for collecting again.
    #[test]
    fn attempts_come_to_an_end(
        kind in 0..3usize,
        results in prop::collection::vec(results(), 0..20),
    ) {
        // Whether huge folios are collected whole, and the milliseconds of pauses in all.
        let (mut attempts, mut compound, pauses) = match kind {
            0 => (Attempts::new(false), false, 15),
            1 => (Attempts::new(true), true, 15),
            _ => (Attempts::patient(), true, 511),
        };
        let (mut paused, mut pause, mut retries) = (0, 1, 0);
        for result in results {
            prop_assert_eq!(attempts.compound(), compound);
            let next = if result.split_before && compound {
                compound = false;
                Next::Again
            } else if !(result.split_refused || result.refused) || paused == pauses {
                Next::Done
            } else {
                paused += pause;
                pause *= 2;
                retries += 1;
                Next::Pause(pause / 2)
            };
            prop_assert_eq!(attempts.after(result), next);
            prop_assert_eq!(attempts.retries(), retries);
            prop_assert!(paused <= pauses);
        }
    }

    #[test]
    fn the_parameter_has_three_values(parameter in edgy()) {
        let core = match parameter {
            0 => Ok(CoreSplits::Avoided),
            1 => Ok(CoreSplits::Allowed),
            // What the kernel has not been asked for here.
            2 => Ok(CoreSplits::Avoided),
            _ => Err(EINVAL),
        };
        prop_assert_eq!(CoreSplits::new(parameter), core);
    }
}
