// SPDX-License-Identifier: GPL-2.0

//! Operations on the mapping.

use anyhow::{ensure, Context, Result};
use nix::{errno::Errno, libc};

use crate::{
    abi,
    area::HUGE,
    stress::{
        board::Done,
        ground::{NONE, READ, WRITE},
        plan::{Op, Step},
        world::Worker,
    },
};

/// Advice that keeps contents.
pub fn advise(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let whole_blocks = (step.first / HUGE * HUGE, HUGE);
    let (advice, (first, npages)) = match step.op {
        Op::Cold => (libc::MADV_COLD, (step.first, step.npages)),
        Op::Pageout => (libc::MADV_PAGEOUT, (step.first, step.npages)),
        Op::NoHuge => (libc::MADV_NOHUGEPAGE, whole_blocks),
        Op::Collapse => (libc::MADV_COLLAPSE, whole_blocks),
        _ => (libc::MADV_HUGEPAGE, whole_blocks),
    };
    let answer = worker.ground(step).still().advise(first, npages, advice);
    match answer {
        Ok(()) => Ok(Done::Yes),
        // What it found was not what it takes, or somebody held it.
        Err(errno @ (Errno::EINVAL | Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM))
            if step.op == Op::Collapse =>
        {
            Ok(Done::Refused(errno))
        }
        Err(errno) => Err(errno).context("madvise"),
    }
}

pub fn protect(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    // Mostly back, or soon nothing would be left to work on.
    let access = match step.arg % 8 {
        0 => NONE,
        1 | 2 => READ,
        _ => WRITE,
    };
    let ground = worker.ground(step);
    match access {
        WRITE => ground.change().protect(0, ground.npages(), WRITE)?,
        _ => ground
            .change()
            .protect(step.first, step.npages.min(64), access)?,
    }
    Ok(Done::Yes)
}

pub fn relocate(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let shift = match step.arg % 8 {
        0 => 1,
        1 => HUGE / 2,
        2 => (step.arg >> 8) as usize % HUGE,
        _ => 0,
    };
    worker.ground(step).change().relocate(shift)?;
    Ok(Done::Yes)
}

/// Unmaps all of the area or a part of it, and maps it anew, empty.
pub fn renew(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let ground = worker.ground(step);
    let model = &worker.world.model;
    let (first, npages) = match step.op {
        Op::Remap => (0, ground.npages()),
        _ => (step.first, step.npages),
    };
    let file = worker.world.file(step.file);
    let changing = ground.change();
    let pages = || (first..first + npages).map(|page| ground.id(page));
    pages().for_each(|page| model.discarding(page));
    let mut byte = [0u8; 4096];
    changing.renew(first, npages, || {
        // Nobody maps anything there meanwhile, so nobody can see anything there.
        let to = byte.as_mut_ptr() as usize;
        let seen = file.command(abi::READ, ground.addr(first), to, 1);
        ensure!(
            matches!(seen, Err(Errno::EFAULT | Errno::EINVAL | Errno::EBUSY)),
            "the device reads where nothing is mapped: {seen:?}"
        );
        Ok(())
    })?;
    pages().for_each(|page| model.discarded(page));
    Ok(Done::Yes)
}
