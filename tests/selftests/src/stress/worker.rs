// SPDX-License-Identifier: GPL-2.0

//! The stressed process: its threads, and the checks after they have ended.

use std::{
    sync::{
        atomic::Ordering::{Relaxed, SeqCst},
        PoisonError,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use nix::libc;

use super::{
    board::Board,
    ground::WRITE,
    ops,
    plan::{Op, Shape, Stream},
    signals,
    world::{Worker, World},
};
use crate::{
    abi::Point,
    proc::{self, smaps},
};

/// The parameters of a run.
pub struct Job {
    pub seed: u64,
    pub threads: usize,
    pub seconds: u64,
    /// The number of operations of each thread, if that ends the run.
    pub ops: Option<u64>,
    pub chosen: [bool; Op::COUNT],
    pub shape: Shape,
}

/// Anonymous pages that this process may have more than before: stacks, and what the allocator kept.
const RSS_SLACK: usize = 512;

/// How long references may be held that somebody took for a moment.
const SETTLES: Duration = Duration::from_secs(10);

/// Checks that come after the threads' end, as counted by [`Board::checked`].
pub const CHECKS: u32 = 2;

/// Keeps the allocator from mapping anything while areas are unmapped and come back.
fn calm_allocator() {
    // SAFETY: sets limits of the C library's allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Runs all threads and checks. Failures are recorded on the board.
pub fn run(board: &'static Board, job: &Job) -> Result<()> {
    calm_allocator();
    signals::install(board)?;
    let rss = proc::rss_anon()?;
    let world = World::new(board, job.shape, job.threads)?;
    let limit = Instant::now() + Duration::from_secs(job.seconds);
    thread::scope(|scope| {
        for index in 0..job.threads {
            let world = &world;
            scope.spawn(move || {
                signals::name_thread(index);
                if let Err(error) = work(world, job, index, limit) {
                    board.fail(format_args!(
                        "thread {index}, operation #{}: {error:#}",
                        board.lanes[index].begun.load(Relaxed)
                    ));
                }
                board.ended.fetch_add(1, SeqCst);
            });
        }
    });
    if board.failure.get().is_some() {
        return Ok(());
    }
    signals::name_thread(0);
    for file in 0..job.shape.files {
        world.file(file).inject(Point::All, 0, 0)?;
    }
    if let Err(error) = final_data(&world).and_then(|()| final_references(&world)) {
        board.data.fill(format_args!("{error:#}"));
    }
    board.checked.fetch_add(1, SeqCst);
    drop(world);
    if let Err(error) = final_size(rss) {
        board.rss.fill(format_args!("{error:#}"));
    }
    board.checked.fetch_add(1, SeqCst);
    Ok(())
}

fn work(world: &World, job: &Job, index: usize, limit: Instant) -> Result<()> {
    let mut worker = Worker::new(world, index);
    let mut stream = Stream::new(job.seed, index, job.shape, job.chosen);
    let board = world.board;
    let result = loop {
        let done = board.lanes[index].begun.load(Relaxed);
        let is_over = match job.ops {
            Some(ops) => done >= ops,
            None => Instant::now() >= limit,
        };
        if is_over || board.stop.load(Relaxed) {
            break Ok(());
        }
        let step = stream.next();
        let number = board.begin(index, &step);
        let begin = Instant::now();
        match ops::run(&mut worker, &step) {
            Ok(done) => board.end(index, number, step.op, done, begin.elapsed()),
            Err(error) => break Err(error).with_context(|| step.op.name()),
        }
    };
    result.and(ops::wait_for_child(&mut worker))
}

/// Checks every word of every page while no other thread runs, and that every page is counted once.
fn final_data(world: &World) -> Result<()> {
    for ground in &world.grounds {
        ground.change().protect(0, ground.npages(), WRITE)?;
        let still = ground.still();
        for page in 0..ground.npages() {
            let id = ground.id(page);
            let expect = world.model.expect(id);
            for word in 0..super::model::WORDS {
                let value = still.load(page, word);
                world.model.check(&expect, word, value, false)?;
            }
            let _alone = ground
                .lock(page)
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            // Now it is a page of its own, also where there was none.
            let value = world.model.issue(id, 0);
            still.store(page, world.model.word(id, 0), value);
        }
        let seen = smaps::of(ground.addr(0), ground.npages() * crate::device::PAGE_SIZE)?;
        ensure!(
            seen.rss + seen.swap == ground.npages(),
            "{} pages are resident and {} swapped out, of {}",
            seen.rss,
            seen.swap,
            ground.npages()
        );
    }
    Ok(())
}

/// Checks the reference counts while no other thread runs: only the mappings hold references. A leaked reference is
/// seen here if its page is still mapped.
fn final_references(world: &World) -> Result<()> {
    let device = world.file(0);
    let limit = Instant::now() + SETTLES;
    for ground in &world.grounds {
        let mut page = 0;
        while page < ground.npages() {
            let seen = device
                .page(ground.addr(page))
                .context("RUST_DMIRROR_PAGE")?;
            if seen.refs == seen.expected {
                page += 1;
                continue;
            }
            ensure!(
                Instant::now() < limit,
                "page {}: {} references, {} are accounted for",
                ground.id(page),
                seen.refs,
                seen.expected
            );
            // On its way to the LRU, or khugepaged looks at it.
            proc::drain_lru();
            thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

/// Checks the size of the process, after all areas were unmapped and all files closed.
fn final_size(before: usize) -> Result<()> {
    let after = proc::rss_anon()?;
    ensure!(
        after <= before + RSS_SLACK,
        "{after} anonymous pages of this process, before it began {before}"
    );
    Ok(())
}
