// SPDX-License-Identifier: GPL-2.0

//! Which part of the suites reaches which mutant, while none is active, and how long it takes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{
    module::{activate, forget_reached, reached, Module},
    plan::Event,
    suite::cases,
    trial::{stress, LIMIT},
};
use crate::{
    device::Driver,
    ledger::Ledger,
    proc::kmsg::Kmsg,
    test::{self, ktap::Outcome},
};

/// Runs everything once. What fails here is printed, and not used later.
pub fn run(module: &Module, seconds: u64) -> Result<()> {
    activate(0)?;
    part("load", || module.load(false).map(|_| true))?;
    module.unload()?;
    part("kunit", || module.load(true).map(|_| true))?;
    let mut log = Kmsg::open().context("the kernel's log cannot be read")?;
    let ledger = Ledger::enable()?;
    let all: Vec<_> = cases().collect();
    for (number, case) in all.iter().enumerate() {
        println!("# progress: {} of {}: {}", number + 1, all.len(), case.name);
        part(&format!("case {}", case.name), || {
            let limit = Duration::from_secs(LIMIT);
            let (outcome, remarks) =
                test::run_case(case, Driver::Rust, limit, Some(&mut log), false)?;
            if outcome != Outcome::Pass {
                println!("# {}: {outcome:?}", case.name);
                remarks.lines().for_each(|line| println!("#   {line}"));
            }
            Ok(outcome == Outcome::Pass)
        })?;
    }
    println!("# progress: stress");
    // Longer, since each time it meets something else.
    part("stress", || stress(2 * seconds).map(|()| true))?;
    drop(ledger);
    part("unload", || module.unload().map(|()| true))
}

fn part(by: &str, run: impl FnOnce() -> Result<bool>) -> Result<()> {
    forget_reached()?;
    let start = Instant::now();
    let passed = run().unwrap_or_else(|error| {
        println!("# {by}: {error:#}");
        false
    });
    Event::Reach {
        by,
        seconds: start.elapsed().as_secs_f64(),
        passed,
        reached: reached()?,
    }
    .print();
    Ok(())
}
