// SPDX-License-Identifier: GPL-2.0

//! Properties: whatever is asked of a piece, in whatever order, it answers as a naive model does.
//!
//! As many cases as [`CASES`] says, new ones each time; `PROPTEST_CASES` asks for more. What fails is printed, and its seed
//! kept in `proptest-regressions/`, to be tried first from then on.

mod around;
mod behind;
mod coherent;
mod fates;
mod inject;
mod ledger;
mod patience;
mod policy;
mod range;
mod slots;
mod splitter;
mod table;
mod words;

use proptest::{
    prelude::*,
    test_runner::FileFailurePersistence, //
};

/// Of each property: a few seconds for all.
const CASES: u32 = 2000;

/// What proptest does by default, but for how many cases, and where seeds are kept.
pub fn config(seeds: &'static str) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Direct(seeds)));
    config
}

/// A configuration that keeps seeds in a file of that name.
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

/// Any number, but often one near an end, or near a power of two.
pub fn edgy() -> impl Strategy<Value = u64> {
    let near = |at: u64| (0..5u64).prop_map(move |by| at.wrapping_add(by).wrapping_sub(2));
    prop_oneof![
        2 => 0..2000u64,
        2 => (0..64u32).prop_flat_map(move |bit| near(1 << bit)),
        1 => near(0),
        1 => any::<u64>(),
    ]
}
