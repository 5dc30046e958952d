// SPDX-License-Identifier: GPL-2.0

//! The cases that are run against mutants.

use anyhow::{bail, Result};

use crate::test;

/// Every Nth of the interleavings. A survivor costs all that reach it: a quarter of those that `make test`
/// has take a minute, beside three and a half for the cases.
const SAMPLE: usize = 12;

/// All cases that are run.
pub(super) fn all() -> impl Iterator<Item = &'static test::Case> {
    test::all_cases().chain(test::interleave::cases(SAMPLE, false))
}

/// The case with a name.
pub(super) fn named(name: &str) -> Result<&'static test::Case> {
    match all().find(|case| case.name == name) {
        Some(case) => Ok(case),
        None => bail!("the plan has a case {name:?}, which there is not"),
    }
}
