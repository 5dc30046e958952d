// SPDX-License-Identifier: GPL-2.0

//! What the C driver gets wrong (T…) and what in the core a driver must live with (K…), by its number in
//! `docs/defects.md`: a case's name begins with it. Not all of them have a case here.
//!
//! They use the ioctls that both drivers have. Each says how the C driver shows it; `make defects`
//! holds it to that.

mod access;
mod answers;
mod memory;
mod memory_fails;
mod races;
mod shared;
mod sources;

use crate::test::case::Case;

pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        access::CASES,
        memory_fails::CASES,
        shared::CASES,
        memory::CASES,
        answers::CASES,
        sources::CASES,
        races::CASES,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::test::case::OnC;

    #[test]
    fn every_defect_has_a_case() {
        let ids = |letter, most| (1..=most).map(move |n| format!("{letter}{n}"));
        let later = ["t26", "t28", "t29", "k17", "k18"].map(String::from);
        let wanted: HashSet<_> = ids('t', 24).chain(ids('k', 11)).chain(later).collect();
        let mut found = HashSet::new();
        for case in super::all() {
            let id = case.name.split('.').next().unwrap();
            assert!(wanted.contains(id), "{}", case.name);
            found.insert(id.to_string());
            assert!(matches!(case.on_c, OnC::Shows(_)), "{}", case.name);
        }
        let missing: Vec<_> = wanted.difference(&found).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
