// SPDX-License-Identifier: GPL-2.0

//! The part of `make mutants` that runs in a guest: loads the woven module once for each mutant, with that mutant
//! active, and reports which mutants were noticed.
//!
//! Prints events for `tests/mutants`, each a line of JSON. An event is printed before the step that it announces, so
//! that after a crash of the kernel the output shows which step caused it.

mod cases;
mod module;
mod plan;
mod reach;
mod trial;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::proc::khugepaged;
use module::Module;
use plan::{Event, Known, Plan};

#[derive(clap::Args)]
pub struct Options {
    /// The woven module, which has all mutants
    #[arg(long)]
    module: PathBuf,
    /// The parameters of the module
    #[arg(long, default_value = "")]
    parameters: String,
    /// A JSON file with the mutants to test; without it, find out which part of the suites reaches which mutants
    #[arg(long)]
    plan: Option<PathBuf>,
    /// A JSON file with the cases that need not be run to find that out, and the time for the others
    #[arg(long, conflicts_with = "plan")]
    known: Option<PathBuf>,
    /// The time after which no other mutant is begun, in seconds
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
    /// The duration of the stress, in seconds
    #[arg(long, default_value_t = 10)]
    stress: u64,
}

pub fn run(options: &Options) -> Result<u8> {
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let module = Module::new(&options.module, &options.parameters)?;
    let _asleep = khugepaged::Asleep::now()?;
    let Some(path) = &options.plan else {
        let known = options
            .known
            .as_deref()
            .map_or(Ok(Known::default()), read)?;
        reach::run(&module, options.stress, &known)?;
        return Ok(0);
    };
    let plan: Plan = read(path)?;
    // Checked in advance, so that an error in the plan is not blamed on a mutant.
    for planned in plan.mutants.iter().flat_map(|entry| &entry.cases) {
        cases::named(&planned.name)?;
    }
    for entry in &plan.mutants {
        if Instant::now() > end {
            Event::Last("its time is over").print();
            break;
        }
        if let Some(why) = trial::run(&module, entry, options.stress, plan.spin)? {
            Event::Last(&why).print();
            break;
        }
    }
    Ok(0)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))
}
