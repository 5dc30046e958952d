// SPDX-License-Identifier: GPL-2.0

//! `dmirror bench-memory`: measures the kernel memory that a driver uses for pages on its device.
//!
//! Compares the free memory before and after a migration to the device. Two parts of the difference are not counted
//! as the driver's. One is the device's `struct page`s, whose number follows from the ranges in /proc/iomem. The other
//! is the memory that simulates the device's: it is as large as the system memory that the migration frees, so the two
//! cancel out.
//!
//! The driver must not have been used in this boot, or some of its memory is already allocated. The huge pages that it
//! keeps ready for pages that come back are not included: no page has come back at that time, and a shrinker would free
//! them.

use std::{fs, path::PathBuf, thread, time::Duration};

use anyhow::{ensure, Context, Result};
use clap::Args;

use super::{
    record::{Line, Pages, Row, Samples, Side, What},
    rows::MIB,
    work::memory,
};
use crate::{
    abi,
    device::{Device, Driver, PAGE_SIZE},
    proc::{self, pagemap},
};

#[derive(Args)]
pub struct Options {
    /// A node of a driver that was just loaded
    #[arg(long, value_name = "FILE", default_value = "/dev/hmm_dmirror0")]
    node: PathBuf,
    /// The kind of pages
    #[arg(long, value_enum)]
    pages: Pages,
    /// The amount of memory to migrate, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    mib: u64,
    /// The number of this round, for the report
    #[arg(long, default_value_t = 1)]
    round: u32,
}

/// The number of pages of an ioctl. The C driver allocates a buffer for all of them, to read back to.
const PIECE: usize = 64 * MIB as usize / PAGE_SIZE;

/// The number of attempts to migrate a piece.
const TRIES: u32 = 4;

/// The size of a `struct page` on x86-64, in bytes.
const STRUCT_PAGE: u64 = 64;

/// The number of readings of the free memory, and the pause before each.
const LOOKS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(100);

pub fn run(options: &Options) -> Result<u8> {
    let device = Device::open_node(&options.node)?;
    let side = match device.driver() {
        Driver::Rust => Side::Rust,
        Driver::C => Side::C,
    };
    let area = memory(options.pages, options.mib * MIB)?;
    let mirror = memory(Pages::Huge, PIECE as u64 * PAGE_SIZE as u64)?;
    let all = |code| -> Result<()> {
        for page in (0..area.npages()).step_by(PIECE) {
            let npages = PIECE.min(area.npages() - page) as u64;
            let once = || device.command(code, area.page(page), mirror.addr(), npages);
            // The C driver leaves a page behind that has an extra reference at the moment, and returns an error.
            (1..TRIES)
                .find_map(|_| once().ok())
                .map_or_else(once, Ok)
                .with_context(|| format!("ioctl {code:#x}"))?;
        }
        Ok(())
    };
    // The C driver makes some of its device memory when it is loaded.
    let made = device_bytes()?;
    let before = free()?;
    all(abi::MIGRATE_TO_DEV)?;
    let there = pagemap::of(area.addr(), area.npages())?;
    ensure!(there.iter().all(|page| page.swap()), "not all pages went");
    let after = free()?;
    let pages = (device_bytes()? - made) / PAGE_SIZE as u64;
    ensure!(pages > 0, "this driver was used before");
    all(abi::MIGRATE_TO_SYS)?;

    let missing = before as i64 - after as i64 - (pages * STRUCT_PAGE) as i64;
    ensure!(missing > 0, "{missing} bytes are missing");
    let samples = Samples {
        row: Row::new(What::Memory, options.pages, options.mib * MIB),
        side,
        round: options.round,
        ns: vec![missing as u64],
    };
    println!("{}", Line::Samples(samples).line());
    println!("# {side:?}: {missing} bytes, beside {pages} struct pages");
    Ok(0)
}

/// Returns the free memory in bytes, after the kernel has released what it keeps for later. Some of that may take
/// longer to become free, so this is the highest of a few readings.
fn free() -> Result<u64> {
    let mut most = 0;
    for _ in 0..LOOKS {
        thread::sleep(PAUSE);
        proc::let_go()?;
        most = most.max(proc::free()?);
    }
    Ok(most)
}

/// Returns the size of the device memory that the drivers have made, in bytes: of the ranges that they have requested.
fn device_bytes() -> Result<u64> {
    ranges(&fs::read_to_string("/proc/iomem")?)
}

fn ranges(iomem: &str) -> Result<u64> {
    iomem
        .lines()
        .filter(|line| line.contains("dmirror"))
        .map(|line| {
            let span = line.trim_start().split(" : ").next().unwrap_or_default();
            let (first, last) = span.split_once('-').context("no range in /proc/iomem")?;
            let [first, last] = [first, last].map(|text| u64::from_str_radix(text, 16));
            Ok(last? - first? + 1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_either_driver_are_added_up() {
        let iomem = "00100000-7fffffff : System RAM\n\
            3fff0000000-3ffffffffff : hmm_dmirror\n  3ffe0000000-3ffe0000fff : rust_dmirror\n";
        assert_eq!(ranges(iomem).unwrap(), (256 << 20) + 4096);
        assert_eq!(ranges("").unwrap(), 0);
        assert!(ranges("nonsense : hmm_dmirror").is_err());
    }
}
