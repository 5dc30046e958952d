// SPDX-License-Identifier: GPL-2.0

//! Interleavings: a migration of each kind (a *way*) is stopped at each of its stages, and each of many actions is then
//! performed on its pages.
//!
//! A race that `stress` meets once in a thousand rounds happens here each time. The table is `tests/interleavings.md`,
//! which this program prints.

mod action;
mod markdown;
mod run;
mod table;
mod view;
mod way;

use std::sync::OnceLock;

use crate::test::case::Case;
use table::Cell;
use way::Way;

pub use markdown::print;

/// Makes the case for a cell. Its name and its function are never freed, so this is called once per cell.
fn case(cell: Cell) -> Case {
    let name = cell.name().leak();
    let run = Box::leak(Box::new(move |ctx: &_| run::run(cell, ctx)));
    let mut case = Case::cell(name, cell.action.words().1, run);
    if let Some(bug) = cell.core_bug() {
        case = case.meets(bug);
    }
    match cell.races() {
        true => case.races(),
        false => case,
    }
}

struct Numbered {
    number: usize,
    cell: Cell,
    case: Case,
}

fn table() -> &'static [Numbered] {
    static TABLE: OnceLock<Vec<Numbered>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let numbered = |(number, cell)| Numbered {
            number,
            cell,
            case: case(cell),
        };
        table::cells().map(numbered).collect()
    })
}

/// Returns every `sample`th cell, spread over the table, or with `but` all cells except these.
pub fn cases(sample: usize, but: bool) -> impl Iterator<Item = &'static Case> {
    table()
        .iter()
        .filter(move |row| (row.number % sample == 0) != but)
        .map(|row| &row.case)
}

/// Returns a sample of the cells that show a bug of the core each time: those after which the kernel continues to work,
/// and one of the others for each way that has any.
pub fn sample_of_core_bugs() -> impl Iterator<Item = &'static Case> {
    let shown = |row: &&Numbered| row.case.core_bug.and_then(|bug| bug.shown);
    let breaks = move |row: &&Numbered| shown(row).is_some_and(|shown| shown.destructive());
    let shares = move |row: &&Numbered| shown(row).is_some_and(|shown| !shown.destructive());
    let others = (0..).zip(Way::ALL).filter_map(move |(nth, way)| {
        let meets = move |row: &&Numbered| row.cell.way == way && breaks(row);
        let count = table().iter().filter(meets).count();
        table().iter().filter(meets).nth(nth * 3 % count.max(1))
    });
    let shared = table().iter().filter(shares);
    shared.chain(others).map(|row| &row.case)
}
