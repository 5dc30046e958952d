// SPDX-License-Identifier: GPL-2.0

//! The cost of the ledger and the tracepoint while they are off: the same rows with and without them, in instructions.

use comfy_table::{presets, Table};
use serde::Serialize;

use super::super::{
    record::{Results, Row, Side, What},
    rows::Unit,
    stats,
};
use crate::{device::PAGE_SIZE, table};

const TITLE: &str = "Instructions that ledger and tracepoint cost while they are off";

/// The medians of a row over all rounds, in nanoseconds, each of which is an instruction.
#[derive(Debug, PartialEq, Serialize)]
pub struct Cost {
    row: Row,
    without: f64,
    with: f64,
}

impl Cost {
    /// Returns what they add, in percent.
    fn percent(&self) -> f64 {
        (self.with / self.without - 1.0) * 100.0
    }
}

/// Returns the rows that both have.
pub fn costs(with: &Results, without: &Results) -> Vec<Cost> {
    let of = |results: &Results, row| {
        let times = results.times(row, Side::Rust);
        (!times.is_empty()).then(|| stats::median(&times))
    };
    let cost = |row: Row| {
        Some(Cost {
            row,
            without: of(without, row)?,
            with: of(with, row)?,
        })
    };
    let rows = with.rows().into_iter();
    // Without p99: the slowest faults are those that the timer interrupted.
    rows.filter(|row| row.what.is_compared() && row.what != What::FaultP99)
        .filter_map(cost)
        .collect()
}

fn rows(costs: &[Cost]) -> Table {
    let mut table = table::new(&[
        "operation",
        "pages",
        "size",
        "without",
        "with",
        "more",
        "for each page, or fault",
    ]);
    for cost in costs {
        let pages = match cost.row.unit() {
            Unit::Rate(bytes) => bytes / PAGE_SIZE as f64,
            // A sample is one operation, such as a CPU fault.
            Unit::Time | Unit::Memory => 1.0,
        };
        table.add_row([
            cost.row.what.text().into(),
            cost.row.pages_text(),
            cost.row.size(),
            format!("{:.0}", cost.without),
            format!("{:.0}", cost.with),
            format!("{:+.2} %", cost.percent()),
            format!("{:+.1}", (cost.with - cost.without) / pages),
        ]);
    }
    table
}

pub fn text(costs: &[Cost]) -> String {
    match costs {
        [] => String::new(),
        _ => format!("{TITLE}\n{}\n\n", rows(costs)),
    }
}

pub fn markdown(costs: &[Cost]) -> String {
    if costs.is_empty() {
        return String::new();
    }
    let mut table = rows(costs);
    table.load_preset(presets::ASCII_MARKDOWN);
    format!(
        "\n## {TITLE}\n\nTwo guests, of which one has a module that was built without them. What differs beyond that, \
        as where its code lies, differs here as well.\n\n{table}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{super::judge::tests::results, *};

    #[test]
    fn only_rows_that_both_have_are_compared() {
        let (with, without) = (results(&[9; 5], &[102; 5]), results(&[9; 5], &[100; 5]));
        let costs = costs(&with, &without);
        assert_eq!(costs.len(), 1);
        assert_eq!((costs[0].without, costs[0].with), (100.0, 102.0));
        let text = markdown(&costs);
        let row = text.lines().find(|l| l.contains("to device")).unwrap();
        assert!(row.contains("| 100     | 102  | +2.00 % | +0.0"), "{row}");
        assert_eq!(super::costs(&with, &Results::default()), []);
        assert_eq!(markdown(&[]), "");
    }
}
