// SPDX-License-Identifier: GPL-2.0

//! The results of a benchmark, as the guest sends them to the report: lines of JSON.

use std::{collections::BTreeMap, fmt};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The prefix of these lines in the output, which makes them diagnostics of KTAP.
pub const MARK: &str = "#json ";

/// The side that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    C,
    Rust,
    /// The kernel's own copy routines, called as often as the ABI demands.
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

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    ToDevice,
    ToSystem,
    /// Migrations of huge pages without a huge destination.
    SplitToDevice,
    SplitToSystem,
    FaultInOrder,
    FaultAtRandom,
    /// Quantiles of single CPU faults in random order.
    FaultP50,
    FaultP90,
    FaultP99,
    DeviceRead,
    DeviceWrite,
    /// Device accesses to system memory that the device must fault in.
    ReadFaulting,
    WriteFaulting,
    SnapshotOfSystem,
    SnapshotOfDevice,
    Exclusive,
    OpenClose,
    /// The kernel memory that a driver uses for pages on its device, in bytes.
    Memory,
    /// Migrations to the device and back, by several processes at once.
    SideBySide,
    /// The benchmark of hmm-tests.
    HmmToDevice,
    HmmToSystem,
    /// The copies that make up the limits.
    CopyPages,
    CopyToUser,
    CopyFromUser,
    /// The same copies, beginning with an empty TLB.
    CopyPagesCold,
    CopyToUserCold,
    /// The phases of the Rust driver's migrations.
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
    /// The bytes that are moved, or that another process has on the device meanwhile.
    pub bytes: u64,
    pub processes: u32,
}

/// The samples of one row from one child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    #[serde(flatten)]
    pub row: Row,
    pub side: Side,
    pub round: u32,
    /// Nanoseconds, or bytes for [`What::Memory`].
    pub ns: Vec<u64>,
}

/// The machine on which it was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: usize,
    pub clocksource: String,
}

/// A line of the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    Machine(Machine),
    Samples(Samples),
    /// A child failed, and why. A new one is started, unless this was the last attempt.
    Repeated {
        side: Side,
        job: String,
        why: String,
    },
}

impl Line {
    /// Returns the text to print.
    pub fn line(&self) -> String {
        // Serializing integers and text cannot fail.
        format!("{MARK}{}", serde_json::to_string(self).unwrap_or_default())
    }
}

/// Reads the lines in the output of a guest. Other output is ignored.
pub fn read(text: &str) -> serde_json::Result<Vec<Line>> {
    text.lines()
        .filter_map(|line| line.trim_end().strip_prefix(MARK))
        .map(serde_json::from_str)
        .collect()
}

/// The results of all rows: the median of each round, by side.
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

    /// Returns the median of each round.
    pub fn times(&self, row: Row, side: Side) -> Vec<f64> {
        self.rounds
            .get(&(row, side))
            .map(|rounds| rounds.values().copied().collect())
            .unwrap_or_default()
    }

    /// Returns the medians of the rounds that both have.
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
