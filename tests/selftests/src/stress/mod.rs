// SPDX-License-Identifier: GPL-2.0

//! `dmirror stress`: all operations at the same time, from many threads, while a model knows the possible values of
//! each word of each page.
//!
//! The stressed process is a child, so that its crash or hang is reported with the seed, the last operations of every
//! thread, and the command that repeats them. The seed alone determines the operations of each thread, but not how they
//! interleave.

mod board;
mod ground;
mod model;
mod ops;
mod plan;
mod signals;
mod verdict;
mod watch;
mod worker;
mod world;

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{ensure, Context, Result};
use clap::Args;
use nix::unistd::{fork, setpgid, ForkResult, Pid};

use crate::{
    area::HUGE,
    device::{Device, Driver},
    ledger::Ledger,
    proc::{self, khugepaged, kmsg::Kmsg},
    test::ktap::Ktap,
};
use board::{leave, Board, MAX_AREAS, MAX_THREADS};
use plan::{Op, Shape};
use worker::Job;

#[derive(Args)]
pub struct Options {
    /// The time to run, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// End after this many operations of each thread instead
    #[arg(long, value_name = "N")]
    ops: Option<u64>,
    /// The seed of the operations; by default, a new one each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The number of threads
    #[arg(long, value_name = "N", default_value_t = 4)]
    threads: usize,
    /// The number of memory areas
    #[arg(long, value_name = "N", default_value_t = 3)]
    areas: usize,
    /// The number of huge pages of each area
    #[arg(long, value_name = "N", default_value_t = 2)]
    blocks: usize,
    /// Only these operations
    #[arg(long, value_enum, value_delimiter = ',', value_name = "OP,...")]
    only: Vec<Op>,
    /// All operations except these
    #[arg(long, value_enum, value_delimiter = ',', value_name = "OP,...")]
    without: Vec<Op>,
}

/// Open files of the device.
const FILES: usize = 3;

fn job(options: &Options) -> Result<Job> {
    ensure!(
        (1..=MAX_THREADS).contains(&options.threads),
        "--threads: 1 to {MAX_THREADS}"
    );
    ensure!(
        (1..=MAX_AREAS).contains(&options.areas) && (1..=8).contains(&options.blocks),
        "--areas: 1 to {MAX_AREAS}, --blocks: 1 to 8"
    );
    let mut chosen = [false; Op::COUNT];
    for op in Op::ALL {
        let wanted = options.only.is_empty() || options.only.contains(op);
        chosen[*op as usize] = wanted && !options.without.contains(op);
    }
    ensure!(chosen.contains(&true), "no operation is left");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = match options.seed {
        Some(seed) => seed,
        // Short enough to be typed.
        None => now().context("the clock")?.as_millis() as u64 % 1_000_000_000,
    };
    Ok(Job {
        seed,
        threads: options.threads,
        seconds: options.seconds,
        ops: options.ops,
        chosen,
        shape: Shape {
            areas: options.areas,
            pages: options.blocks * HUGE,
            files: FILES,
        },
    })
}

/// Returns the command that repeats the operations of every thread.
fn replay(job: &Job, options: &Options) -> String {
    let names = |ops: &[Op]| ops.iter().map(|op| op.name()).collect::<Vec<_>>().join(",");
    let mut line = format!(
        "dmirror stress --seed {} --threads {} --areas {} --blocks {}",
        job.seed, job.threads, options.areas, options.blocks
    );
    match job.ops {
        Some(ops) => line += &format!(" --ops {ops}"),
        None => line += &format!(" --seconds {}", job.seconds),
    }
    for (flag, ops) in [("only", &options.only), ("without", &options.without)] {
        if !ops.is_empty() {
            line += &format!(" --{flag} {}", names(ops));
        }
    }
    line
}

/// Runs the stress and judges it. Returns the exit code.
pub fn run(options: &Options) -> Result<u8> {
    let job = job(options)?;
    let driver = match Device::open(0) {
        Ok(device) => device.driver(),
        Err(error) => {
            println!("KTAP version 1\n1..0 # SKIP {error:#}");
            return Ok(4);
        }
    };
    ensure!(
        driver == Driver::Rust,
        "the C driver does not survive this: it has no counters, and loses races by design"
    );
    let mut ktap = Ktap::new(io::stdout(), verdict::CASES)?;
    let replay = replay(&job, options);
    ktap.diagnostic(&replay)?;
    let eager = khugepaged::Busy::now();
    let ledger = Ledger::enable();
    if let Err(error) = &ledger {
        ktap.diagnostic(&format!("reference counts go unchecked: {error:#}"))?;
    }
    if !proc::is_mended() {
        ktap.diagnostic(
            "K12, K13: this kernel may die of a page that is unmapped while it migrates;",
        )?;
        ktap.diagnostic("see tests/kernel/patches, or leave discard, remap, punch and fork out")?;
    }
    let mut log = Kmsg::open();
    let before = verdict::counters()?;
    let swapped_before = verdict::swapped_out();
    let board = Board::new()?;
    io::stdout().flush()?;
    // SAFETY: this program has one thread until now.
    let seen = match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            if let Err(error) = worker::run(board, &job) {
                board.fail(format_args!("{error:#}"));
            }
            leave(0)
        }
        ForkResult::Parent { child } => watch::watch(
            board,
            child,
            &job,
            log.as_mut(),
            ledger.as_ref().ok(),
            &mut ktap,
        )?,
    };
    verdict::Verdict {
        board,
        job: &job,
        seen,
        before,
        has_log: log.is_some(),
        has_ledger: ledger.is_ok(),
        is_eager: eager.is_busy(),
        swapped_before,
        replay,
    }
    .report(ktap)
}
