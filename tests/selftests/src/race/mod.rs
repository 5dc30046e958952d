// SPDX-License-Identifier: GPL-2.0

//! `dmirror race`: a few threads of one process, each repeating one operation on the same huge page.
//!
//! Looks for crashes, leaks and hangs when a page is zapped at the wrong moment; data are not checked. Known
//! failures are named by the numbers of the workers, so these must not change.

mod lists;
mod worker;

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};

use crate::{
    area::{Area, HUGE},
    check_eq,
    device::{Device, Driver},
};
pub use lists::FAILED_BEFORE;
use worker::{Page, Worker};

#[derive(clap::Args)]
pub struct Options {
    /// The numbers of the workers, such as 0,1,5,10; see --list
    #[arg(value_delimiter = ',', required_unless_present_any = ["list", "sample"])]
    workers: Vec<u8>,
    /// The time to run, in seconds
    #[arg(long, value_name = "N", default_value_t = 15)]
    seconds: u64,
    /// List the workers and their operations
    #[arg(long)]
    list: bool,
    /// Only print this many lists of two, three, four and all workers, one per line
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// The seed that selects the lists
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub fn run(options: &Options) -> Result<u8> {
    if options.list {
        for (number, worker) in Worker::ALL.iter().enumerate() {
            println!("{number:2} {}", worker.about());
        }
        return Ok(0);
    }
    if let Some(most) = options.sample {
        for list in lists::sample(most, options.seed) {
            println!("{}", lists::name(&list));
        }
        return Ok(0);
    }
    race(&options.workers, Duration::from_secs(options.seconds))?;
    Ok(0)
}

/// The extra time in which each worker must have completed one round.
const OVERTIME: Duration = Duration::from_secs(30);

/// Runs the workers with these numbers on one huge page, and checks the page and the counters afterwards.
pub fn race(numbers: &[u8], duration: Duration) -> Result<()> {
    let workers = numbers
        .iter()
        .map(|number| {
            Worker::numbered(*number).with_context(|| format!("there is no worker {number}"))
        })
        .collect::<Result<Vec<_>>>()?;
    let dev = Device::open(0)?;
    let area = Area::filled(1, 400)?;
    worker::survive_read_only(&area);
    let page = Page {
        dev: &dev,
        area: &area,
    };
    let (stop, end) = (AtomicBool::new(false), Instant::now() + duration);
    // On a busy machine, a worker may complete its first round late.
    let missing = AtomicUsize::new(workers.len());
    let running = |times| {
        missing.fetch_sub(usize::from(times == 1), Ordering::Relaxed);
        let now = Instant::now();
        let is_on = now < end || missing.load(Ordering::Relaxed) > 0 && now < end + OVERTIME;
        is_on && !stop.load(Ordering::Relaxed)
    };
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter()
            .map(|worker| {
                let (page, running, stop) = (&page, &running, &stop);
                scope.spawn(move || {
                    let done = worker.work(page, running);
                    // After an error, the others can stop.
                    stop.fetch_or(done.is_err(), Ordering::Relaxed);
                    done
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a worker does not panic"))
            .collect::<Result<Vec<u64>>>()
    })?;
    for ((number, worker), count) in numbers.iter().zip(&workers).zip(&counts) {
        println!("{number:2} {}: {count} times", worker.about());
        ensure!(*count > 0, "worker {number} never came round");
    }
    // Checks that no access hangs on a page that was left behind.
    for index in 0..HUGE {
        area.word(index, 0);
    }
    let is_rust = dev.driver() == Driver::Rust;
    drop((area, dev));
    if is_rust {
        let dev = Device::open(0)?;
        check_eq!(dev.stats()?.pages_used, 0, "device pages in use afterwards");
    }
    Ok(())
}
