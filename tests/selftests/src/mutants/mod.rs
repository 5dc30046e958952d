// SPDX-License-Identifier: GPL-2.0

//! The guest's half of `make mutants`: loads the woven module again and again, each time with another
//! mutant, and says which were noticed.
//!
//! What it prints are events, JSON in a line each, for `tests/mutants`; an event is there before what it
//! announces begins, so that a kernel that dies leaves behind of what.

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
    /// The woven module
    #[arg(long)]
    module: PathBuf,
    /// Its parameters
    #[arg(long, default_value = "")]
    parameters: String,
    /// What to try; without it, note which part of the suites reaches which mutant
    #[arg(long)]
    plan: Option<PathBuf>,
    /// What of the suites need not be run to note that
    #[arg(long, conflicts_with = "plan")]
    known: Option<PathBuf>,
    /// Begin no other mutant after so long
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
    /// How long the stress is
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
    // What the plan has wrong is not the fault of a mutant.
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
