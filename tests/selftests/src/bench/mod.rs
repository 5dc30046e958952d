// SPDX-License-Identifier: GPL-2.0

//! `dmirror bench`: measures both drivers in one boot, in turns, with the ioctls that both have; and the kernel's own
//! copy routines, as the limit of what is possible. `dmirror bench-report` makes tables of the results.

mod child;
mod jobs;
pub mod memory;
mod others;
mod plan;
mod record;
pub mod report;
mod rows;
mod stats;
mod work;

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use clap::Args;

use crate::{
    proc::{self, khugepaged},
    test::ktap::{Ktap, Outcome},
};
use jobs::{Job, Kind};
use plan::Plan;
use record::{Line, Machine, Results, Row, Samples, Side};
use work::Effort;

#[derive(Args)]
pub struct Options {
    /// The directory with the nodes of the C driver
    #[arg(long, value_name = "DIR")]
    c: Option<PathBuf>,
    /// The directory with the nodes of the Rust driver
    #[arg(long, value_name = "DIR", default_value = "/dev")]
    rust: PathBuf,
    /// The time limit in seconds; each row is measured at least once
    #[arg(long, default_value_t = 480)]
    seconds: u64,
    /// The largest number of rounds, each of which measures a row once
    #[arg(long, default_value_t = 60)]
    rounds: u32,
    /// The rows to measure
    #[arg(long, value_enum, default_value_t = Plan::Full)]
    plan: Plan,
    /// Measure only rows whose name contains one of these, and the rows that are measured together with them
    #[arg(long, value_name = "SUBSTR", value_delimiter = ';')]
    filter: Vec<String>,
    /// List the rows instead of measuring them
    #[arg(long)]
    list: bool,
}

/// The number of rounds before an interval is trusted.
const LEAST_ROUNDS: u32 = 5;
/// The width of an interval at which its row is done, as a share of the ratio, to either side.
const NARROW: f64 = 0.05;
/// The number of attempts at a job in a round. The C driver may fail and then succeed.
const TRIES: u32 = 5;
/// The time for which a child repeats a measurement.
const BUDGET: Duration = Duration::from_millis(200);
/// The largest number of repetitions in a child.
const MOST: usize = 15;

struct Bench<'a> {
    options: &'a Options,
    jobs: Vec<Job>,
    results: Results,
    /// Rows that could not be measured, and why.
    failed: BTreeMap<Row, String>,
    /// All lines of JSON, as they were printed.
    text: String,
}

pub fn run(options: &Options) -> Result<u8> {
    let jobs = chosen(options)?;
    if options.list {
        for row in jobs.iter().flat_map(Job::rows) {
            println!("{}", row.name());
        }
        return Ok(0);
    }
    ensure!(!jobs.is_empty(), "no row is so called");
    let _asleep = khugepaged::Asleep::now()?;
    // One more case checks that the printed lines can be parsed.
    let cases = jobs.iter().map(|job| job.rows().len()).sum::<usize>() + 1;
    let mut ktap = Ktap::new(io::stdout(), cases)?;
    let mut bench = Bench {
        options,
        jobs,
        results: Results::default(),
        failed: BTreeMap::new(),
        text: String::new(),
    };
    bench.print(&Line::Machine(machine()?));
    bench.measure()?;
    bench.report(&mut ktap)?;
    Ok(ktap.finish()?)
}

fn chosen(options: &Options) -> Result<Vec<Job>> {
    let filter = &options.filter;
    let wanted = |row: Row| filter.is_empty() || filter.iter().any(|f| row.name().contains(f));
    let mut jobs = options.plan.jobs();
    jobs.retain(|job| job.rows().into_iter().any(wanted));
    if options.list {
        return Ok(jobs);
    }
    let available = proc::available()? as u64 * crate::device::PAGE_SIZE as u64;
    let (fit, too_large): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|job| job.needs() <= available);
    for job in too_large {
        println!("# left out for want of memory: {}", job.name());
    }
    Ok(fit)
}

fn machine() -> Result<Machine> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_string()
    };
    let cpus = read("/proc/cpuinfo");
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_string())
            .unwrap_or_default()
    };
    let kib: usize = field(&read("/proc/meminfo"), "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .context("MemTotal")?;
    Ok(Machine {
        kernel: read("/proc/sys/kernel/osrelease"),
        cpu: field(&cpus, "model name"),
        cpus: cpus.lines().filter(|l| l.starts_with("processor")).count(),
        memory_mib: kib / 1024,
        clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    })
}

