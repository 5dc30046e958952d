// SPDX-License-Identifier: GPL-2.0

//! `dmirror strand`: leaves pages on the device with no file open, as after an eviction that could not move them. Then
//! runs a command, `rmmod`, while threads fault on the pages.
//!
//! With `--pinned`, the device is coherent, and a pipe holds a reference to one of the pages for a while. The command
//! must wait for that.

use std::{
    fs,
    io::Read,
    os::fd::AsRawFd,
    process::Command,
    ptr, thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use nix::{errno::Errno, libc};

use crate::{
    abi,
    area::{verify_bytes, Area, HUGE},
    device::{Device, COHERENT, PAGE_SIZE},
    proc::pagemap,
    test::pipe,
};

#[derive(clap::Args)]
pub struct Options {
    /// Hold a page of a coherent device while the command runs
    #[arg(long)]
    pinned: bool,
    /// The command to run while the pages are accessed
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

const INJECT: &str = "/sys/kernel/debug/rust_dmirror/hmm_dmirror0/inject";
const PAUSE_POINT: &str = "/sys/kernel/debug/rust_dmirror/hmm_dmirror0/pause";
/// The time for which a migration is stopped at most; chosen to be longer than the command takes.
const STOPPED: Duration = Duration::from_secs(10);
const SEED: u64 = 330;
const THREADS: usize = 2;
/// The pause of a thread after each huge page, which spreads the accesses over time. The command must not wait for the
/// last access.
const PAUSE: Duration = Duration::from_millis(2);

pub fn run(options: &Options) -> Result<u8> {
    match options.pinned {
        true => pinned(&options.command),
        false => stranded(&options.command),
    }
}

/// The time for which the page is held.
const HELD: Duration = Duration::from_secs(2);

fn pinned(command: &[String]) -> Result<u8> {
    let area = Area::filled_small(4, SEED)?;
    let dev = Device::open(COHERENT)?;
    let moved = dev.migrate(abi::TO_DEVICE, area.addr(), area.npages());
    ensure!(moved.context("MIGRATE")?.moved() == 4, "pages stay");
    let (mut read, write) = pipe()?;
    let page = libc::iovec {
        iov_base: ptr::with_exposed_provenance_mut(area.page(1)),
        iov_len: PAGE_SIZE,
    };
    // SAFETY: the pipe holds a reference to the page, and nobody writes to it before it is read.
    let spliced = unsafe { libc::vmsplice(write.as_raw_fd(), &page, 1, 0) };
    let spliced = Errno::result(spliced).context("vmsplice")?;
    ensure!(spliced as usize == PAGE_SIZE, "{spliced} bytes spliced");
    // Close evicts the other pages.
    drop(dev);
    let (name, arguments) = command.split_first().context("no command")?;
    let mut child = Command::new(name)
        .args(arguments)
        .spawn()
        .context("cannot be run")?;
    thread::sleep(HELD);
    let early = child.try_wait()?;
    ensure!(early.is_none(), "{name} did not wait for the page");
    let mut data = vec![0; PAGE_SIZE];
    read.read_exact(&mut data).context("read")?;
    drop((read, write));
    let start = Instant::now();
    let status = child.wait()?;
    ensure!(status.success(), "{name}: {status}");
    println!("{name} waited, and took {:.1?} more", start.elapsed());
    verify_bytes(SEED, 1, &data)?;
    area.verify(SEED)?;
    Ok(0)
}

fn stranded(command: &[String]) -> Result<u8> {
    let area = Area::filled(4, SEED)?;
    // Eviction finds a destination for a huge page in the reserve, but there is none for a single page. (Only one:
    // extra_ref holds one folio of a batch.)
    let small = Area::filled_small(1, SEED + 1)?;
    let areas = [&area, &small];
    let dev = Device::open(0)?;
    for area in areas {
        dev.migrate(abi::TO_DEVICE, area.addr(), area.npages())
            .context("MIGRATE")?;
    }
    // Close cannot evict the pages, since all folios have an extra reference.
    fs::write(INJECT, "extra_ref 0 1000000").context(INJECT)?;
    drop(dev);
    // The pages can be migrated from now on, but no fault and no eviction gets a destination. These two failures stay
    // armed until the exit of the driver clears them. Nobody else can, once the driver's files are gone.
    fs::write(INJECT, "clear")?;
    fs::write(INJECT, "huge_alloc 0 1000000")?;
    fs::write(INJECT, "small_alloc 0 1000000")?;
    // The first migration stops until the exit of the driver clears the pause as well, or for this long.
    fs::write(PAUSE_POINT, format!("filled any 0 {}", STOPPED.as_millis())).context(PAUSE_POINT)?;
    for area in areas {
        let there = pagemap::of(area.addr(), area.npages())?;
        let stranded = there.iter().filter(|entry| entry.swap()).count();
        ensure!(
            stranded == area.npages(),
            "{stranded} of {} pages are left on the device",
            area.npages()
        );
        println!("{stranded} pages on the device, and no file open");
    }

    let (name, arguments) = command.split_first().context("no command")?;
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
    for (area, seed) in areas.into_iter().zip([SEED, SEED + 1]) {
        let left = pagemap::of(area.addr(), area.npages())?;
        ensure!(
            left.iter().all(|entry| entry.present()),
            "pages are not home"
        );
        area.verify(seed)?;
    }
    Ok(0)
}
