// SPDX-License-Identifier: GPL-2.0

//! Operations of the driver that move no data of their own.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::{ensure, Context, Result};
use nix::errno::Errno;

use crate::{
    abi::{self, Migrate, Point},
    device::Device,
    stress::{
        board::Done,
        ground::READ,
        plan::Step,
        world::{device_of, Worker, READ_MOST},
    },
};

/// What a migration may always give: the page tables did not hold still.
const MIGRATE_ALWAYS: &[Errno] = &[Errno::EAGAIN, Errno::EBUSY];

fn moved(worker: &Worker<'_>, result: &Migrate) -> Result<()> {
    ensure!(
        result.accounted() == result.npages,
        "{} pages accounted for: {}",
        result.accounted(),
        result.summary()
    );
    worker.world.board.moved.fetch_add(result.moved(), Relaxed);
    Ok(())
}

pub fn to_device(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let file = worker.world.file(step.file);
    let reads = step.arg % 4 == 0 && step.npages <= READ_MOST;
    let before = worker.before(step, if reads { step.npages } else { 1 });
    let mut argument = crate::device::migrate_argument(abi::TO_DEVICE, before.addr, step.npages);
    if reads {
        argument.ptr = worker.buffer.as_mut_ptr() as u64;
    }
    match file.call(abi::MIGRATE, &mut argument) {
        Ok(()) => {
            moved(worker, &argument)?;
            worker
                .check_buffer(step, &before, argument.read_back as usize)
                .context("the device reads back")?;
            Ok(Done::Yes)
        }
        // Only the first page's access is known, and the others' could have changed anyway.
        Err(Errno::EINVAL) => Ok(Done::Refused(Errno::EINVAL)),
        Err(errno) => worker.refused(step, &before, errno, READ, MIGRATE_ALWAYS),
    }
}

pub fn to_system(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let file = worker.world.file(step.file);
    let before = worker.before(step, 1);
    match file.migrate(abi::TO_SYSTEM, before.addr, step.npages) {
        Ok(result) => {
            moved(worker, &result)?;
            Ok(Done::Yes)
        }
        Err(Errno::EINVAL) => Ok(Done::Refused(Errno::EINVAL)),
        Err(errno) => worker.refused(step, &before, errno, READ, MIGRATE_ALWAYS),
    }
}

pub fn snapshot(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let file = worker.world.file(step.file);
    let before = worker.before(step, 1);
    let to = worker.buffer.as_mut_ptr() as usize;
    match file.command(abi::SNAPSHOT, before.addr, to, step.npages as u64) {
        Ok(_) => {
            let known = [
                0,
                abi::PROT_ZERO,
                abi::PROT_DEV_PRIVATE_LOCAL,
                abi::PROT_DEV_PRIVATE_REMOTE,
            ];
            for (page, byte) in worker.buffer[..step.npages].iter().enumerate() {
                ensure!(
                    *byte == abi::PROT_ERROR || known.contains(&(byte & abi::PROT_KIND)),
                    "page {page} of the snapshot is {byte:#x}"
                );
            }
            Ok(Done::Yes)
        }
        Err(errno) => worker.refused(step, &before, errno, READ, &[Errno::EBUSY]),
    }
}

pub fn look(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let file = worker.world.file(step.file);
    let before = worker.before(step, 1);
    let stats = file.stats().context("RUST_DMIRROR_STATS")?;
    ensure!(
        stats.pages_used <= stats.pages_total,
        "{} of {} pages in use",
        stats.pages_used,
        stats.pages_total
    );
    match file.page(before.addr) {
        Ok(page) => {
            let places = abi::NOWHERE..=abi::UNREADABLE;
            ensure!(places.contains(&page.where_), "at place {}", page.where_);
            Ok(Done::Yes)
        }
        Err(errno) => worker.refused(step, &before, errno, READ, &[Errno::EBUSY]),
    }
}

/// Others may still use the old file; whoever is the last one closes it.
pub fn reopen(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let new = Device::open(device_of(step.file))?;
    drop(worker.world.swap_file(step.file, new));
    Ok(Done::Yes)
}

pub fn release(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let file = worker.world.file(step.file);
    match file.command(abi::RELEASE, 0, 0, 1) {
        Ok(_) => Ok(Done::Yes),
        // Pages that somebody holds, or that come meanwhile.
        Err(errno @ (Errno::EBUSY | Errno::ENOMEM)) => Ok(Done::Refused(errno)),
        Err(errno) => Err(errno).context("RELEASE"),
    }
}

/// Arms one point a few times, lets it fail, and clears it. Other threads may be hit, and the board
/// tells them.
pub fn inject(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    const POINTS: [Point; 5] = [
        Point::ExtraRef,
        Point::HugeAlloc,
        Point::SmallAlloc,
        Point::Copy,
        Point::FolioLock,
    ];
    let file = worker.world.file(step.file);
    let point = POINTS[step.arg as usize % POINTS.len()];
    let (skip, times) = ((step.arg >> 8) & 3, 1 + (step.arg >> 16) % 3);
    let armed = worker.world.board.armed();
    file.inject(point, skip, times).context("INJECT")?;
    let done = match (step.arg >> 24) & 1 {
        0 => to_device(worker, step).and_then(|_| to_system(worker, step)),
        _ => to_device(worker, step).and_then(|_| super::data::cpu_read(worker, step)),
    };
    file.inject(Point::All, 0, 0)
        .context("INJECT, to clear all")?;
    drop(armed);
    done.map(|_| Done::Yes)
}
