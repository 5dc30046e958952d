// SPDX-License-Identifier: GPL-2.0

//! The cases that are run against mutants.

use anyhow::{bail, Result};

use crate::test;

/// Every Nth interleaving is run. A mutant that survives takes the time of all cases that reach it: a minute for these
/// interleavings, which are a quarter of those in `make test`, and three and a half minutes for the other cases.
const SAMPLE: usize = 12;

/// Returns all cases that are run.
pub(super) fn all() -> impl Iterator<Item = &'static test::Case> {
    test::all_cases().chain(test::interleave::cases(SAMPLE, false))
}

/// Returns the case with a name.
///
/// # Errors
///
/// Fails if there is none.
pub(super) fn named(name: &str) -> Result<&'static test::Case> {
    match all().find(|case| case.name == name) {
        Some(case) => Ok(case),
        None => bail!("the plan has a case {name:?}, which there is not"),
    }
}
