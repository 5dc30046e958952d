// SPDX-License-Identifier: GPL-2.0

//! Compares the results with the known defects, and makes the table.

use std::{cmp::Reverse, collections::HashMap, path::Path};

use anyhow::Result;

use super::{
    known::{kernel_name, of_c, of_core, Known},
    log::{Results, RESULT_PASSED},
};
use crate::{
    device::Driver,
    test::{shown::Seen, CoreBugs},
};

/// A known defect, and what was seen of it.
pub struct Row {
    known: Known,
    /// The result where the defect must show, and the result where the case must pass: with our driver, or on a kernel
    /// with our patches. `None` if the case was not run: by default, only a sample of those about the core is.
    seen: Option<(Seen, String)>,
}

impl Row {
    /// Returns the sort key: defects of the C driver (T) come before those of the core (K), each by its number.
    fn order(&self) -> (Reverse<char>, u32) {
        let mut chars = self.known.id.chars();
        let letter = chars.next().unwrap_or_default();
        (Reverse(letter), chars.as_str().parse().unwrap_or(0))
    }

    fn is_as_known(&self) -> bool {
        let is = |(seen, _): &(Seen, String)| self.known.shown.is(seen);
        self.seen.as_ref().is_none_or(is)
    }

    /// Returns the text for the table. If the result matches, this is the text of the known defect, so that the table
    /// changes only when a result changes.
    fn text(&self) -> String {
        match &self.seen {
            Some((seen, _)) if !self.is_as_known() => seen.text(),
            _ => self.known.shown.text(),
        }
    }
}

pub fn read(vm: &Path, rust: &str, mended: &str, which: CoreBugs) -> Result<Vec<Row>> {
    let mut guests: HashMap<String, Results> = HashMap::new();
    let (ours, patched) = (
        Results::read(&vm.join(rust))?,
        Results::read(&vm.join(mended))?,
    );
    let chosen: Vec<_> = of_core(which).map(|known| known.case.name).collect();
    let mut rows = Vec::new();
    for known in of_c().chain(of_core(CoreBugs::All)) {
        let name = known.case.name;
        let good = match known.driver {
            Driver::C => &ours,
            Driver::Rust => &patched,
        };
        let is_chosen = known.driver == Driver::C || chosen.contains(&name);
        let seen = match is_chosen {
            true => {
                let guest = known.guest();
                if !guests.contains_key(&guest) {
                    guests.insert(guest.clone(), Results::read(&vm.join(&guest))?);
                }
                Some((guests[&guest].seen(name), good.verdict(name)))
            }
            false => None,
        };
        rows.push(Row { known, seen });
    }
    rows.sort_by_key(Row::order);
    Ok(rows)
}

/// Returns both tables. They are compared with those in the tree, so they must not depend on the version of the kernel.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "<!-- SPDX-License-Identifier: GPL-2.0 -->\n\
        <!-- Made by `make defects`; not to be edited. -->\n\n\
        # What the C driver gets wrong, seen beside this one\n\n\
        The kernel `stock` is Debian's, `own` our build of it with DEBUG_VM and fault injection.\n\n\
        | id | what is done | kernel | C driver, test_hmm | rust_dmirror |\n\
        | --- | --- | --- | --- | --- |\n"
    );
    let mut last = "";
    for row in rows.iter().filter(|row| row.known.driver == Driver::C) {
        let Known {
            id, case, shown, ..
        } = &row.known;
        let id_once = if *id == last { "" } else { id };
        last = id;
        let mut kernel = kernel_name(shown.kernel).to_string();
        if shown.coherent {
            kernel += ", coherent memory";
        }
        if !shown.append.is_empty() {
            kernel = format!("{kernel}, {}", shown.append);
        }
        let ours = row.seen.as_ref().map_or("", |(_, verdict)| verdict);
        text += &line(&[
            &id_once.to_uppercase(),
            case.about,
            &kernel,
            &row.text(),
            ours,
        ]);
    }
    text + &core(rows)
}

