// SPDX-License-Identifier: GPL-2.0

//! `dmirror test`: runs cases, each in its own process, and reports KTAP.

mod case;
mod cases;
mod check;
mod child;
mod core_bug;
pub mod filter;
pub mod ktap;
pub mod shown;

pub use case::{Case, OnC};
pub use cases::{
    all as all_cases, defects::all as defects, interleave, that_meet_core_bugs as core_bug_cases,
};
pub use child::pipe;
pub use core_bug::CoreBugs;

use std::{
    io,
    sync::atomic::Ordering,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};
use clap::{value_parser, Args, ValueEnum};

use crate::{
    abi::Stats,
    check_eq,
    core_splits::CoreSplits,
    device::{self, Device, Driver},
    ledger::{self, Ledger},
    proc::{
        self, khugepaged,
        kmsg::{self, Kmsg},
    },
};
use case::Ctx;
use child::End;
use ktap::{Ktap, Outcome};
use shown::{How, Seen, Shown};

#[derive(Args)]
pub struct Options {
    /// List the cases, and run none
    #[arg(long)]
    list: bool,
    /// Only cases whose name contains one of these, or matches it as a glob
    #[arg(long, value_name = "SUBSTR|GLOB", value_delimiter = ',')]
    filter: Vec<String>,
    /// The set of cases
    #[arg(long, value_enum, default_value_t = Suite::Cases)]
    suite: Suite,
    /// Only every Nth of the interleavings, spread over the table
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=1000))]
    sample: u16,
    /// All interleavings except those that --sample selects
    #[arg(long, requires = "sample")]
    but: bool,
    /// Only cases that show a bug of the core, which is fixed in the kernels built here
    #[arg(long, value_enum)]
    core_bugs: Option<CoreBugs>,
    /// Also cases that are known to crash the kernel: with the C driver, or by a bug of the core
    #[arg(long)]
    destructive: bool,
    /// The driver that must be loaded; any other is an error
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    driver: Wanted,
    /// The time limit of a case, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time_limit: u64,
    /// Compare the counts of every Nth page only, for slow kernels
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=64))]
    every: u16,
}

/// A set of cases.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// The cases of tests/selftests/src/test/cases
    Cases,
    /// The table of interleavings
    Interleavings,
    /// Both sets
    All,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    Rust,
    C,
    Auto,
}

/// Runs the selected cases. Returns the exit code.
pub fn run(options: &Options) -> Result<u8> {
    let cells = || interleave::cases(options.sample.into(), options.but);
    let suite: Vec<&Case> = match (options.core_bugs, options.suite) {
        (Some(which), _) => cases::that_meet_core_bugs(which),
        (None, Suite::Cases) => cases::all().collect(),
        (None, Suite::Interleavings) => cells().collect(),
        (None, Suite::All) => cases::all().chain(cells()).collect(),
    };
    let chosen = filter::choose(suite, |case| case.name, &options.filter);
    if options.list {
        for case in chosen {
            println!("{:<32} {}", case.name, case.about);
        }
        return Ok(0);
    }
    let driver = match Device::open(0) {
        Ok(device) => device.driver(),
        Err(error) if options.driver == Wanted::Auto => {
            println!("KTAP version 1\n1..0 # SKIP {error:#}");
            return Ok(4);
        }
        Err(error) => {
            println!("KTAP version 1\nBail out! {error:#}");
            return Ok(1);
        }
    };
    match (options.driver, driver) {
        (Wanted::Rust, Driver::C) => bail!("the driver is not rust_dmirror: it has no counters"),
        (Wanted::C, Driver::Rust) => bail!("the driver is not test_hmm: it answers our ioctls"),
        _ => {}
    }
    let _asleep = khugepaged::Asleep::now()?;
    // While the ledger is off, it checks nothing: that there are no mismatches would mean nothing.
    let ledger = (driver == Driver::Rust).then(Ledger::enable);
    let mut log = Kmsg::open();
    let mut ktap = Ktap::new(io::stdout(), chosen.len())?;
    ktap.diagnostic(&format!("driver: {driver:?}"))?;
    if let Some(Err(error)) = &ledger {
        ktap.diagnostic(&format!("reference counts go unchecked: {error:#}"))?;
    }
    if log.is_none() {
        ktap.diagnostic("the kernel's log cannot be read: what it complains of goes unnoticed")?;
    }
    let limit = Duration::from_secs(options.time_limit);
    check::EVERY.store(options.every.into(), Ordering::Relaxed);
    for case in chosen {
        let (outcome, remarks) = run_case(case, driver, limit, log.as_mut(), options.destructive)?;
        ktap.diagnostic(&remarks)?;
        ktap.result(case.name, &outcome)?;
    }
    Ok(ktap.finish()?)
}

