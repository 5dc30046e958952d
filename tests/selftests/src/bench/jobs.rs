// SPDX-License-Identifier: GPL-2.0

//! The jobs. A job is what one child measures: one or more rows, with one driver.

use std::{path::Path, time::Instant};

use anyhow::{ensure, Context, Result};
use nix::sys::mman::ProtFlags;

use super::{
    child::Series,
    others,
    record::{Pages, Row, What},
    rows::MIB,
    stats::quantile,
    work::{nanos, Effort, Work},
};
use crate::{
    abi,
    device::{migrate_argument, Device, PAGE_SIZE},
    proc::pagemap,
};

/// The kinds of jobs.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Migrations to the device and back, by ioctl.
    Migrate,
    /// The same, without a huge destination.
    Split,
    FaultInOrder,
    FaultAtRandom,
    /// Single CPU faults, of which quantiles are recorded.
    Latency,
    /// Device accesses to memory on the device.
    OnDevice,
    /// Device accesses to system memory that the device must fault in.
    OnSystem,
    Exclusive,
    OpenClose,
    SideBySide,
    /// The kernel's own copy routines, by an ioctl of the Rust driver.
    Copies,
    /// The phases of the Rust driver's migrations.
    Phases,
}

#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub kind: Kind,
    pub pages: Pages,
    pub bytes: u64,
    pub processes: u32,
}

const COPIES: [What; 5] = [
    What::CopyPages,
    What::CopyToUser,
    What::CopyFromUser,
    What::CopyPagesCold,
    What::CopyToUserCold,
];

const PHASES: [What; 9] = [
    What::PhaseSetup,
    What::PhaseCopy,
    What::PhasePages,
    What::PhaseFinalize,
    What::PhaseReadback,
    What::PhaseSetupBack,
    What::PhaseCopyBack,
    What::PhasePagesBack,
    What::PhaseFinalizeBack,
];

impl Job {
    pub fn name(&self) -> String {
        format!("{:?}, {}, {} bytes", self.kind, self.pages, self.bytes)
    }

    /// Returns what it measures, in the order of the samples.
    fn whats(&self) -> &'static [What] {
        match self.kind {
            Kind::Migrate => &[What::ToDevice, What::ToSystem],
            Kind::Split => &[What::SplitToDevice, What::SplitToSystem],
            Kind::FaultInOrder => &[What::FaultInOrder],
            Kind::FaultAtRandom => &[What::FaultAtRandom],
            Kind::Latency => &[What::FaultP50, What::FaultP90, What::FaultP99],
            Kind::OnDevice => &[What::DeviceRead, What::DeviceWrite, What::SnapshotOfDevice],
            Kind::OnSystem => &[
                What::ReadFaulting,
                What::WriteFaulting,
                What::SnapshotOfSystem,
            ],
            Kind::Exclusive => &[What::Exclusive],
            Kind::OpenClose => &[What::OpenClose],
            Kind::SideBySide => &[What::SideBySide],
            Kind::Copies => &COPIES,
            Kind::Phases => &PHASES,
        }
    }

    pub fn rows(&self) -> Vec<Row> {
        let row = |what: &What| Row {
            what: *what,
            pages: self.pages,
            bytes: self.bytes,
            processes: self.processes,
        };
        self.whats().iter().map(row).collect()
    }

    /// Returns the system memory that it needs, in bytes: for the pages, the simulated device memory, the buffer to
    /// read back to, and the buffer of the C driver, which allocates one for the whole range.
    pub fn needs(&self) -> u64 {
        let times = match self.kind {
            Kind::Copies => 1,
            Kind::OpenClose => 3,
            _ => 4,
        };
        times * u64::from(self.processes) * self.bytes + 256 * MIB
    }

    /// Measures with the driver of `node`. Must be called in a child of its own.
    pub fn run(&self, node: &Path, effort: Effort) -> Result<Series> {
        let mut samples = vec![Vec::new(); self.whats().len()];
        match self.kind {
            Kind::OpenClose => others::open_close(node, self.bytes, effort, &mut samples[0])?,
            Kind::SideBySide => {
                let memory = (self.pages, self.bytes);
                others::side_by_side(node, memory, self.processes, effort, &mut samples[0])?;
            }
            Kind::Copies => copies(node, self.bytes, effort, &mut samples)?,
            _ => {
                let work = Work::new(node, self.pages, self.bytes)?;
                self.measure(&work, effort, &mut samples)?;
                // No page may be on the device when the file is closed and the memory is unmapped: see `others.rs`.
                work.to_system()?;
            }
        }
        Ok(self.rows().into_iter().zip(samples).collect())
    }

    fn measure(&self, work: &Work, effort: Effort, samples: &mut [Vec<u64>]) -> Result<()> {
        match self.kind {
            Kind::Migrate => effort.repeat(|| {
                samples[0].push(work.to_device()?);
                samples[1].push(work.to_system()?);
                Ok(())
            }),
            Kind::Split => effort.repeat(|| split(work, samples)),
            Kind::FaultInOrder => effort.repeat(|| {
                samples[0].push(touch(work, &work.pieces())?);
                Ok(())
            }),
            Kind::FaultAtRandom => effort.repeat(|| {
                samples[0].push(touch(work, &shuffled(work))?);
                Ok(())
            }),
            Kind::Latency => latency(work, effort, samples),
            Kind::OnDevice => {
                work.to_device()?;
                effort.repeat(|| {
                    samples[0].push(work.time(abi::READ)?);
                    samples[1].push(work.time(abi::WRITE)?);
                    samples[2].push(work.time(abi::SNAPSHOT)?);
                    Ok(())
                })
            }
            Kind::OnSystem => effort.repeat(|| {
                unknown(work)?;
                samples[0].push(work.time(abi::READ)?);
                unknown(work)?;
                samples[1].push(work.time(abi::WRITE)?);
                samples[2].push(work.time(abi::SNAPSHOT)?);
                Ok(())
            }),
            Kind::Exclusive => effort.repeat(|| {
                work.renew()?;
                samples[0].push(work.time(abi::EXCLUSIVE)?);
                work.area.touch();
                Ok(())
            }),
            Kind::Phases => effort.repeat(|| phases(work, samples)),
            Kind::OpenClose | Kind::SideBySide | Kind::Copies => Ok(()),
        }
    }
}

