// SPDX-License-Identifier: GPL-2.0

//! Makes `tests/interleavings.md` from the table.

use std::fmt::Write;

use super::{
    action::Action,
    table::{cells, Cell, When},
    way::Way,
};
use crate::abi::Stage;

const HEAD: &str = "\
<!-- SPDX-License-Identifier: GPL-2.0 -->
<!-- Printed by `dmirror interleavings`; a unit test of the companion compares. -->
# Interleavings

A migration is stopped between two of its stages, with the locks that it holds there
(`RUST_DMIRROR_PAUSE`), and something happens to its pages. Stages:

- *collected*: after `migrate_vma_setup()`, sources are locked and unmapped
- *filled*: destinations are filled and given, before `migrate_vma_pages()`
- *committed*: right after `migrate_vma_pages()`
- *finalize*: outcomes are counted, before `migrate_vma_finalize()`

Each cell below is one test case for each stage, `pause.WAY.STAGE.ACTION`, run by `dmirror test --suite
interleavings`. Each case compares all data afterwards, wants the counts to add up, reference counts as
they should be, all device memory back, and a silent kernel log. What a cell says is checked as well:

- *inside*: the action has its effect while the migration is stopped
- *waits*: a lock or the page itself excludes that: the action has its effect after the migration
- *ends*: it kills the thread that migrates, which ends the stop
- *varies*: one or the other, depending on how the kernel lets the driver split
- with a K number: not run on a kernel without our patches (`tests/kernel/patches`), which has that bug and
  may not survive; `make defects` shows it there in some of them:
  K12, a zap of the migration entry of a huge device folio removes mapping and reference twice; K13,
  eviction holds no reference on the anon_vma. K20 and K24, a PMD that was zapped before it is split while
  migrating, are avoided there
- –: does not exist
";

impl When {
    fn word(self) -> &'static str {
        match self {
            When::Inside => "inside",
            When::Waits => "waits",
            When::Ends => "ends",
            When::Varies => "varies",
        }
    }
}

/// Returns the text for a cell: when the action has its effect, and the bug of the core that it meets.
fn stage_text(cell: &Cell) -> String {
    match cell.core_bug() {
        Some(bug) => format!("{} ({})", cell.when().word(), bug.id),
        None => cell.when().word().to_string(),
    }
}

/// Returns the text for all stages of a way and an action. Stages with the same text are listed together.
fn text(way: Way, action: Action) -> String {
    let mut groups: Vec<(String, Vec<Stage>)> = Vec::new();
    for (_, cell) in cells().filter(|(_, cell)| cell.way == way && cell.action == action) {
        let text = stage_text(&cell);
        match groups.iter_mut().find(|group| group.0 == text) {
            Some(group) => group.1.push(cell.stage),
            None => groups.push((text, vec![cell.stage])),
        }
    }
    match &groups[..] {
        [] => "–".into(),
        [(text, _)] => text.clone(),
        groups => {
            let of = |(text, stages): &(String, Vec<Stage>)| {
                let names: Vec<_> = stages.iter().map(|stage| stage.name()).collect();
                format!("{}: {text}", names.join(", "))
            };
            groups.iter().map(of).collect::<Vec<_>>().join("; ")
        }
    }
}

fn document() -> String {
    let mut out = HEAD.to_string();
    for direction in ["to-device", "to-system", "fault", "evict"] {
        let ways = || {
            Way::ALL
                .into_iter()
                .filter(|way| way.direction() == direction)
        };
        let _ = writeln!(out, "\n## {direction}\n");
        for way in ways() {
            let (name, about) = way.words();
            let _ = writeln!(out, "- `{name}`: {about}");
        }
        let names: Vec<_> = ways().map(|way| format!("`{}`", way.name())).collect();
        let _ = writeln!(out, "\n| action | | {} |", names.join(" | "));
        let _ = writeln!(out, "| --- | --- |{}", " --- |".repeat(names.len()));
        for action in Action::ALL {
            let (name, about) = action.words();
            let texts: Vec<_> = ways().map(|way| text(way, action)).collect();
            let _ = writeln!(out, "| `{name}` | {about} | {} |", texts.join(" | "));
        }
    }
    out
}

/// Prints the table, for `dmirror interleavings`. Returns the exit code.
pub fn print() -> u8 {
    print!("{}", document());
    0
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_table_is_this_one() {
        let committed = include_str!("../../../../../interleavings.md");
        assert!(
            super::document() == committed,
            "run `dmirror interleavings >tests/interleavings.md`"
        );
    }
}
