// SPDX-License-Identifier: GPL-2.0

//! The ledger in debugfs: one line for each stage of each migrated folio.

use std::{collections::HashSet, fs, io::ErrorKind, path::PathBuf};

use anyhow::{bail, ensure, Context, Result};

const DIRECTORY: &str = "/sys/kernel/debug/rust_dmirror";
const COLUMNS: [&str; 11] = [
    "seq",
    "stage",
    "device",
    "direction",
    "pfn",
    "order",
    "refs",
    "mapcount",
    "expected",
    "held",
    "ok",
];

/// One line, its columns as text: they are shown, not computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub seq: u64,
    pub pfn: u64,
    /// References seen beyond those that the driver knows of; less than none is a folio that is
    /// about to be freed under somebody's hands.
    pub surplus: i64,
    pub columns: Vec<String>,
    pub matches: bool,
}

/// The heads of [`Record::columns`].
pub fn heads() -> &'static [&'static str] {
    &COLUMNS
}

/// What the ledger counted since the module was loaded. It keeps its last few thousand records only:
/// these numbers are of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub checks: u64,
    pub mismatches: u64,
    /// Of the mismatches those of too few references, which nothing excuses.
    pub too_low: u64,
}

pub fn totals() -> Result<Totals> {
    parse_totals(&read("ledger_totals")?)
}

fn parse_totals(text: &str) -> Result<Totals> {
    Ok(Totals {
        checks: number(text, "checks")?,
        mismatches: number(text, "mismatches")?,
        too_low: number(text, "too_low")?,
    })
}

/// The number behind a name, in a debugfs file with one of each a line.
pub fn number(text: &str, name: &str) -> Result<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.with_context(|| format!("no `{name}` in {text:?}"))?
        .parse()
        .with_context(|| format!("`{name}` is no number in {text:?}"))
}

/// Of the counts that were wrong the last few that the ledger still holds, for people.
pub fn mismatches() -> String {
    let mut wrong: Vec<_> = read("ledger")
        .and_then(|text| parse(&text))
        .unwrap_or_default()
        .into_iter()
        .filter(|record| !record.matches)
        .map(|record| record.columns.join(" "))
        .collect();
    wrong.drain(..wrong.len().saturating_sub(8));
    wrong.join("; ")
}

/// Rows for a table: a folio that was split makes 512 records at each stage, which differ in their
/// numbers only. Such a run becomes one row, with how many folios it stands for as last column.
pub fn rows(records: &[Record]) -> Vec<Vec<String>> {
    // Sources and destinations take turns, so a run is looked for in the last few rows.
    const LOOK_BACK: usize = 3;
    struct Row<'a> {
        first: &'a Record,
        folios: HashSet<u64>,
    }
    let alike = |a: &Record, b: &Record| {
        let differs = |i: usize| COLUMNS[i] != "seq" && COLUMNS[i] != "pfn";
        (0..COLUMNS.len()).all(|i| !differs(i) || a.columns[i] == b.columns[i])
    };
    let mut rows: Vec<Row<'_>> = Vec::new();
    for record in records {
        let run = rows.iter_mut().rev().take(LOOK_BACK).find(|row| {
            // The same folio again is another attempt.
            alike(row.first, record) && !row.folios.contains(&record.pfn)
        });
        match run {
            Some(row) => {
                row.folios.insert(record.pfn);
            }
            None => rows.push(Row {
                first: record,
                folios: HashSet::from([record.pfn]),
            }),
        }
    }
    rows.into_iter()
        .map(|row| {
            let mut columns = row.first.columns.clone();
            columns.push(row.folios.len().to_string());
            columns
        })
        .collect()
}

/// Switches the ledger on for as long as this lives.
pub struct Ledger {
    was: String,
    before: Totals,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(DIRECTORY).join(name)
}

fn read(name: &str) -> Result<String> {
    match fs::read_to_string(path(name)) {
        Ok(text) => Ok(text),
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::PermissionDenied => "only root may read it",
                // An unmounted mount point is an empty directory.
                _ if fs::read_dir("/sys/kernel/debug").map_or(true, |mut d| d.next().is_none()) => {
                    "debugfs is not mounted: mount -t debugfs none /sys/kernel/debug"
                }
                _ => "the module is not loaded, or is not rust_dmirror",
            };
            bail!("{}: {error}; {advice}", path(name).display());
        }
    }
}

impl Ledger {
    pub fn enable() -> Result<Ledger> {
        let (was, before) = (read("ledger_enabled")?, totals()?);
        fs::write(path("ledger_enabled"), "1").context("cannot enable the ledger")?;
        Ok(Ledger { was, before })
    }

