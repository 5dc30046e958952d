// SPDX-License-Identifier: GPL-2.0

//! `dmirror`, the companion: demonstrates, tests, stresses and measures `rust_dmirror` from user space.
//!
//! It works with the C driver as well, as far as its ABI goes.

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
    /// Run all operations against each other and compare all data with a model; KTAP on standard output
    Stress(stress::Options),
    /// Run a few threads, each repeating one operation on the same huge page; fails if the kernel reports anything
    Race(race::Options),
    /// Show the counters of a device
    Stat(Target),
    /// Show the reference counts of one migration, stage by stage
    Trace {
        #[command(flatten)]
        target: Target,
        /// Inject a failure: extra-ref, huge-alloc, small-alloc, copy, folio-lock
        #[arg(long, value_name = "POINT[:TIMES[:SKIP]]")]
        inject: Vec<trace::Injection>,
    },
    /// Leave pages on the device with no file open, and access them while a command runs
    #[command(hide = true)]
    Strand(strand::Options),
    /// Check that the driver does what the parameters of insmod say
    #[command(hide = true)]
    Parameters(parameters::Options),
    /// Load the module while each of its allocations fails
    #[command(hide = true)]
    LoadFails(load_fails::Options),
    /// Migrate until killed, and check the data: a load for other tests to run beside
    Busy(Target),
    /// Measure both drivers and the kernel's copies alone; KTAP, with JSON in it
    Bench(bench::Options),
    /// Measure the kernel memory that a freshly loaded driver uses
    #[command(hide = true)]
    BenchMemory(bench::memory::Options),
    /// Make the table and the plot of `make bench` from the output of its guests
    #[command(hide = true)]
    BenchReport(bench::report::Options),
    /// Make the table of `make experiment` from the output of its guests
    #[command(hide = true)]
    Experiment(experiment::Options),
    /// Print the table of interleavings, tests/interleavings.md
    #[command(hide = true)]
    Interleavings,
    /// List the guests of `make defects`, and make the table of their results
    #[command(hide = true)]
    Defects(defects::Options),
    /// The part of `make mutants` that runs in a guest
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
