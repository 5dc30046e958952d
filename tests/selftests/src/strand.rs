// SPDX-License-Identifier: GPL-2.0

//! `dmirror strand`: pages that are on the device although no file is open any more, as after an
//! eviction that had to leave them; then a command, `rmmod`, while threads fault on them. With `--pinned`
//! the device is coherent, and a pipe holds one of the pages for a while: the command has to wait.

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
    match options.pinned {
        true => pinned(&options.command),
        false => stranded(&options.command),
    }
}

/// How long the page is held.
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
    // The others go home.
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
    area.verify(SEED)?;
    let left = pagemap::of(area.addr(), area.npages())?;
    ensure!(
        left.iter().all(|entry| entry.present()),
        "pages are not home"
    );
    Ok(0)
}
