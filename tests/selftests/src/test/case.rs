// SPDX-License-Identifier: GPL-2.0

//! Test cases, and the context in which they run.

use anyhow::{ensure, Context, Result};

use super::{core_bug::CoreBug, shown::Shown};
use crate::{
    abi::{self, Migrate},
    area::{verify_bytes, Area},
    check_eq,
    device::{Device, Driver},
};

/// The expected result of a case with the C driver.
#[derive(Clone, Copy)]
pub enum OnC {
    Passes,
    /// Not run: the C driver lacks an ioctl, or would crash the kernel.
    Skip(&'static str),
    /// The case is about a defect of the C driver, which shows in this way.
    Shows(Shown),
}

pub const NEW_ABI: OnC = OnC::Skip("needs an ioctl that the C driver does not have");

/// The function of a case.
#[derive(Clone, Copy)]
pub enum Run {
    Function(fn(&Ctx) -> Result<()>),
    /// A closure that is made at run time, for one cell of a table.
    Cell(&'static (dyn Fn(&Ctx) -> Result<()> + Sync)),
}

pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    pub on_c: OnC,
    /// The bug of the core that crashes a kernel without our patches in this case. Such a kernel skips it, unless
    /// asked to run it.
    pub core_bug: Option<CoreBug>,
    /// Whether eviction may leave pages on the device in this case.
    pub may_stick: bool,
    /// Whether other threads fault on the pages while they migrate. A CPU that faults on a device page holds a
    /// reference for a moment, so a count may be too high then, but never too low.
    pub races: bool,
    pub run: Run,
}

impl Case {
    /// Makes a case about a defect. Its name must begin with the id of the defect.
    pub const fn defect(
        name: &'static str,
        about: &'static str,
        shown: Shown,
        run: fn(&Ctx) -> Result<()>,
    ) -> Case {
        Case::new(name, about, OnC::Shows(shown), run)
    }

    pub const fn new(
        name: &'static str,
        about: &'static str,
        on_c: OnC,
        run: fn(&Ctx) -> Result<()>,
    ) -> Case {
        Case {
            name,
            about,
            on_c,
            core_bug: None,
            may_stick: false,
            races: false,
            run: Run::Function(run),
        }
    }

    /// Makes a case for a cell of a table, with a generated name.
    pub fn cell(
        name: &'static str,
        about: &'static str,
        run: &'static (dyn Fn(&Ctx) -> Result<()> + Sync),
    ) -> Case {
        Case {
            name,
            about,
            on_c: NEW_ABI,
            core_bug: None,
            may_stick: false,
            races: false,
            run: Run::Cell(run),
        }
    }

    pub const fn meets(mut self, bug: CoreBug) -> Case {
        self.core_bug = Some(bug);
        self
    }

    pub const fn may_stick(mut self) -> Case {
        self.may_stick = true;
        self
    }

    pub const fn races(mut self) -> Case {
        self.races = true;
        self.may_stick()
    }
}

impl Run {
    pub fn call(self, ctx: &Ctx) -> Result<()> {
        match self {
            Run::Function(run) => run(ctx),
            Run::Cell(run) => run(ctx),
        }
    }
}

/// The context of a case: the first device, opened by the process of the case.
pub struct Ctx {
    pub dev: Device,
    pub driver: Driver,
}

impl Ctx {
    pub fn rust(&self) -> bool {
        self.driver == Driver::Rust
    }

    /// Migrates pages by RUST_DMIRROR_MIGRATE, and checks that the counts add up.
    pub fn migrate(&self, direction: u32, addr: usize, npages: usize) -> Result<Migrate> {
        let result = self
            .dev
            .migrate(direction, addr, npages)
            .context("RUST_DMIRROR_MIGRATE")?;
        accounted(&result)?;
        Ok(result)
    }

    pub fn migrate_all(&self, direction: u32, area: &Area) -> Result<Migrate> {
        self.migrate(direction, area.addr(), area.npages())
    }

    /// Migrates all of `area` to the device, by an ioctl that the driver has, and checks the data that the device
    /// reads. Only the Rust driver returns counts.
    pub fn to_device(&self, area: &Area, seed: u64) -> Result<Option<Migrate>> {
        let (addr, npages) = (area.addr(), area.npages());
        if self.driver == Driver::C {
            let data = self
                .dev
                .read_by(abi::MIGRATE_TO_DEV, addr, npages)
                .context("HMM_DMIRROR_MIGRATE_TO_DEV")?;
            verify_bytes(seed, 0, &data)?;
            return Ok(None);
        }
        let (result, data) = self
            .dev
            .migrate_and_read(abi::TO_DEVICE, addr, npages)
            .context("RUST_DMIRROR_MIGRATE")?;
        accounted(&result)?;
        check_eq!(result.moved(), npages as u64, "pages moved");
        check_eq!(result.read_back, npages as u64, "pages read back");
        verify_bytes(seed, 0, &data)?;
        Ok(Some(result))
    }

    pub fn to_system(&self, area: &Area) -> Result<Option<Migrate>> {
        self.go(abi::TO_SYSTEM, area.addr(), area.npages())
    }

    /// Migrates pages, all of which must migrate, by an ioctl that the driver has.
    pub fn go(&self, direction: u32, addr: usize, npages: usize) -> Result<Option<Migrate>> {
        if self.driver == Driver::C {
            let code = match direction {
                abi::TO_DEVICE => abi::MIGRATE_TO_DEV,
                _ => abi::MIGRATE_TO_SYS,
            };
            self.dev
                .read_by(code, addr, npages)
                .with_context(|| format!("ioctl {code:#x}"))?;
            return Ok(None);
        }
        let result = self.migrate(direction, addr, npages)?;
        check_eq!(result.moved(), npages as u64, "pages moved");
        Ok(Some(result))
    }
}

/// Undoes a setting of a case, also if the case fails.
pub struct Undo<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Checks that each page is in exactly one count, and that no more pages migrated than were collected.
pub fn accounted(result: &Migrate) -> Result<()> {
    println!("{}", result.summary());
    check_eq!(result.accounted(), result.npages, "pages accounted for");
    ensure!(
        result.moved() <= result.collected && result.collected <= result.npages,
        "{} collected, {} moved",
        result.collected,
        result.moved()
    );
    ensure!(result.reserved == [0; 4], "reserved members were written");
    Ok(())
}