    /// Counts of too few references since it was switched on.
    pub fn too_low(&self) -> Result<u64> {
        Ok(totals()?.too_low - self.before.too_low)
    }

    /// What it holds now, oldest first.
    pub fn records(&self) -> Result<Vec<Record>> {
        parse(&read("ledger")?)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = fs::write(path("ledger_enabled"), self.was.trim());
    }
}

/// Reads the file's text; columns are found by their heads, so new ones do no harm.
fn parse(text: &str) -> Result<Vec<Record>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let Some(first) = lines.next() else {
        return Ok(Vec::new());
    };
    let heads: Vec<_> = first.split_whitespace().collect();
    let order: Vec<_> = COLUMNS
        .iter()
        .map(|name| {
            heads
                .iter()
                .position(|head| head == name)
                .with_context(|| format!("the ledger has no column {name}"))
        })
        .collect::<Result<_>>()?;
    lines
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            ensure!(
                words.len() == heads.len(),
                "ledger line not understood: {line}"
            );
            let columns: Vec<_> = order.iter().map(|&i| words[i].to_string()).collect();
            let number = |column: &str| match column.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => column.parse(),
            };
            let understood = || format!("ledger line not understood: {line}");
            let count = |i: usize| columns[i].parse::<i64>().with_context(understood);
            Ok(Record {
                seq: number(&columns[0]).with_context(understood)?,
                pfn: number(&columns[4]).with_context(understood)?,
                surplus: count(6)? - count(8)? - count(9)?,
                matches: columns.last().is_some_and(|ok| ok != "MISMATCH"),
                columns,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_records() {
        let text = "\
seq stage     device direction  pfn     order refs mapcount expected held ok
7   setup     0      to_device  0x1a200 9     1    0        0        1    ok
8   pages-src 0      to_device  0x1a200 9     513  512      512      0    MISMATCH
";
        let records = parse(text).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].seq, 7);
        assert!(records[0].matches && !records[1].matches);
        assert_eq!(records[1].columns[6], "513");
        assert_eq!((records[0].surplus, records[1].surplus), (0, 1));
    }

    #[test]
    fn columns_are_found_by_name() {
        let text = "ok seq when stage device direction pfn order refs mapcount expected held\n\
            ok 1 99 copy 0 to_device 5 0 1 0 0 1\n";
        let record = &parse(text).unwrap()[0];
        assert_eq!(record.columns[1], "copy");
        assert_eq!(record.columns[10], "ok");
    }

    #[test]
    fn runs_of_folios_become_one_row() {
        let mut text = COLUMNS.join(" ");
        for (seq, line) in [
            "setup 0 to_device 0x100 9 1 0 0 1 ok",
            "pages-src 0 to_device 0x100 0 1 0 0 1 ok",
            "pages-dst 0 to_device 0x900 0 1 0 0 1 ok",
            "pages-src 0 to_device 0x101 0 1 0 0 1 ok",
            "pages-dst 0 to_device 0x901 0 1 0 0 1 ok",
            "pages-src 0 to_device 0x102 0 2 0 0 1 MISMATCH",
            "pages-src 0 to_device 0x100 0 1 0 0 1 ok",
        ]
        .iter()
        .enumerate()
        {
            text += &format!("\n{seq} {line}");
        }
        let rows = rows(&parse(&text).unwrap());
        let seen: Vec<_> = rows
            .iter()
            .map(|r| (r[0].as_str(), r[11].as_str()))
            .collect();
        assert_eq!(
            seen,
            [("0", "1"), ("1", "2"), ("2", "2"), ("5", "1"), ("6", "1")]
        );
    }

    #[test]
    fn totals_are_found_by_their_whole_name() {
        let text = "checks_not 9\nchecks 30\nmismatches 2\ntoo_low 1\n";
        let wanted = Totals {
            checks: 30,
            mismatches: 2,
            too_low: 1,
        };
        assert_eq!(parse_totals(text).unwrap(), wanted);
        assert!(parse_totals("checks 30\nmismatches 2\n").is_err());
        assert!(parse_totals("checks 30\nmismatches 2\ntoo_low x\n").is_err());
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(parse("").unwrap().is_empty());
        assert!(parse("seq stage\n1 setup\n").is_err());
        let heads = COLUMNS.join(" ");
        assert!(parse(&format!("{heads}\n1 2 3\n")).is_err());
        assert!(parse(&format!("{heads}\nx 2 3 4 5 6 7 8 9 10 ok\n")).is_err());
    }
}
