// SPDX-License-Identifier: GPL-2.0

//! `dmirror race`: a few threads of one process, each doing one thing to one huge page for ever.
//!
//! No data are checked: what is looked for are crashes, leaks and hangs where a page is zapped at the wrong
//! moment. The numbers of the workers are part of the names under which lists of them are known to fail.

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
    /// Numbers of the workers, such as 0,1,5,10; --list shows them
    #[arg(value_delimiter = ',', required_unless_present_any = ["list", "sample"])]
    workers: Vec<u8>,
    /// How long
    #[arg(long, value_name = "N", default_value_t = 15)]
    seconds: u64,
    /// Show what the workers do
    #[arg(long)]
    list: bool,
    /// Run nothing, but name so many lists, a line each: of two, three, four and all workers
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Which lists
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

/// How much longer it may take until each worker has come round once.
const OVERTIME: Duration = Duration::from_secs(30);

/// Lets the workers with these numbers loose on one huge page, and looks whether all is well afterwards.
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
    // On a busy machine, somebody may come round only later.
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
                    // The others need not go on after an error.
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
    // Nothing hangs at a page that somebody left behind.
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
