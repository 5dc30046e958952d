// SPDX-License-Identifier: GPL-2.0

//! What a benchmark measured, as it goes from the guest to the report: a line of JSON for each.

use std::{collections::BTreeMap, fmt};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A line of the output that is ours begins like this; KTAP takes it for a diagnostic.
pub const MARK: &str = "#json ";

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    C,
    Rust,
    /// The kernel's own copy routines, as often as the ABI demands.
    Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
pub enum Pages {
    #[serde(rename = "THP")]
    #[value(name = "huge")]
    Huge,
    #[serde(rename = "4 KiB")]
    #[value(name = "small")]
    Small,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pages::Huge => "THP",
            Pages::Small => "4 KiB",
        })
    }
}

/// What is measured. The order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    ToDevice,
    ToSystem,
    /// Of huge pages for which there is no huge destination.
    SplitToDevice,
    SplitToSystem,
    FaultInOrder,
    FaultAtRandom,
    /// Quantiles of single faults at random.
    FaultP50,
    FaultP90,
    FaultP99,
    DeviceRead,
    DeviceWrite,
    /// Of system memory that the device has to fault in.
    ReadFaulting,
    WriteFaulting,
    SnapshotOfSystem,
    SnapshotOfDevice,
    Exclusive,
    OpenClose,
    /// What a driver takes in kernel memory for pages on its device, in bytes.
    Memory,
    /// By that many processes at once, there and back.
    SideBySide,
    /// The benchmark of hmm-tests.
    HmmToDevice,
    HmmToSystem,
    /// Parts of limits.
    CopyPages,
    CopyToUser,
    CopyFromUser,
    /// The same, beginning with an empty TLB.
    CopyPagesCold,
    CopyToUserCold,
    /// Parts of our own migration.
    PhaseSetup,
    PhaseCopy,
    PhasePages,
    PhaseFinalize,
    PhaseReadback,
    PhaseSetupBack,
    PhaseCopyBack,
    PhasePagesBack,
    PhaseFinalizeBack,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Row {
    pub what: What,
    pub pages: Pages,
    /// What is moved, or what another process has on the device meanwhile.
    pub bytes: u64,
    pub processes: u32,
}

/// What one child measured of one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    #[serde(flatten)]
    pub row: Row,
    pub side: Side,
    pub round: u32,
    /// Nanoseconds, or what the row is of.
    pub ns: Vec<u64>,
}

/// What it was measured on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: usize,
    pub clocksource: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    Machine(Machine),
    Samples(Samples),
    /// Children that had to be started again, and why the last one failed.
    Repeated {
        side: Side,
        job: String,
        why: String,
    },
}

impl Line {
    /// As it is printed.
    pub fn line(&self) -> String {
        // Integers and text: nothing in it can fail to be written.
        format!("{MARK}{}", serde_json::to_string(self).unwrap_or_default())
    }
}

/// The lines in a guest's output; anything else there is passed over.
pub fn read(text: &str) -> serde_json::Result<Vec<Line>> {
    text.lines()
        .filter_map(|line| line.trim_end().strip_prefix(MARK))
        .map(serde_json::from_str)
        .collect()
}

/// All samples of all rows: the median of each round, by side.
#[derive(Default)]
pub struct Results {
    rounds: BTreeMap<(Row, Side), BTreeMap<u32, f64>>,
}

impl Results {
    pub fn add(&mut self, samples: &Samples) {
        let ns: Vec<_> = samples.ns.iter().map(|ns| *ns as f64).collect();
        if ns.is_empty() {
            return;
        }
        self.rounds
            .entry((samples.row, samples.side))
            .or_default()
            .insert(samples.round, super::stats::median(&ns));
    }

    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<_> = self.rounds.keys().map(|(row, _)| *row).collect();
        rows.dedup();
        rows
    }

    /// A time for each round.
    pub fn times(&self, row: Row, side: Side) -> Vec<f64> {
        self.rounds
            .get(&(row, side))
            .map(|rounds| rounds.values().copied().collect())
            .unwrap_or_default()
    }

    /// The times of those rounds that both have.
    pub fn pairs(&self, above: (Row, Side), below: (Row, Side)) -> Vec<(f64, f64)> {
        let (Some(above), Some(below)) = (self.rounds.get(&above), self.rounds.get(&below)) else {
            return Vec::new();
        };
        above
            .iter()
            .filter_map(|(round, time)| Some((*time, *below.get(round)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn row(what: What) -> Row {
        Row {
            what,
            pages: Pages::Huge,
            bytes: 2 << 20,
            processes: 1,
        }
    }

    #[test]
    fn lines_come_back() {
        let lines = [
            Line::Machine(Machine::default()),
            Line::Samples(Samples {
                row: row(What::ToDevice),
                side: Side::C,
                round: 3,
                ns: vec![1, 2],
            }),
        ];
        let mut text = String::from("KTAP version 1\nok 1 - something\n");
        for line in &lines {
            text += &format!("{MARK}{}\r\n", serde_json::to_string(line).unwrap());
        }
        assert_eq!(read(&text).unwrap(), lines);
        assert!(read(&format!("{MARK}{{")).is_err());
    }

    #[test]
    fn only_rounds_that_both_have_are_pairs() {
        let mut results = Results::default();
        for (side, round, ns) in [
            (Side::C, 1, vec![4, 6, 100]),
            (Side::C, 2, vec![8]),
            (Side::Rust, 2, vec![2]),
            (Side::Rust, 3, vec![]),
        ] {
            results.add(&Samples {
                row: row(What::ToDevice),
                side,
                round,
                ns,
            });
        }
        let row = row(What::ToDevice);
        assert_eq!(results.times(row, Side::C), [6.0, 8.0]);
        assert_eq!(
            results.pairs((row, Side::C), (row, Side::Rust)),
            [(8.0, 2.0)]
        );
        assert_eq!(results.rows(), [row]);
    }
}
