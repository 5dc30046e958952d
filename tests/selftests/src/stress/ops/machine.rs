// SPDX-License-Identifier: GPL-2.0

//! Operations on the machine as a whole.

use std::{
    fs,
    num::NonZeroUsize,
    sync::TryLockError,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    libc,
    sys::mman::{mmap_anonymous, munmap, MapFlags, ProtFlags},
};

use crate::{
    device::PAGE_SIZE,
    proc,
    stress::{board::Done, ground::no_holes, plan::Step, world::Worker},
};

/// Pages that a hog leaves: for children, and for what the kernel needs at once.
const LEFT: usize = (192 << 20) / PAGE_SIZE;

/// How long it may take; others wait for the same locks, so that it goes on in parts.
const TAKES: Duration = Duration::from_secs(1);
const PART: usize = 32 << 20;

/// Takes most of the free memory and gives it back: the kernel reclaims, and huge pages run out.
pub fn pressure(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let _alone = match worker.world.hog.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(Done::Skipped),
        alone => alone,
    };
    let free = proc::available()?.saturating_sub(LEFT);
    // More or less all of it.
    let pages = free - free / 8 * (step.arg as usize % 4);
    let Some(size) = NonZeroUsize::new(pages * PAGE_SIZE) else {
        return Ok(Done::Skipped);
    };
    let (prot, flags) = (
        ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
    );
    let hole = no_holes();
    // SAFETY: the kernel chooses a free range, of which there is no hole of another thread's.
    let memory = unsafe { mmap_anonymous(None, size, prot, flags) }.context("the hog's memory")?;
    drop(hole);
    worker.world.board.hog();
    let limit = Instant::now() + TAKES;
    for part in (0..size.get())
        .step_by(PART)
        .take_while(|_| Instant::now() < limit)
    {
        let length = PART.min(size.get() - part);
        // SAFETY: a part of what was just mapped; an error means that there is no more to be had.
        unsafe { libc::madvise(memory.as_ptr().add(part), length, libc::MADV_POPULATE_WRITE) };
    }
    // SAFETY: just mapped, used by nobody.
    unsafe { libc::madvise(memory.as_ptr(), size.get(), libc::MADV_POPULATE_WRITE) };
    // SAFETY: just mapped, used by nobody.
    unsafe { munmap(memory, size.get()) }.context("munmap")?;
    worker.world.board.hog();
    Ok(Done::Yes)
}

/// Small and huge pages of the system migrate on their own.
pub fn compact() -> Result<Done> {
    match fs::write("/proc/sys/vm/compact_memory", "1") {
        Ok(()) => Ok(Done::Yes),
        Err(_) => Ok(Done::Skipped),
    }
}