/// Runs a case and judges it. The text says why.
pub fn run_case(
    case: &Case,
    driver: Driver,
    limit: Duration,
    log: Option<&mut Kmsg>,
    destructive: bool,
) -> Result<(Outcome, String)> {
    let shown = match known(case, driver, destructive) {
        Ok(shown) => shown,
        Err(why) => return Ok((Outcome::Skip(why), String::new())),
    };
    let limit = match shown {
        Some(shown) if shown.destructive() => HANGS_AFTER,
        _ => limit,
    };
    kmsg::mark(&kmsg::begins(case.name));
    let start = Instant::now();
    let before = Before::now(driver)?;
    let report = child::run(limit, || {
        let dev = Device::open(0)?;
        case.run.call(&Ctx { dev, driver })
    })?;
    let mut remarks = report.output;
    let mut failed = None;
    let mut outcome = match report.end {
        End::Passed => Outcome::Pass,
        End::Skipped(why) => Outcome::Skip(why),
        End::TimedOut(why) => Outcome::Timeout(why),
        End::Failed(how) => {
            say(&mut remarks, how);
            Outcome::Fail
        }
    };
    match before.settled(driver, case) {
        Ok(0) => {}
        Ok(mismatches) => say(
            &mut remarks,
            format!("{mismatches} reference counts did not match"),
        ),
        Err(error) => failed = Some(format!("after the case's end: {error:#}")),
    }
    proc::refresh_counters();
    let complaints = log.map(Kmsg::complaints).unwrap_or_default();
    for line in &complaints {
        failed = Some(format!("the kernel says: {line}"));
        say(&mut remarks, format!("kernel: {line}"));
    }
    if let Some(why) = failed {
        say(&mut remarks, why);
        if !matches!(outcome, Outcome::Timeout(_)) {
            outcome = Outcome::Fail;
        }
    }
    if let Some(shown) = shown {
        let seen = Seen {
            end: match outcome {
                Outcome::Pass => shown::End::Passed,
                Outcome::Skip(_) => shown::End::Skipped,
                Outcome::Timeout(_) => shown::End::Hung,
                _ => shown::End::Failed,
            },
            said: remarks.clone(),
            kernel: complaints,
        };
        say(&mut remarks, format!("seen: {}", seen.end.word()));
        outcome = as_known(&shown, &seen, outcome);
    }
    let took = start.elapsed();
    if took > Duration::from_secs(5) {
        say(&mut remarks, format!("took {:.1} s", took.as_secs_f32()));
    }
    Ok((outcome, remarks))
}

/// Returns how a case shows a bug of this driver or of this kernel, or why it is not run.
fn known(case: &Case, driver: Driver, destructive: bool) -> Result<Option<Shown>, String> {
    match (driver, case.on_c) {
        (Driver::C, OnC::Skip(why)) => Err(why.into()),
        (Driver::C, OnC::Shows(shown)) if shown.destructive() && !destructive => {
            Err(format!("the kernel does not survive it: {}", shown.text()))
        }
        (Driver::C, OnC::Shows(shown)) => Ok(Some(shown)),
        (Driver::C, OnC::Passes) => Ok(None),
        (Driver::Rust, _) => match case.core_bug.filter(|_| !proc::is_mended()) {
            Some(bug) if !destructive => Err(format!("{}: this kernel may not survive", bug.id)),
            bug => Ok(bug.and_then(|bug| bug.shown)),
        },
    }
}

