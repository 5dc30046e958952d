// SPDX-License-Identifier: GPL-2.0

//! Tables for people: one look for all commands.

use comfy_table::{presets, CellAlignment, ContentArrangement, Table};

/// A table with these column heads.
pub fn new(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heads);
    table
}

/// Sets numbers flush right.
pub fn align_right(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
