// SPDX-License-Identifier: GPL-2.0

//! `dmirror busy`: migrates for ever, so that other programs can be tested beside it.
//!
//! Nothing is asked of the machine but memory: huge pages may be had or not, pages may be refused.
//! What the data are is checked all the same.

use anyhow::{Context, Result};

use crate::{
    abi,
    area::{verify_bytes, Area},
    device::Device,
};

/// Pages of an area: two huge pages.
const NPAGES: usize = 1024;

/// Returns only with an error.
pub fn run(index: u32) -> Result<u8> {
    let dev = Device::open(index)?;
    for round in 1.. {
        // Every third is of small pages only.
        let area = match round % 3 {
            0 => Area::small(NPAGES)?,
            _ => Area::huge(NPAGES / crate::area::HUGE)?,
        };
        one_round(&dev, &area, round).with_context(|| format!("round {round}"))?;
    }
    unreachable!("rounds do not end")
}

fn one_round(dev: &Device, area: &Area, seed: u64) -> Result<()> {
    let (addr, half) = (area.addr(), NPAGES / 2);
    area.fill(seed);
    dev.migrate(abi::TO_DEVICE, addr, NPAGES)
        .context("to the device")?;
    verify_bytes(seed, 0, &dev.read(addr, NPAGES).context("READ")?)?;
    // One half comes by faults, the other one on request.
    area.verify_pages(seed, 0, half)?;
    dev.migrate(abi::TO_SYSTEM, area.page(half), NPAGES - half)
        .context("to system memory")?;
    area.verify(seed)
}
