// SPDX-License-Identifier: GPL-2.0

//! `dmirror strand`: pages that are on the device although no file is open any more, as after an
//! eviction that had to leave them; then a command, `rmmod`, while threads fault on them.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};

use crate::{
    abi,
    area::{Area, HUGE},
    device::Device,
    proc::pagemap,
};

#[derive(clap::Args)]
pub struct Options {
    /// What to run while the pages are touched
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

const INJECT: &str = "/sys/kernel/debug/rust_dmirror/hmm_dmirror0/inject";
const PAUSE_POINT: &str = "/sys/kernel/debug/rust_dmirror/hmm_dmirror0/pause";
/// Longer than the command takes.
const STOPPED: Duration = Duration::from_secs(10);
const SEED: u64 = 330;
const THREADS: usize = 2;
/// The command must not wait for the last touch, but each huge page takes its share of time.
const PAUSE: Duration = Duration::from_millis(2);

pub fn run(options: &Options) -> Result<u8> {
    let area = Area::filled(4, SEED)?;
    let dev = Device::open(0)?;
    dev.migrate(abi::TO_DEVICE, area.addr(), area.npages())
        .context("MIGRATE")?;
    // Whoever closes the file finds all pages held.
    fs::write(INJECT, "extra_ref 0 1000000").context(INJECT)?;
    drop(dev);
    // The pages are free to go now. These stay armed: until the driver's end clears them no fault
    // and no eviction gets a folio, and nobody else can.
    fs::write(INJECT, "clear")?;
    fs::write(INJECT, "huge_alloc 0 1000000")?;
    fs::write(INJECT, "small_alloc 0 1000000")?;
    // The same: whoever comes first stops until then, or for this long.
    fs::write(PAUSE_POINT, format!("filled any 0 {}", STOPPED.as_millis())).context(PAUSE_POINT)?;
    let there = pagemap::of(area.addr(), area.npages())?;
    let stranded = there.iter().filter(|entry| entry.swap()).count();
    ensure!(
        stranded == area.npages(),
        "{stranded} of {} pages are left on the device",
        area.npages()
    );
    println!("{stranded} pages on the device, and no file open");

    let (name, arguments) = options.command.split_first().context("no command")?;
    let start = Instant::now();
    let status = thread::scope(|scope| -> Result<_> {
        let threads: Vec<_> = (0..THREADS)
            .map(|index| {
                let area = &area;
                scope.spawn(move || -> Result<()> {
                    for page in (index * HUGE / 2..area.npages()).step_by(HUGE) {
                        area.verify_pages(SEED, page, HUGE / 2)?;
                        thread::sleep(PAUSE);
                    }
                    Ok(())
                })
            })
            .collect();
        let status = Command::new(name)
            .args(arguments)
            .status()
            .context("cannot be run")?;
        for thread in threads {
            thread.join().ok().context("a thread panicked")??;
        }
        Ok(status)
    })?;
    ensure!(status.success(), "{name}: {status}");
    let took = start.elapsed();
    println!("{name} took {took:.1?}");
    ensure!(
        took < STOPPED,
        "{name} waited for a migration that was stopped: {took:.1?}"
    );
    area.verify(SEED)?;
    let left = pagemap::of(area.addr(), area.npages())?;
    ensure!(
        left.iter().all(|entry| entry.present()),
        "pages are not home"
    );
    Ok(0)
}
