// SPDX-License-Identifier: GPL-2.0

//! Properties: for any sequence of operations, each result is the one that a naive model predicts.
//!
//! Each run tries [`CASES`] new random cases of each property, or `PROPTEST_CASES`. A failure prints the
//! smallest case that fails and stores its seed in `proptest-regressions/`; later runs try stored seeds first.

mod around;
mod behind;
mod coherent;
mod fates;
mod inject;
mod ledger;
mod patience;
mod plan;
mod range;
mod ready;
mod slots;
mod splitter;
mod table;
mod words;

use proptest::{
    prelude::*,
    test_runner::FileFailurePersistence, //
};

/// Random cases of each property: chosen so that all properties together take a few seconds.
const CASES: u32 = 2000;

/// The default configuration of proptest, except for the number of cases and the file for seeds.
pub fn config(seeds: &'static str) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Direct(seeds)));
    config
}

/// Makes a configuration with a seed file of this name.
macro_rules! seeds_in {
    ($name:literal) => {
        $crate::properties::config(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/proptest-regressions/",
            $name,
            ".txt"
        ))
    };
}
pub(crate) use seeds_in;

/// Any number; often a small one, or one near a power of two or near `u64::MAX`.
pub fn edgy() -> impl Strategy<Value = u64> {
    let near = |at: u64| (0..5u64).prop_map(move |by| at.wrapping_add(by).wrapping_sub(2));
    prop_oneof![
        2 => 0..2000u64,
        2 => (0..64u32).prop_flat_map(move |bit| near(1 << bit)),
        1 => near(0),
        1 => any::<u64>(),
    ]
}
