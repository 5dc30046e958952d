// SPDX-License-Identifier: GPL-2.0

//! The plans: lists of jobs.

use clap::ValueEnum;

use super::{
    jobs::{Job, Kind},
    record::Pages::{self, Huge, Small},
    rows::MIB,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plan {
    /// All rows
    Full,
    /// A few rows, for guests in which time passes slowly
    Few,
    /// Migrations of huge pages, CPU faults on them, and their copies, from one huge page to 1 GiB
    Huge,
    /// Processes that migrate at the same time
    SideBySide,
    /// Each kind of row once, as small as possible
    Smoke,
}

/// The sizes of the rows in MiB, and the numbers of processes. Pairs are for huge and for small pages.
struct Sizes {
    huge: &'static [u64],
    small: &'static [u64],
    random_huge: &'static [u64],
    random_small: &'static [u64],
    latency: [u64; 2],
    exclusive: [&'static [u64]; 2],
    held: &'static [u64],
    processes: &'static [u32],
    side_by_side: [u64; 2],
    phases: [&'static [u64]; 2],
}

const FULL: Sizes = Sizes {
    huge: &[2, 8, 32, 128, 256],
    small: &[2, 8, 32, 128],
    random_huge: &[32],
    random_small: &[8, 32],
    latency: [64, 8],
    exclusive: [&[2, 8], &[2, 8]],
    held: &[128, 1024],
    processes: &[1, 2, 4],
    side_by_side: [32, 8],
    phases: [&[2, 32, 256], &[2, 32]],
};

const FEW: Sizes = Sizes {
    huge: &[2, 8],
    small: &[2],
    random_huge: &[],
    random_small: &[2],
    latency: [16, 1],
    exclusive: [&[2], &[2]],
    held: &[32],
    processes: &[],
    side_by_side: [2, 2],
    phases: [&[2, 8], &[2]],
};

const SMOKE: Sizes = Sizes {
    huge: &[2],
    small: &[1],
    random_huge: &[2],
    random_small: &[1],
    latency: [4, 1],
    exclusive: [&[2], &[1]],
    held: &[4],
    processes: &[2],
    side_by_side: [2, 1],
    phases: [&[2], &[1]],
};

/// The largest size of a migration, in MiB.
const LARGEST: u64 = 1024;

impl Plan {
    /// Returns the jobs. Opening and closing comes first: the C driver's close walks all device memory that was ever
    /// made, and later jobs make more.
    pub fn jobs(self) -> Vec<Job> {
        let sizes = match self {
            Plan::Full | Plan::SideBySide => FULL,
            Plan::Few => FEW,
            Plan::Smoke => SMOKE,
            Plan::Huge => return huge(),
        };
        if self == Plan::SideBySide {
            return sizes.side_by_side();
        }
        let mut jobs = vec![job(Kind::OpenClose, Huge, 0)];
        let mut add = |kind, pages, sizes: &[u64]| {
            jobs.extend(sizes.iter().map(|size| job(kind, pages, *size)));
        };
        for (pages, all, random, index) in [
            (Huge, sizes.huge, sizes.random_huge, 0),
            (Small, sizes.small, sizes.random_small, 1),
        ] {
            add(Kind::Migrate, pages, all);
            add(Kind::FaultInOrder, pages, all);
            add(Kind::FaultAtRandom, pages, random);
            add(Kind::Latency, pages, &[sizes.latency[index]]);
            add(Kind::OnDevice, pages, all);
            add(Kind::OnSystem, pages, all);
            add(Kind::Exclusive, pages, sizes.exclusive[index]);
            add(Kind::Phases, pages, sizes.phases[index]);
        }
        add(Kind::Split, Huge, &[2]);
        add(Kind::Copies, Huge, sizes.huge);
        if self == Plan::Full {
            add(Kind::Migrate, Huge, &[LARGEST]);
            add(Kind::Copies, Huge, &[LARGEST]);
        }
        add(Kind::OpenClose, Huge, sizes.held);
        jobs.extend(sizes.side_by_side());
        jobs
    }
}

impl Sizes {
    fn side_by_side(&self) -> Vec<Job> {
        let of = |processes: &u32| {
            let processes = *processes;
            [Huge, Small]
                .into_iter()
                .zip(self.side_by_side)
                .map(move |(pages, size)| Job {
                    processes,
                    ..job(Kind::SideBySide, pages, size)
                })
        };
        self.processes.iter().flat_map(of).collect()
    }
}

/// Returns jobs that show whether the time per byte grows with the size.
fn huge() -> Vec<Job> {
    let kinds = [Kind::Migrate, Kind::FaultInOrder, Kind::Copies];
    let of = |kind| {
        let sizes = FULL.huge.iter().chain(&[LARGEST]);
        sizes.map(move |size| job(kind, Huge, *size))
    };
    kinds.into_iter().flat_map(of).collect()
}

fn job(kind: Kind, pages: Pages, mib: u64) -> Job {
    Job {
        kind,
        pages,
        bytes: mib * MIB,
        processes: 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bench::record::{Row, What};

    #[test]
    fn no_row_is_measured_twice_and_every_limit_is_measured() {
        for plan in [
            Plan::Full,
            Plan::Few,
            Plan::Huge,
            Plan::SideBySide,
            Plan::Smoke,
        ] {
            let rows: Vec<Row> = plan.jobs().iter().flat_map(Job::rows).collect();
            let set: BTreeSet<_> = rows.iter().copied().collect();
            assert_eq!(set.len(), rows.len(), "{plan:?}");
            for row in rows.iter().filter(|row| row.bytes >= 2 * MIB) {
                for what in row.limit().iter().chain(row.cold_limit()) {
                    assert!(set.contains(&Row::new(*what, Huge, row.bytes)), "{row:?}");
                }
            }
        }
        let full: BTreeSet<_> = Plan::Full.jobs().iter().flat_map(Job::rows).collect();
        assert!(full.contains(&Row::new(What::ToDevice, Huge, 1024 * MIB)));
    }
}
