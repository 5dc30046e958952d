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
mod refused;
mod shared;
mod soft_dirty;
mod sources;
mod split;
mod split_zapped;
mod stress;
mod thp_allowed;
mod uffd;

use super::case::Case;

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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_plain() {
        let mut seen = HashSet::new();
        for case in super::all().chain(super::interleave::cases(1, false, false)) {
            assert!(seen.insert(case.name), "{} twice", case.name);
            assert!(case
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._".contains(&b)));
        }
    }
}