fn line(cells: &[&str]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "/")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Returns the second table. Interleavings with the same result that differ only in their stage share a line.
fn core(rows: &[Row]) -> String {
    let mut groups: Vec<(String, Vec<&str>, &Row)> = Vec::new();
    for row in rows.iter().filter(|row| row.known.driver == Driver::Rust) {
        let (pattern, stage) = without_stage(row.known.case.name);
        let same = |(known, _, first): &&mut (String, Vec<&str>, &Row)| {
            *known == pattern && first.text() == row.text()
        };
        match groups.iter_mut().find(same) {
            Some((_, stages, _)) => stages.push(stage),
            None => groups.push((pattern, vec![stage], row)),
        }
    }
    let mut text = String::from(
        "\n# What the core gets wrong, whoever migrates\n\n\
        Each case runs with rust_dmirror: on `stock`, in a guest of its own if that does not survive it, and on\n\
        `own`, whose patches fix the bug, where it must pass. By default `make defects` runs those that the\n\
        kernel survives, `stress.zap`, and of the others one for each way of migration; `CORE_BUGS=all` runs all.\n\
        STAGE stands for each stage of the third column.\n\n\
        | id | case | stages | what is done | stock | kernel's arguments |\n\
        | --- | --- | --- | --- | --- | --- |\n",
    );
    for (pattern, stages, row) in groups {
        let Known {
            id, case, shown, ..
        } = &row.known;
        let name = format!("`{pattern}`");
        text += &line(&[
            id,
            &name,
            &stages.join(", "),
            case.about,
            &row.text(),
            shown.append,
        ]);
    }
    text
}

/// Splits the name of an interleaving into the name without its stage, and the stage.
fn without_stage(name: &str) -> (String, &str) {
    let mut parts: Vec<_> = name.split('.').collect();
    match parts.len() {
        n if n > 3 && parts[0] == "pause" => {
            let stage = std::mem::replace(&mut parts[n - 2], "STAGE");
            (parts.join("."), stage)
        }
        _ => (name.into(), ""),
    }
}

/// Returns a line for each result that was checked, and whether all are as expected.
pub fn judge(rows: &[Row]) -> (String, bool) {
    let mut text = String::new();
    let mut all = true;
    for row in rows {
        let Some((seen, verdict)) = &row.seen else {
            continue;
        };
        let (bad, good) = match row.known.driver {
            Driver::C => ("c", "rust"),
            Driver::Rust => ("stock", "own"),
        };
        for (who, as_known, seen) in [
            (bad, row.is_as_known(), seen.text()),
            (good, verdict == RESULT_PASSED, verdict.clone()),
        ] {
            all &= as_known;
            let known = match as_known || who == good {
                false => format!("; known: {}", row.known.shown.text()),
                true => String::new(),
            };
            let name = row.known.case.name;
            text += &format!("{who}, {name}\t{}\t{seen}{known}\n", u8::from(as_known));
        }
    }
    (text, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_version_and_no_line_number() {
        let all = of_c().chain(of_core(CoreBugs::All));
        let rows: Vec<_> = all.map(|known| Row { known, seen: None }).collect();
        let text = markdown(&rows);
        assert!(rows.len() > 40 && text.lines().count() > 40);
        let found = regex::Regex::new(r"\.[chS]:[0-9]|[0-9]\.[0-9]+[.-][0-9]").unwrap();
        for line in text.lines() {
            assert!(!found.is_match(line), "{line}");
        }
    }

    #[test]
    fn only_interleavings_have_stages() {
        let (pattern, stage) = without_stage("pause.to_system.whole.filled.zap_all");
        assert_eq!(
            (&*pattern, stage),
            ("pause.to_system.whole.STAGE.zap_all", "filled")
        );
        assert_eq!(without_stage("race.0_1_5"), ("race.0_1_5".into(), ""));
    }
}