fn say(remarks: &mut String, text: String) {
    remarks.push_str(&text);
    remarks.push('\n');
}

/// The time limit of a case that is known to crash the kernel.
const HANGS_AFTER: Duration = Duration::from_secs(10);

/// Compares the result of a case about a defect with the expected one. A skipped case proves nothing, nor does a report
/// whose trace is on the console only.
fn as_known(shown: &Shown, seen: &Seen, outcome: Outcome) -> Outcome {
    match (shown.how, &outcome) {
        (How::Passes, _) | (_, Outcome::Skip(_)) => outcome,
        (_, Outcome::Pass) => Outcome::UnexpectedPass(shown.text()),
        (How::Breaks, _) if !seen.kernel.is_empty() => Outcome::ExpectedFailure(shown.text()),
        _ if shown.is(seen) => Outcome::ExpectedFailure(shown.text()),
        _ => outcome,
    }
}

/// Reads the counters of all devices, through files that are closed again.
fn counters(driver: Driver) -> Result<Vec<Stats>> {
    if driver == Driver::C {
        return Ok(Vec::new());
    }
    (0..device::count())
        .map(|index| {
            Device::open(index)?
                .stats()
                .with_context(|| format!("counters of device {index}"))
        })
        .collect()
}

/// The counters before a case.
struct Before {
    stats: Vec<Stats>,
    /// The number of missing references, if the ledger can be read.
    too_low: Option<u64>,
    /// The number of folios that the driver's worker has split for faults, if debugfs can be read.
    by_worker: Option<u64>,
}

impl Before {
    fn now(driver: Driver) -> Result<Before> {
        Ok(Before {
            stats: counters(driver)?,
            too_low: ledger::totals().ok().map(|totals| totals.too_low),
            by_worker: CoreSplits::by_worker().ok(),
        })
    }

    /// Checks the counters after a case. Its process has ended, so all its device memory must be free, and all
    /// reference counts must be right. Returns the mismatches for which the case is not to blame.
    fn settled(&self, driver: Driver, case: &Case) -> Result<u64> {
        let before = &self.stats;
        // The last reference to an mm may be put a moment after its process was reaped.
        let limit = Instant::now() + Duration::from_secs(3);
        let used = |stats: &[Stats]| stats.iter().map(|s| s.pages_used).collect::<Vec<_>>();
        let after = loop {
            let after = counters(driver)?;
            if used(before) == used(&after) || Instant::now() > limit {
                break after;
            }
            sleep(Duration::from_millis(50));
        };
        let mut mismatches = 0;
        for (index, (before, after)) in before.iter().zip(&after).enumerate() {
            check_eq!(
                after.pages_used,
                before.pages_used,
                "device {index}: pages in use"
            );
            if !case.may_stick {
                check_eq!(after.stuck, before.stuck, "device {index}: pages stuck");
            }
            mismatches = mismatches.max(after.ledger_mismatches - before.ledger_mismatches);
        }
        if mismatches > 0 {
            let before = self.too_low.context("the ledger did not tell")?;
            let too_low = ledger::totals()?.too_low - before;
            ensure!(
                (case.races || self.worker_has_split()) && too_low == 0,
                "{mismatches} reference counts do not match, {too_low} of them too low: {}",
                ledger::mismatches()
            );
        }
        Ok(mismatches)
    }

    /// Returns whether the driver's worker has split a folio since. While it does, the CPU repeats the fault.
    /// `migrate_vma_collect_pmd()` takes a reference on each page before it tries the lock, which the fault holds,
    /// so that a count may be too high for a moment.
    fn worker_has_split(&self) -> bool {
        match (self.by_worker, CoreSplits::by_worker()) {
            (Some(before), Ok(now)) => now > before,
            _ => false,
        }
    }
}
