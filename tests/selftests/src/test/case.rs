// SPDX-License-Identifier: GPL-2.0

//! What a case is, and what it works with.

use anyhow::{ensure, Context, Result};

use super::{core_bug::CoreBug, shown::Shown};
use crate::{
    abi::{self, Migrate},
    area::{verify_bytes, Area},
    check_eq,
    device::{Device, Driver},
};

/// What the C driver does with a case.
#[derive(Clone, Copy)]
pub enum OnC {
    Passes,
    /// Cannot be tried: its ABI lacks something, or the kernel would not survive.
    Skip(&'static str),
    /// The case is about a defect, and this is how that shows.
    Shows(Shown),
}

pub const NEW_ABI: OnC = OnC::Skip("needs an ioctl that the C driver does not have");

/// What a case does.
#[derive(Clone, Copy)]
pub enum Run {
    Function(fn(&Ctx) -> Result<()>),
    /// Made when the program runs, for one cell of a table.
    Cell(&'static (dyn Fn(&Ctx) -> Result<()> + Sync)),
}

pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    pub on_c: OnC,
    /// What a kernel without our patches does not survive here: it is not run there, unless that is asked for.
    pub core_bug: Option<CoreBug>,
    /// Whether eviction may leave pages on the device here.
    pub may_stick: bool,
    /// Whether others fault on the pages while they move. A CPU that faults on a device page holds
    /// a reference of its own for a moment, so a count may be too high then, but never too low.
    pub races: bool,
    pub run: Run,
}

impl Case {
    /// A case about a defect, whose number its name begins with.
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

    /// A cell of a table, with a name that was made for it.
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

/// What a case works with: the first device, opened by its own process.
pub struct Ctx {
    pub dev: Device,
    pub driver: Driver,
}

impl Ctx {
    pub fn rust(&self) -> bool {
        self.driver == Driver::Rust
    }

    /// Moves pages with the counting ioctl, whose answer must add up.
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

    /// Moves all of `area` to the device, by whichever ioctl the driver has, and checks what it
    /// reads there. The counts are the Rust driver's.
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

    /// Moves pages that must all move, by whichever ioctl the driver has.
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

/// Undoes what a case set, also if it fails.
pub struct Undo<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Every page in exactly one count, and no more pages moved than were collected.
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
