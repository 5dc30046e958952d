// SPDX-License-Identifier: GPL-2.0

//! `dmirror demo`: migrates a huge page to the device and back; one that is split on the way, because there is no huge
//! destination; and one that stays, because its split is refused.

mod show;

use anyhow::{Context, Result};

use crate::{
    abi::{self, Migrate, Point},
    area::{verify_bytes, Area, HUGE},
    device::{Device, Driver},
    proc::khugepaged,
};
use show::{Expect, Steps};

/// More failures than the driver has retries.
const ALWAYS: u64 = 100;

struct Demo {
    device: Device,
    driver: Driver,
}

pub fn run(index: u32) -> Result<u8> {
    let device = Device::open(index)?;
    let driver = device.driver();
    let _asleep = khugepaged::Asleep::now()?;
    let demo = Demo { device, driver };
    println!(
        "/dev/hmm_dmirror{index}: {}\n",
        match driver {
            Driver::Rust => "rust_dmirror",
            Driver::C => "test_hmm, the C driver (reference counts are not available from it)",
        }
    );
    let mut good = demo.whole()?;
    good &= demo.split()?;
    if driver == Driver::Rust {
        good &= demo.refused()?;
    } else {
        println!("A refused split cannot be provoked on this driver: skipped.\n");
    }
    if good {
        println!("Everything was as expected.");
        return Ok(0);
    }
    println!("Not everything was as expected.");
    Ok(1)
}

const TO_DEVICE: u32 = abi::TO_DEVICE;
const TO_SYSTEM: u32 = abi::TO_SYSTEM;

impl Demo {
    /// Migrates the area. The ioctl of the Rust driver returns counts, which are noted and checked.
    fn migrate(&self, steps: &mut Steps<'_>, direction: u32, area: &Area) -> Result<Migrate> {
        let what = if direction == TO_DEVICE {
            "migrated to the device"
        } else {
            "migrated back"
        };
        let result = match (self.driver, direction) {
            (Driver::Rust, _) => self
                .device
                .migrate(direction, area.addr(), HUGE)
                .context("RUST_DMIRROR_MIGRATE")?,
            (Driver::C, TO_DEVICE) => {
                self.device
                    .read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)
                    .context("HMM_DMIRROR_MIGRATE_TO_DEV")?;
                Migrate::default()
            }
            (Driver::C, _) => {
                self.device
                    .command(abi::MIGRATE_TO_SYS, area.addr(), 0, HUGE as u64)
                    .context("HMM_DMIRROR_MIGRATE_TO_SYS")?;
                Migrate::default()
            }
        };
        if self.driver == Driver::Rust {
            steps.note(what, &result.summary());
            let all = result.accounted() == result.npages;
            steps.require(all, "the result does not account for every page");
        }
        Ok(result)
    }

    fn refuse_huge(&self, times: u64) -> Result<()> {
        match self.driver {
            Driver::Rust => {
                self.device.inject(Point::HugeAlloc, 0, times)?;
            }
            Driver::C => self.device.set_flags(abi::FLAG_FAIL_ALLOC)?,
        }
        Ok(())
    }

    fn count(&self, steps: &mut Steps<'_>, seen: u64, what: &str) {
        if self.driver == Driver::Rust {
            steps.require(
                seen == HUGE as u64,
                &format!("{seen} pages {what}, not {HUGE}"),
            );
        }
    }

    fn whole(&self) -> Result<bool> {
        let area = Area::filled(1, 1)?;
        let mut steps = Steps::new("A whole huge page", &self.device, self.driver, &area);
        steps.look("pattern written", Expect::system(9))?;
        let result = self.migrate(&mut steps, TO_DEVICE, &area)?;
        self.count(&mut steps, result.whole, "migrated whole");
        steps.look("migrated to the device", Expect::device(9))?;
        let seen = self.device.read(area.addr(), HUGE).context("READ")?;
        steps.data(verify_bytes(1, 0, &seen), "the device reads it");
        steps.look("read through the device", Expect::device(9))?;
        steps.data(area.verify(1), "the CPU reads it");
        steps.look("touched: faulted back", Expect::system(9))?;
        Ok(steps.finish())
    }

    fn split(&self) -> Result<bool> {
        let area = Area::filled(1, 2)?;
        let mut steps = Steps::new(
            "No huge page on the device: split on the way",
            &self.device,
            self.driver,
            &area,
        );
        steps.look("pattern written", Expect::system(9))?;
        self.refuse_huge(1)?;
        let result = self.migrate(&mut steps, TO_DEVICE, &area)?;
        self.count(&mut steps, result.split, "migrated split");
        steps.look("migrated to the device", Expect::device(0))?;
        let seen = self.device.read(area.addr(), HUGE).context("READ")?;
        steps.data(verify_bytes(2, 0, &seen), "the device reads it");
        self.migrate(&mut steps, TO_SYSTEM, &area)?;
        steps.look("migrated back", Expect::system(0))?;
        steps.data(area.verify(2), "the CPU reads it");
        Ok(steps.finish())
    }

    fn refused(&self) -> Result<bool> {
        let area = Area::filled(1, 3)?;
        let mut steps = Steps::new(
            "No huge page, and a reference that refuses the split: it stays",
            &self.device,
            self.driver,
            &area,
        );
        steps.look("pattern written", Expect::system(9))?;
        self.refuse_huge(ALWAYS)?;
        self.device.inject(Point::ExtraRef, 0, ALWAYS)?;
        let result = self.migrate(&mut steps, TO_DEVICE, &area)?;
        self.count(&mut steps, result.split_refused, "counted as split refused");
        steps.require(result.moved() == 0, "pages migrated all the same");
        self.device.inject(Point::All, 0, 0)?;
        steps.look("migration refused", Expect::system_any_order())?;
        steps.data(area.verify(3), "the CPU reads it");
        // If the core splits during the migration, the mapping is already split when the split of the folio is refused,
        // so the pages now migrate singly. On a kernel without the fixes for K20 and K24 (docs/defects.md), the
        // collector splits instead, and a refusal leaves the mapping whole.
        let order = self.device.page(area.addr()).context("PAGE")?.map_order;
        self.migrate(&mut steps, TO_DEVICE, &area)?;
        steps.look("reference gone, migrated", Expect::device(order))?;
        steps.data(area.verify(3), "the CPU reads it");
        steps.look("touched: faulted back", Expect::system(order))?;
        Ok(steps.finish())
    }
}
