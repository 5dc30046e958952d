// SPDX-License-Identifier: GPL-2.0

//! Finds out which part of the suites reaches which mutants, while no mutant is active, and how long each part takes.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    cases,
    module::{activate, forget_reached, reached, suite, Module},
    plan::{Event, Known},
    trial::{spin, stress, LIMIT},
};
use crate::{
    device::Driver,
    ledger::Ledger,
    proc::kmsg::Kmsg,
    test::{self, ktap::Outcome},
};

/// Runs all suites once, then the cases that `known` does not leave out, then the stress if it leaves out none. A part
/// that fails is reported as failed, and the host does not use it.
pub fn run(module: &Module, seconds: u64, known: &Known) -> Result<()> {
    activate(0)?;
    let seconds_of_spin = (0..3).map(|_| spin()).fold(f64::MAX, f64::min);
    Event::Reach {
        by: "spin",
        seconds: seconds_of_spin,
        passed: true,
        reached: Vec::new(),
    }
    .print();
    part("load", || module.load().map(|_| true))?;
    let mut log = Kmsg::open().context("the kernel's log cannot be read")?;
    for name in module.suites()? {
        let limit = Duration::from_secs(LIMIT);
        part(&format!("kunit {name}"), || {
            suite(&name, limit, &mut log).map(|()| true)
        })?;
    }
    let ledger = Ledger::enable()?;
    let is_new = |case: &&test::Case| !known.cases.iter().any(|name| name == case.name);
    let all = families_in_turns(cases::all().filter(is_new).collect());
    let end = known
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    for (number, case) in all.iter().enumerate() {
        if end.is_some_and(|end| Instant::now() > end) {
            println!("# the time for cases is over: {number} of {}", all.len());
            break;
        }
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
    if known.cases.is_empty() {
        println!("# progress: stress");
        // Longer than in a trial, since each run reaches different code.
        part("stress", || stress(2 * seconds).map(|()| true))?;
    }
    drop(ledger);
    part("unload", || module.unload().map(|()| true))
}

/// Sorts the cases so that the families take turns. Cases of one family, by the name before the dot, are alike: if the
/// time is over early, some cases of each family have run.
fn families_in_turns(cases: Vec<&test::Case>) -> Vec<&test::Case> {
    let mut turns: HashMap<&str, usize> = HashMap::new();
    let mut all: Vec<_> = cases
        .into_iter()
        .map(|case| {
            let family = case.name.split('.').next().unwrap_or(case.name);
            let turn = turns.entry(family).or_default();
            *turn += 1;
            (*turn, case)
        })
        .collect();
    all.sort_by_key(|(turn, _)| *turn);
    all.into_iter().map(|(_, case)| case).collect()
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
