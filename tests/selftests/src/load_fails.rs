// SPDX-License-Identifier: GPL-2.0

//! `dmirror load-fails`: loads the module again and again, and each time another allocation of its init fails.
//! Afterwards, either the module works, or nothing of it is left.
//!
//! Then a device makes its memory, while another allocation for that fails each time. It must be able to make it at
//! the next attempt.
//!
//! For a guest without KUnit suites, in which the module is not loaded.

use std::{
    ffi::{CStr, CString},
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{bail, ensure, Context, Result};
use nix::{
    errno::Errno,
    kmod::{delete_module, finit_module, DeleteModuleFlags, ModuleInitFlags},
};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    device::{self, Device},
    proc::fail_nth::FailNth,
};

#[derive(clap::Args)]
pub struct Options {
    /// The file of the module
    module: PathBuf,
    /// Its parameters
    parameters: Vec<String>,
}

/// Parameters that init refuses before it allocates anything. Loading with them counts the allocations before init.
const REFUSED: &CStr = c"private_mib=100";
const SEED: u64 = 360;

pub fn run(options: &Options) -> Result<u8> {
    let fail = FailNth::new()?.context("this kernel has no fail-nth")?;
    let module = Module::new(&options.module)?;
    let parameters = CString::new(options.parameters.join(" "))?;
    let (refused, before) = fail.count(|| module.load(REFUSED))?;
    check_eq!(refused, Err(Errno::EINVAL), "insmod with {REFUSED:?}");
    let (loaded, all) = fail.count(|| module.load(&parameters))?;
    loaded.context("insmod")?;
    module.unload()?;
    ensure!(before < all, "init allocates nothing");
    println!("insmod allocates {all} times, before init {before} times");
    let (mut failed, mut went_on) = (0, 0);
    for n in before + 1.. {
        let (loaded, came_to_it) = fail.run(n, || module.load(&parameters))?;
        let checked = match loaded {
            Ok(()) if came_to_it => {
                went_on += 1;
                works()
            }
            Ok(()) => Ok(()),
            // EBUSY: request_mem_region() does not return why it failed.
            Err(Errno::ENOMEM | Errno::EBUSY) if came_to_it => {
                failed += 1;
                nothing_is_left(&module)
            }
            Err(error) => bail!("allocation {n} failed, and insmod says {error}"),
        };
        checked.with_context(|| format!("after allocation {n} failed"))?;
        if loaded.is_ok() {
            module.unload()?;
            nothing_is_left(&module)?;
        }
        if !came_to_it {
            break;
        }
    }
    println!("{failed} times insmod failed, {went_on} times it went on without");
    ensure!(failed > 0, "no allocation failed");
    module.load(&parameters).context("insmod")?;
    let grown = grow(&fail);
    module.unload()?;
    grown?;
    Ok(0)
}

/// Makes each allocation fail once while a device makes its memory, also those of the core. What the core leaves behind
/// then must not prevent the next attempt (K25 in docs/defects.md).
fn grow(fail: &FailNth) -> Result<()> {
    let area = Area::filled_small(1, SEED)?;
    let dev = Device::open(0)?;
    let migrate = || dev.migrate(abi::TO_DEVICE, area.addr(), 1);
    let mut without = 0;
    for n in 1.. {
        dev.command(abi::RELEASE, 0, 0, 1).context("RELEASE")?;
        let (result, came_to_it) = fail.run(n, migrate)?;
        let moved = match result {
            Ok(counts) => counts.moved(),
            Err(Errno::ENOMEM) if came_to_it => 0,
            Err(error) => bail!("allocation {n} failed, and MIGRATE says {error}"),
        };
        if moved == 0 {
            ensure!(came_to_it, "nothing failed, and no page moved");
            without += 1;
            check_eq!(
                migrate()?.moved(),
                1,
                "pages moved after allocation {n} had failed"
            );
        }
        area.verify(SEED)?;
        if !came_to_it {
            println!("{without} times the device had no memory at first");
            break;
        }
    }
    ensure!(without > 0, "the device had memory each time");
    Ok(())
}

struct Module {
    file: File,
    name: CString,
}

impl Module {
    fn new(path: &Path) -> Result<Module> {
        let file = File::open(path).with_context(|| format!("{}", path.display()))?;
        let name = path.file_stem().context("the module has no name")?;
        let name = CString::new(name.as_bytes())?;
        Ok(Module { file, name })
    }

    fn load(&self, parameters: &CStr) -> Result<(), Errno> {
        finit_module(&self.file, parameters, ModuleInitFlags::empty())
    }

    fn unload(&self) -> Result<()> {
        delete_module(&self.name, DeleteModuleFlags::empty()).context("rmmod")
    }
}

/// Checks that a huge page can be migrated to each device, and faulted back.
fn works() -> Result<()> {
    for index in 0..device::count() {
        let area = Area::filled(1, SEED)?;
        let dev = Device::open(index)?;
        dev.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
        area.verify(SEED)?;
    }
    Ok(())
}

fn nothing_is_left(module: &Module) -> Result<()> {
    check_eq!(device::count(), 0, "devices");
    let loaded = Path::new("/sys/module").join(module.name.to_str()?);
    ensure!(!loaded.exists(), "the module is loaded");
    let debugfs = Path::new("/sys/kernel/debug").join(module.name.to_str()?);
    ensure!(!debugfs.exists(), "its debugfs files are there");
    let iomem = fs::read_to_string("/proc/iomem")?;
    ensure!(!iomem.contains("dmirror"), "its memory is in /proc/iomem");
    Ok(())
}
