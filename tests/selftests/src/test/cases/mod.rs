// SPDX-License-Identifier: GPL-2.0

//! The cases, one file for each subject.

mod access;
mod answers;
mod around;
mod bad_input;
mod basic;
mod coherent;
pub mod defects;
mod evict;
mod hugetlb;
pub mod interleave;
mod ksm;
mod limits;
mod mthp;
mod new_abi;
mod nth;
mod outside;
mod own;
mod partial;
pub mod pause;
mod races;
mod ready;
mod reaped;
mod refused;
mod shared;
mod soft_dirty;
mod sources;
mod split;
mod split_zapped;
mod stress;
mod thp_allowed;
mod uffd;

use super::{case::Case, core_bug::CoreBugs};

/// Every case, in the order in which they run: what others build on comes first.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        basic::CASES,
        access::CASES,
        hugetlb::CASES,
        soft_dirty::CASES,
        split::CASES,
        split_zapped::CASES,
        refused::CASES,
        partial::CASES,
        around::CASES,
        ready::CASES,
        shared::CASES,
        sources::CASES,
        ksm::CASES,
        uffd::CASES,
        thp_allowed::CASES,
        mthp::CASES,
        evict::CASES,
        own::CASES,
        reaped::CASES,
        coherent::CASES,
        bad_input::CASES,
        new_abi::CASES,
        pause::CASES,
        outside::CASES,
        limits::CASES,
        nth::CASES,
        answers::CASES,
        stress::CASES,
        races::CASES,
    ]
    .into_iter()
    .flatten()
    .chain(defects::all())
}

/// The cases that show a bug of the core each time, on a kernel without our patches.
pub fn that_meet_core_bugs(which: CoreBugs) -> Vec<&'static Case> {
    let meets = |case: &&Case| case.core_bug.is_some_and(|bug| bug.shown.is_some());
    match which {
        CoreBugs::Sample => all()
            .filter(meets)
            .chain(interleave::sample_of_core_bugs())
            .collect(),
        CoreBugs::All => all()
            .chain(interleave::cases(1, false))
            .filter(meets)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{all, interleave, that_meet_core_bugs, CoreBugs};

    #[test]
    fn the_sample_of_core_bugs_is_one() {
        let names = |which| -> HashSet<_> {
            let cases = that_meet_core_bugs(which);
            cases.iter().map(|case| case.name).collect()
        };
        let (all, sample) = (names(CoreBugs::All), names(CoreBugs::Sample));
        assert!(sample.is_subset(&all) && sample.len() < all.len());
        assert!(sample.contains("stress.zap"));
    }

    #[test]
    fn names_are_unique_and_plain() {
        let mut seen = HashSet::new();
        for case in all().chain(interleave::cases(1, false)) {
            assert!(seen.insert(case.name), "{} twice", case.name);
            assert!(case
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._".contains(&b)));
        }
    }
}