impl Bench<'_> {
    fn print(&mut self, line: &Line) {
        let line = line.line();
        println!("{line}");
        self.text += &line;
        self.text.push('\n');
    }

    fn node(&self, side: Side) -> Option<PathBuf> {
        let directory = match side {
            Side::C => self.options.c.as_ref()?,
            Side::Rust | Side::Limit => &self.options.rust,
        };
        Some(directory.join("hmm_dmirror0"))
    }

    /// Returns the sides that take turns at a job, in this order.
    fn sides(&self, job: &Job) -> Vec<Side> {
        match job.kind {
            Kind::Copies => vec![Side::Limit],
            Kind::Phases => vec![Side::Rust],
            _ if self.options.c.is_none() => vec![Side::Rust],
            _ => vec![Side::C, Side::Rust],
        }
    }

    /// Measures all jobs once in each round, so that changes of the machine affect all rows alike.
    fn measure(&mut self) -> Result<()> {
        let begin = Instant::now();
        let limit = Duration::from_secs(self.options.seconds);
        let mut left = self.jobs.clone();
        for round in 1..=self.options.rounds {
            println!(
                "# progress: round {round}, {} of {} jobs left, {} s",
                left.len(),
                self.jobs.len(),
                begin.elapsed().as_secs()
            );
            for job in &left {
                // The first round is completed, however long it takes.
                if round > 1 && begin.elapsed() >= limit {
                    return Ok(());
                }
                for side in self.sides(job) {
                    self.attempt(job, side, round)?;
                }
            }
            left.retain(|job| !self.is_done(job, round));
            // Limits and phases have no ratio, so they are measured until all comparisons of the drivers are done.
            if left.iter().all(|job| self.sides(job).len() < 2) && self.options.c.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_done(&self, job: &Job, round: u32) -> bool {
        let rows = job.rows();
        if rows.iter().any(|row| self.failed.contains_key(row)) {
            return true;
        }
        round >= LEAST_ROUNDS
            && self.sides(job).len() == 2
            && rows.iter().all(|row| {
                let pairs = self.results.pairs((*row, Side::C), (*row, Side::Rust));
                stats::ratio(&pairs).is_some_and(|ratio| ratio.is_narrow(NARROW))
            })
    }

    fn attempt(&mut self, job: &Job, side: Side, round: u32) -> Result<()> {
        let Some(node) = self.node(side) else {
            return Ok(());
        };
        let effort = Effort {
            most: MOST,
            budget: BUDGET,
        };
        let mut why = String::new();
        for _ in 0..TRIES {
            match child::run(|| job.run(&node, effort)) {
                Ok(series) => {
                    for (row, ns) in series {
                        let samples = Samples {
                            row,
                            side,
                            round,
                            ns,
                        };
                        self.results.add(&samples);
                        self.print(&Line::Samples(samples));
                    }
                    return Ok(());
                }
                Err(error) => why = format!("{error:#}"),
            }
            self.print(&Line::Repeated {
                side,
                job: job.name(),
                why: why.clone(),
            });
        }
        for row in job.rows() {
            self.failed.insert(row, format!("{side:?}: {why}"));
        }
        Ok(())
    }

    /// Reports a case for each row, which passes if there is a time, whatever it is.
    fn report(&self, ktap: &mut Ktap<io::Stdout>) -> Result<()> {
        for job in &self.jobs {
            for row in job.rows() {
                let missing = self
                    .sides(job)
                    .into_iter()
                    .find(|side| !self.results.times(row, *side).iter().any(|ns| *ns > 0.0));
                let outcome = match (self.failed.get(&row), missing) {
                    (None, None) => Outcome::Pass,
                    (why, side) => {
                        let why = why.cloned().unwrap_or_default();
                        ktap.diagnostic(&format!("no time for {side:?}; {why}"))?;
                        Outcome::Fail
                    }
                };
                ktap.result(&row.name(), &outcome)?;
            }
        }
        let lines = self.text.lines().count();
        let outcome = match record::read(&self.text) {
            Ok(read) if read.len() == lines => Outcome::Pass,
            Ok(_) => Outcome::Fail,
            Err(error) => {
                ktap.diagnostic(&error.to_string())?;
                Outcome::Fail
            }
        };
        ktap.result("what was printed is JSON", &outcome)?;
        Ok(())
    }
}
