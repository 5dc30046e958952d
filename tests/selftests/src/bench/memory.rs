// SPDX-License-Identifier: GPL-2.0

//! `dmirror bench-memory`: what a driver takes of the kernel's memory for pages on its device.
//!
//! Whatever it is taken by, it is missing among the free pages afterwards. Two things that are missing
//! as well are nobody's: the device's `struct page`s, which are counted by the ranges in /proc/iomem,
//! and the memory that plays the device's, which is as much as has just become free elsewhere. So the
//! driver must be new in this boot, or some of its memory is taken already. What it keeps ready for pages
//! that come back is not in it: none has come back by then, and it would be given up.

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
    /// The node of a driver that was just loaded
    #[arg(long, value_name = "FILE", default_value = "/dev/hmm_dmirror0")]
    node: PathBuf,
    /// Which pages
    #[arg(long, value_enum)]
    pages: Pages,
    /// How much of them
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    mib: u64,
    /// Which round of a measurement this is
    #[arg(long, default_value_t = 1)]
    round: u32,
}

/// What the C driver reads back to, it takes at once.
const PIECE: usize = 64 * MIB as usize / PAGE_SIZE;

/// How often it is asked to migrate a piece.
const TRIES: u32 = 4;

/// On x86-64.
const STRUCT_PAGE: u64 = 64;

/// Looks at the free pages, and how long between two.
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
            // The C driver leaves a page behind that somebody looks at, and says so.
            (1..TRIES)
                .find_map(|_| once().ok())
                .map_or_else(once, Ok)
                .with_context(|| format!("ioctl {code:#x}"))?;
        }
        Ok(())
    };
    // The C driver makes a little of its memory when it is loaded.
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

/// Bytes that can be had at once. What the kernel keeps for later, and lets go if it is asked to, is
/// asked for first; something may be on its way still, so the best of a few looks counts.
fn free() -> Result<u64> {
    let mut most = 0;
    for _ in 0..LOOKS {
        thread::sleep(PAUSE);
        proc::let_go()?;
        most = most.max(proc::free()?);
    }
    Ok(most)
}

/// Device memory that either driver has made: the ranges that it has requested.
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
