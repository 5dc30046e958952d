// SPDX-License-Identifier: GPL-2.0

//! The counts that the patched kernel traced during a split, and the expected ones.

use std::fmt;

use anyhow::{bail, ensure, Context, Result};

/// The stages of the tracepoint `migrate_device_stage`, in order, with their titles in the table.
pub const STAGES: [(&str, &str); 10] = [
    ("before_get", "before folio_get"),
    ("after_get", "after folio_get"),
    ("no_pmd", "no PMD of this folio"),
    ("after_pmd_split", "after split_huge_pmd_address"),
    ("after_folio_split", "after folio_split_unmapped"),
    ("after_error", "leaving on the error path"),
    ("before_lru", "finalize, before folio_add_lru"),
    ("before_remap", "  before remove_migration_ptes"),
    ("after_remap", "  after it"),
    ("after_put", "  after folio_put"),
];

/// The counts of a folio at a stage; written `REFS/MAPS/ORDER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub refs: i64,
    pub maps: i64,
    pub order: i64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.refs, self.maps, self.order)
    }
}

impl Counts {
    fn parse(text: &str) -> Result<Counts> {
        let numbers: Vec<i64> = text
            .split('/')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("not REFS/MAPS/ORDER: {text}"))?;
        let [refs, maps, order] = numbers[..] else {
            bail!("not REFS/MAPS/ORDER: {text}");
        };
        Ok(Counts { refs, maps, order })
    }
}

/// The counts of one split, stage by stage; `None` for a stage that it did not reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub stages: [Option<Counts>; STAGES.len()],
    /// The return value of `folio_split_unmapped`.
    pub returned: Option<i64>,
}

/// Returns the splits in the output of a step, each with the first pass of its folio through finalize.
pub fn splits(text: &str) -> Result<Vec<Split>> {
    let mut splits: Vec<(u64, Split)> = Vec::new();
    for line in text.lines() {
        let Some((_, event)) = line.split_once("migrate_device_stage: ") else {
            continue;
        };
        let number = |name: &str| -> Result<i64> {
            let word = field(event, name)?;
            word.parse().with_context(|| format!("{name}={word}"))
        };
        let stage = field(event, "stage")?;
        let Some(index) = STAGES.iter().position(|(name, _)| *name == stage) else {
            bail!("the kernel traces a stage that is not known: {stage}");
        };
        let pfn = u64::from_str_radix(field(event, "pfn")?.trim_start_matches("0x"), 16)
            .with_context(|| format!("pfn in: {event}"))?;
        if index == 0 {
            splits.push((pfn, Split::default()));
        }
        // Ignores other folios of this process, which also go through finalize, and later migrations of this folio.
        let Some((_, split)) = splits.last_mut().filter(|(of, _)| *of == pfn) else {
            continue;
        };
        if split.stages[index..].iter().any(Option::is_some) {
            continue;
        }
        split.stages[index] = Some(Counts {
            refs: number("refs")?,
            maps: number("mapcount")?,
            order: number("order")?,
        });
        if stage == "after_folio_split" {
            split.returned = Some(number("ret")?);
        }
    }
    Ok(splits.into_iter().map(|(_, split)| split).collect())
}

fn field<'a>(event: &'a str, name: &str) -> Result<&'a str> {
    event
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .with_context(|| format!("no {name} in: {event}"))
}

/// The expectations for one condition on one kernel.
#[derive(Debug, Default)]
pub struct Expected {
    pub split: Split,
    /// The end of a program, by driver: `passed`, `failed`, or `broken`, which is anything but passed.
    pub program: Vec<(String, String)>,
}

/// Reads the column `column` of the table in `text`. The table has a head, a row for each stage, a row `returned`, and
/// rows `program:DRIVER`. A `-` means that the folio does not reach the stage.
pub fn expected(text: &str, column: &str) -> Result<Expected> {
    let mut rows = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let heads = rows.next().context("no head")?;
    let at = heads
        .iter()
        .position(|head| *head == column)
        .with_context(|| format!("no column {column}"))?;
    let mut expected = Expected::default();
    let mut seen = 0;
    for row in rows {
        ensure!(row.len() == heads.len(), "row not understood: {row:?}");
        let (name, cell) = (row[0], row[at]);
        if name == "returned" {
            if cell != "-" {
                expected.split.returned = Some(cell.parse().context("returned")?);
            }
        } else if let Some(driver) = name.strip_prefix("program:") {
            expected.program.push((driver.into(), cell.into()));
        } else {
            let index = STAGES.iter().position(|(stage, _)| *stage == name);
            let index = index.with_context(|| format!("no stage {name}"))?;
            seen += 1;
            if cell != "-" {
                expected.split.stages[index] = Some(Counts::parse(cell)?);
            }
        }
    }
    ensure!(
        seen == STAGES.len(),
        "{seen} stages are expected of {}",
        STAGES.len()
    );
    Ok(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stage: &str, pfn: u64, refs: u32, ret: i32) -> String {
        format!(
            "  x-68 [001] ..... 8.0: migrate_device_stage: stage={stage} index=0 npages=512 \
             pfn={pfn:#x} device=0 order=9 refs={refs} mapcount=0 expected=0 ret={ret}\n"
        )
    }

    #[test]
    fn a_split_is_followed_through_one_migration() {
        let text = [
            "ok 1 something else\n".to_string(),
            event("before_lru", 8, 7, 0),
            event("before_get", 5, 1, 0),
            event("after_get", 5, 2, 0),
            event("after_folio_split", 5, 1, -11),
            event("before_lru", 6, 9, 0),
            event("after_put", 5, 512, 0),
            event("before_lru", 5, 3, 0),
            event("after_put", 5, 0, 0),
            event("before_get", 9, 1, 0),
        ]
        .concat();
        let splits = splits(&text).unwrap();
        assert_eq!(splits.len(), 2);
        let refs: Vec<_> = splits[0].stages.map(|s| s.map(|c| c.refs)).into();
        let none = None;
        assert_eq!(
            refs,
            [
                Some(1),
                Some(2),
                none,
                none,
                Some(1),
                none,
                none,
                none,
                none,
                Some(512)
            ]
        );
        assert_eq!(splits[0].returned, Some(-11));
    }

    #[test]
    fn what_is_expected_is_read_by_column() {
        let mut text = String::from("# remark\nstage clean refused\nreturned 0 -11\n");
        for (stage, _) in STAGES {
            text += &format!("{stage} 1/0/9 -\n");
        }
        text += "program:c passed failed\n";
        let clean = expected(&text, "clean").unwrap();
        assert_eq!(clean.split.stages[4].unwrap().to_string(), "1/0/9");
        let refused = expected(&text, "refused").unwrap();
        assert_eq!(refused.split.stages[4], None);
        assert_eq!(refused.split.returned, Some(-11));
        assert_eq!(refused.program, [("c".to_string(), "failed".to_string())]);
        assert!(expected(&text, "put").is_err());
        assert!(expected(&text.replace("1/0/9", "1/0"), "clean").is_err());
    }
}
