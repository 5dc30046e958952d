// SPDX-License-Identifier: GPL-2.0

//! `dmirror`: what a person and a test want of `rust_dmirror` in user space.
//!
//! It also speaks with the C driver, as far as that one's ABI goes.

#![deny(warnings)]

mod abi;
mod area;
mod bench;
mod busy;
mod core_splits;
mod defects;
mod demo;
mod device;
mod experiment;
mod ledger;
mod load_fails;
mod mutants;
mod page;
mod parameters;
mod proc;
mod race;
mod ready;
mod skip;
mod stat;
mod strand;
mod stress;
mod table;
mod test;
mod trace;

use std::process::ExitCode;

use anyhow::{ensure, Result};
use clap::{Args, Parser, Subcommand};

/// Shows and tests device-private memory with /dev/hmm_dmirrorN
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Target {
    /// Number of the device
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: u32,
}

#[derive(Subcommand)]
enum Command {
    /// Move a huge page to the device and back, and show where it is at each step
    Demo(Target),
    /// Run the selftest; KTAP on standard output
    Test(test::Options),
    /// Let everything race, and compare all data with a model; KTAP on standard output
    Stress(stress::Options),
    /// Let a few threads do one thing each to one huge page, and see whether the kernel survives
    Race(race::Options),
    /// Show the counters of a device
    Stat(Target),
    /// Show the reference counts of one migration, stage by stage
    Trace {
        #[command(flatten)]
        target: Target,
        /// Let something fail: extra-ref, huge-alloc, small-alloc, copy, folio-lock
        #[arg(long, value_name = "POINT[:TIMES[:SKIP]]")]
        inject: Vec<trace::Injection>,
    },
    /// Leave pages on the device with no file open, and touch them while a command runs
    #[command(hide = true)]
    Strand(strand::Options),
    /// Compare what the driver does with the parameters that insmod was given
    #[command(hide = true)]
    Parameters(parameters::Options),
    /// Load the module while each of its allocations fails
    #[command(hide = true)]
    LoadFails(load_fails::Options),
    /// Migrate for ever, and check the data: something for other tests to run beside
    Busy(Target),
    /// Measure both drivers, and what the kernel's copies alone take; KTAP, with JSON in it
    Bench(bench::Options),
    /// Measure what a driver that was just loaded takes in kernel memory
    #[command(hide = true)]
    BenchMemory(bench::memory::Options),
    /// Make the table and the plot of `make bench` out of what its guests printed
    #[command(hide = true)]
    BenchReport(bench::report::Options),
    /// Make the table of `make experiment` out of what its guests printed
    #[command(hide = true)]
    Experiment(experiment::Options),
    /// Print the table of interleavings, which is tests/interleavings.md
    #[command(hide = true)]
    Interleavings,
    /// The guests of `make defects`, and the table of what was seen in them
    #[command(hide = true)]
    Defects(defects::Options),
    /// The guest's half of `make mutants`
    #[command(hide = true)]
    Mutants(mutants::Options),
}

fn run(command: Command) -> Result<u8> {
    // SAFETY: reads a constant of the system.
    let page_size = unsafe { nix::libc::sysconf(nix::libc::_SC_PAGESIZE) };
    ensure!(
        page_size == device::PAGE_SIZE as i64,
        "written for pages of 4 KiB, not of {page_size} bytes"
    );
    match command {
        Command::Demo(target) => demo::run(target.device),
        Command::Test(options) => test::run(&options),
        Command::Stress(options) => stress::run(&options),
        Command::Race(options) => race::run(&options),
        Command::Stat(target) => stat::run(target.device),
        Command::Trace { target, inject } => trace::run(target.device, &inject),
        Command::Strand(options) => strand::run(&options),
        Command::Parameters(options) => parameters::run(&options),
        Command::LoadFails(options) => load_fails::run(&options),
        Command::Busy(target) => busy::run(target.device),
        Command::Bench(options) => bench::run(&options),
        Command::BenchMemory(options) => bench::memory::run(&options),
        Command::BenchReport(options) => bench::report::run(&options),
        Command::Experiment(options) => experiment::run(&options),
        Command::Interleavings => Ok(test::interleave::print()),
        Command::Defects(options) => defects::run(&options),
        Command::Mutants(options) => mutants::run(&options),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("dmirror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