fn shuffled(work: &Work) -> Vec<usize> {
    let mut pieces = work.pieces();
    // A fixed seed, so that both drivers get the same order.
    fastrand::Rng::with_seed(work.area.npages() as u64).shuffle(&mut pieces);
    pieces
}

/// Migrates all pages to the device, and returns the nanoseconds that the CPU takes to access each of `pages`. If a
/// driver brings back more than the page that was accessed, that counts in its favour.
fn touch(work: &Work, pages: &[usize]) -> Result<u64> {
    work.to_device()?;
    let begin = Instant::now();
    for page in pages {
        work.area.word(*page, 0);
    }
    Ok(nanos(begin))
}

/// Times single CPU faults. Skips pages that came back with another page, since an access to them does not fault.
fn latency(work: &Work, effort: Effort, samples: &mut [Vec<u64>]) -> Result<()> {
    let order = shuffled(work);
    let mut times = Vec::new();
    effort.repeat(|| {
        work.to_device()?;
        for page in &order {
            if !pagemap::of(work.area.page(*page), 1)?[0].swap() {
                continue;
            }
            let begin = Instant::now();
            work.area.word(*page, 0);
            times.push(nanos(begin) as f64);
        }
        Ok(())
    })?;
    ensure!(!times.is_empty(), "no page was on the device");
    times.sort_by(f64::total_cmp);
    for (samples, share) in samples.iter_mut().zip([0.5, 0.9, 0.99]) {
        samples.push(quantile(&times, share).max(1.0) as u64);
    }
    Ok(())
}

/// Times migrations without a huge destination. The flag makes one allocation fail, in either driver, so this is only
/// valid for an area of one huge page.
fn split(work: &Work, samples: &mut [Vec<u64>]) -> Result<()> {
    let fail_alloc = || {
        work.device()
            .set_flags(abi::FLAG_FAIL_ALLOC)
            .context("FLAGS")
    };
    work.renew()?;
    fail_alloc()?;
    samples[0].push(work.to_device()?);
    work.to_system()?;
    work.renew()?;
    work.to_device()?;
    fail_alloc()?;
    samples[1].push(work.to_system()?);
    Ok(())
}

/// Invalidates the device's entries for the area. Any change of the mapping does that.
fn unknown(work: &Work) -> Result<()> {
    work.area.protect(ProtFlags::PROT_READ)?;
    work.area
        .protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
}

fn phases(work: &Work, samples: &mut [Vec<u64>]) -> Result<()> {
    let (addr, npages) = (work.area.addr(), work.area.npages());
    let mut there = migrate_argument(abi::TO_DEVICE, addr, npages);
    there.ptr = work.buffer() as u64;
    work.device().call(abi::MIGRATE, &mut there)?;
    let back = work.device().migrate(abi::TO_SYSTEM, addr, npages)?;
    let times = [
        there.ns_setup,
        there.ns_copy,
        there.ns_pages,
        there.ns_finalize,
        there.ns_readback,
        back.ns_setup,
        back.ns_copy,
        back.ns_pages,
        back.ns_finalize,
    ];
    for (samples, ns) in samples.iter_mut().zip(times) {
        samples.push(ns);
    }
    Ok(())
}

/// Times copies of `bytes` bytes, in calls that are as large as the driver allows.
fn copies(node: &Path, bytes: u64, effort: Effort, samples: &mut [Vec<u64>]) -> Result<()> {
    let area = super::work::memory(Pages::Huge, bytes)?;
    let dev = Device::open_node(node)?;
    let step = abi::COPY_MOST.min(area.npages());
    let all = |kind| -> Result<u64> {
        (0..area.npages())
            .step_by(step)
            .map(|page| {
                let ptr = match kind & !abi::COPY_COLD {
                    abi::COPY_PAGES => 0,
                    _ => area.addr() + page * PAGE_SIZE,
                };
                dev.copy(kind, ptr, step).context("COPY")
            })
            .sum()
    };
    let kinds = [
        abi::COPY_PAGES,
        abi::COPY_TO_USER,
        abi::COPY_FROM_USER,
        abi::COPY_COLD | abi::COPY_PAGES,
        abi::COPY_COLD | abi::COPY_TO_USER,
    ];
    for kind in kinds {
        // Warms up, as all other jobs do.
        all(kind)?;
    }
    effort.repeat(|| {
        for (samples, kind) in samples.iter_mut().zip(kinds) {
            samples.push(all(kind)?);
        }
        Ok(())
    })
}
