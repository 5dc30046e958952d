// SPDX-License-Identifier: GPL-2.0

//! `dmirror parameters`: checks that the driver does what the parameters of `insmod` say. For a guest that has just
//! loaded it.

use anyhow::{ensure, Result};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    device::Device,
};

#[derive(clap::Args)]
pub struct Options {
    /// The value of private_mib=
    #[arg(long, value_name = "MIB")]
    private_mib: usize,
    /// The value of fault_around=
    #[arg(long, value_name = "PAGES")]
    fault_around: usize,
}

const MIB_PER_HUGE: usize = 2;

pub fn run(options: &Options) -> Result<u8> {
    let device = Device::open(0)?;
    private_memory(&device, options.private_mib / MIB_PER_HUGE)?;
    fault_around(&device, options.fault_around)?;
    Ok(0)
}

/// Checks that `huge` huge pages fit on the device, and one more does not.
fn private_memory(device: &Device, huge: usize) -> Result<()> {
    let area = Area::filled(huge + 1, 340)?;
    let result = device.migrate(abi::TO_DEVICE, area.addr(), area.npages())?;
    println!("{}", result.summary());
    check_eq!(result.moved(), (huge * HUGE) as u64, "pages moved");
    check_eq!(
        result.refused[abi::REFUSED_NO_MEMORY],
        HUGE as u64,
        "pages for which there is no memory"
    );
    device.migrate(abi::TO_SYSTEM, area.addr(), area.npages())?;
    area.verify(340)
}

/// Checks that CPU faults in order bring back twice as many pages each time, up to `most`.
fn fault_around(device: &Device, most: usize) -> Result<()> {
    let area = Area::filled_small(HUGE, 341)?;
    let result = device.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
    check_eq!(result.moved(), HUGE as u64, "pages moved");
    let (mut page, mut pace) = (0, 1);
    while page < HUGE {
        let before = device.stats()?.faulted;
        area.verify_pages(341, page, 1)?;
        let came = device.stats()?.faulted - before;
        let wanted = pace.min(HUGE - page);
        check_eq!(came, wanted as u64, "pages that came with page {page}");
        page += wanted;
        pace = most.min(2 * pace);
    }
    ensure!(pace == most, "the limit was not met");
    println!("at most {most} pages in a fault");
    area.verify(341)
}
