// SPDX-License-Identifier: GPL-2.0

//! Who has a limit gets an answer there: nobody is killed, and nothing is lost.

use anyhow::{ensure, Context, Result};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    proc::cgroup::Group,
    test::{
        case::{Case, Ctx, NEW_ABI},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "limit.charged",
        "T12: memory behind device pages is charged to the process's cgroup, and given back",
        NEW_ABI,
        charged,
    ),
    Case::new(
        "limit.cgroup",
        "T12: a cgroup at its limit: what still fits moves, the rest stays, nobody is killed",
        NEW_ABI,
        at_limit,
    ),
];

const HUGE_SIZE: usize = HUGE * PAGE_SIZE;

fn group() -> Result<Group> {
    Group::enter().map_err(|error| Skip(format!("no memory cgroup: {error:#}")).into())
}

/// Gives the memory behind free blocks of the device back, so that it must be made anew.
fn trim() -> Result<()> {
    drop(Device::open(0)?);
    Ok(())
}

fn charged(_: &Ctx) -> Result<()> {
    trim()?;
    let group = group()?;
    let dev = Device::open(0)?;
    let area = Area::filled(8, 300)?;
    let before = group.charged()?;
    let result = dev
        .migrate(abi::TO_DEVICE, area.addr(), area.npages())
        .context("MIGRATE")?;
    check_eq!(result.moved(), area.npages() as u64, "pages moved");
    let there = group.charged()?;
    // The pages of the process count where they are; what plays the device's memory comes on top.
    let more = there.saturating_sub(before);
    ensure!(
        more >= area.size(),
        "{more} bytes more are charged for {} on the device",
        area.size()
    );
    area.verify(300)?;
    drop(dev);
    drop(area);
    let after = group.charged()?;
    ensure!(
        after < before,
        "{after} bytes are charged after all is gone, {before} before the migration"
    );
    Ok(())
}

fn at_limit(_: &Ctx) -> Result<()> {
    trim()?;
    let group = group()?;
    let dev = Device::open(0)?;
    let area = Area::filled(16, 301)?;
    // Room for the memory behind some of the pages.
    group.limit(Some(group.charged()? + 5 * HUGE_SIZE))?;
    let kills = group.events("oom_kill")?;
    let result = dev
        .migrate(abi::TO_DEVICE, area.addr(), area.npages())
        .context("MIGRATE")?;
    println!("{}", result.summary());
    check_eq!(result.accounted(), result.npages, "pages accounted for");
    ensure!(result.moved() > 0, "nothing moved");
    ensure!(
        result.refused[abi::REFUSED_NO_MEMORY] > 0,
        "nothing was refused: the limit does not hold"
    );
    check_eq!(group.events("oom_kill")?, kills, "killed in the cgroup");
    ensure!(group.events("max")? > 0, "the limit was never met");
    area.verify(301)?;
    // Again, and home by closing the file, still at the limit.
    dev.migrate(abi::TO_DEVICE, area.addr(), area.npages())
        .context("MIGRATE")?;
    drop(dev);
    area.verify(301)?;
    check_eq!(group.events("oom_kill")?, kills, "killed in the cgroup");
    group.limit(None)
}
