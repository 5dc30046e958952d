// SPDX-License-Identifier: GPL-2.0

//! Interleavings: a migration is stopped at each of its stages, on each of its ways, and each of many
//! things happens to its pages there.
//!
//! A race that `stress` meets once in a thousand rounds is met here each time. The table is
//! `tests/interleavings.md`, which this program prints.

mod action;
mod markdown;
mod run;
mod table;
mod view;
mod way;

use std::sync::OnceLock;

use crate::test::case::Case;

pub use markdown::print;

/// Every `sample`th of the cells, spread over the table, or all but these; with `destructive`, those that this
/// kernel does not survive are not skipped.
pub fn cases(sample: usize, but: bool, destructive: bool) -> impl Iterator<Item = &'static Case> {
    static CASES: OnceLock<Vec<(usize, Case)>> = OnceLock::new();
    let cases = CASES.get_or_init(|| {
        let case = |cell: table::Cell| {
            // Once, and for as long as the program runs.
            let name = cell.name().leak();
            let run = Box::leak(Box::new(move |ctx: &_| run::run(cell, destructive, ctx)));
            let case = Case::cell(name, cell.action.words().1, run);
            match cell.races() {
                true => case.races(),
                false => case,
            }
        };
        table::cells().map(|(n, cell)| (n, case(cell))).collect()
    });
    cases
        .iter()
        .filter(move |(number, _)| (number % sample == 0) != but)
        .map(|(_, case)| case)
}
