// SPDX-License-Identifier: GPL-2.0

//! `dmirror defects`: which guests `make defects` needs, and the table of what was seen in them.

mod known;
mod log;
mod table;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::test::CoreBugs;

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
    /// How many of the cases about bugs of the core
    #[arg(long, value_enum, default_value_t = CoreBugs::Sample)]
    core_bugs: CoreBugs,
}

#[derive(Subcommand)]
enum What {
    /// A line for each guest that shows defects: its name, the driver, the kernel, yes if it needs
    /// coherent memory, yes if an oops is to end it, the cases, and the kernel's arguments
    Plan,
    /// The table of what was seen
    Table {
        /// Where the guests' logs are
        #[arg(long)]
        vm: PathBuf,
        /// The guest in which our driver must pass what is wrong with the other
        #[arg(long)]
        rust: String,
        /// The guest whose kernel has our patches
        #[arg(long)]
        mended: String,
        /// Where the table goes
        #[arg(long)]
        table: PathBuf,
        /// Where a line goes for each thing checked: what, 0 or 1, and what was seen
        #[arg(long)]
        verdicts: PathBuf,
    },
}

pub fn run(options: &Options) -> Result<u8> {
    match &options.what {
        What::Plan => {
            print!("{}", known::plan(options.core_bugs)?);
            Ok(0)
        }
        What::Table {
            vm,
            rust,
            mended,
            table,
            verdicts,
        } => {
            let seen = table::read(vm, rust, mended, options.core_bugs)?;
            fs::write(table, table::markdown(&seen)).context("the table")?;
            let (text, good) = table::judge(&seen);
            fs::write(verdicts, text).context("the verdicts")?;
            Ok(u8::from(!good))
        }
    }
}
