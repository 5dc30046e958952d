// SPDX-License-Identifier: GPL-2.0

//! Operations that read, write or lose data.

use std::sync::PoisonError;

use anyhow::{Context, Result};
use nix::{errno::Errno, libc};

use crate::{
    abi::{self, Cmd},
    device::PAGE_SIZE,
    stress::{
        board::Done,
        ground::{READ, WRITE},
        plan::Step,
        signals::touching,
        world::{Worker, READ_MOST, WRITE_MOST},
    },
};

/// Pages that one touch takes.
const TOUCHED: usize = 16;

pub fn cpu_read(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let (ground, model) = (worker.ground(step), &worker.world.model);
    let still = ground.still();
    let mut done = Done::Skipped;
    for nth in 0..step.npages.min(TOUCHED) {
        let page = step.first + nth;
        if ground.access(page) < READ {
            continue;
        }
        let id = ground.id(page);
        let word = model.some_word(id, step.arg.rotate_left(nth as u32));
        let expect = model.expect(id);
        touching(worker.world.board);
        let value = still.load(page, word);
        model
            .check(&expect, word, value, false)
            .context("the CPU reads")?;
        worker.compared(1);
        done = Done::Yes;
    }
    Ok(done)
}

pub fn cpu_write(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let (ground, model) = (worker.ground(step), &worker.world.model);
    let still = ground.still();
    let mut done = Done::Skipped;
    for page in (step.first..).take(step.npages.min(TOUCHED)) {
        if ground.access(page) < WRITE {
            continue;
        }
        let id = ground.id(page);
        let word = model.word(id, worker.index);
        let _shared = ground
            .lock(page)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        // What this thread wrote last, or a device or a discard since, which are over.
        let expect = model.expect(id);
        touching(worker.world.board);
        let value = still.load(page, word);
        model
            .check(&expect, word, value, false)
            .context("the CPU reads its own word")?;
        let value = model.issue(id, worker.index);
        still.store(page, word, value);
        model.commit(id, worker.index, value);
        worker.compared(1);
        done = Done::Yes;
    }
    Ok(done)
}

pub fn device_read(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let npages = step.npages.min(READ_MOST);
    let file = worker.world.file(step.file);
    let code = if step.arg % 4 == 0 {
        abi::READ_UNLOCKED
    } else {
        abi::READ
    };
    let before = worker.before(step, npages);
    let to = worker.buffer.as_mut_ptr() as usize;
    match file.command(code, before.addr, to, npages as u64) {
        Ok(_) => {
            worker.must_be_allowed(step, &before, READ)?;
            worker
                .check_buffer(step, &before, npages)
                .context("the device reads")?;
            Ok(Done::Yes)
        }
        Err(errno) => worker.refused(step, &before, errno, READ, &[Errno::EBUSY]),
    }
}

/// Whole pages, which nobody else writes meanwhile. What the device says that it wrote is there.
pub fn device_write(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let npages = step.npages.min(WRITE_MOST);
    let ground = worker.ground(step);
    let file = worker.world.file(step.file);
    let still = ground.still();
    let pages = step.first..step.first + npages;
    let _alone = ground.alone(pages.clone());
    let before = worker.before(step, npages);
    let model = &worker.world.model;
    for (page, bytes) in pages.clone().zip(worker.buffer.chunks_exact_mut(PAGE_SIZE)) {
        model.issue_page(ground.id(page), bytes);
    }
    let mut cmd = Cmd {
        addr: before.addr as u64,
        ptr: worker.buffer.as_ptr() as u64,
        npages: npages as u64,
        ..Cmd::default()
    };
    let result = file.call(abi::WRITE, &mut cmd);
    let written = if result.is_ok() {
        npages
    } else {
        cmd.cpages as usize
    };
    for page in pages.clone().take(written) {
        model.commit_page(ground.id(page));
    }
    if let Err(errno) = result {
        return worker.refused(step, &before, errno, WRITE, &[Errno::EBUSY]);
    }
    worker.must_be_allowed(step, &before, WRITE)?;
    if step.arg % 2 == 0 {
        for page in pages {
            let id = ground.id(page);
            let word = model.some_word(id, step.arg >> 1);
            let expect = model.expect(id);
            touching(worker.world.board);
            let value = still.load(page, word);
            model
                .check(&expect, word, value, false)
                .context("the CPU reads what the device wrote")?;
            worker.compared(1);
        }
    }
    Ok(Done::Yes)
}

pub fn exclusive(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let npages = step.npages.min(WRITE_MOST);
    let file = worker.world.file(step.file);
    let before = worker.before(step, npages);
    let to = worker.buffer.as_mut_ptr() as usize;
    match file.command(abi::EXCLUSIVE, before.addr, to, npages as u64) {
        Ok(_) => {
            worker.must_be_allowed(step, &before, WRITE)?;
            worker
                .check_buffer(step, &before, npages)
                .context("the device reads what is exclusive to it")?;
            // Anybody may have taken it back by now.
            match file.command(abi::CHECK_EXCLUSIVE, before.addr, to, npages as u64) {
                Ok(_) | Err(Errno::EPERM) => Ok(Done::Yes),
                Err(errno) => worker.refused(step, &before, errno, WRITE, &[]),
            }
        }
        // ENOENT: the CPU took a page back before it was read.
        Err(errno) => {
            let always = [Errno::EBUSY, Errno::ENOENT];
            worker.refused(step, &before, errno, WRITE, &always)
        }
    }
}

pub fn discard(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    let (ground, model) = (worker.ground(step), &worker.world.model);
    let still = ground.still();
    let pages = step.first..step.first + step.npages;
    let _alone = ground.alone(pages.clone());
    for page in pages.clone() {
        model.discarding(ground.id(page));
    }
    still
        .advise(step.first, step.npages, libc::MADV_DONTNEED)
        .context("MADV_DONTNEED")?;
    for page in pages {
        model.discarded(ground.id(page));
    }
    Ok(Done::Yes)
}
