// SPDX-License-Identifier: GPL-2.0

//! `dmirror defects`: lists the guests of `make defects`, judges their results and makes a table of them.

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
    /// The cases about bugs of the core that are run
    #[arg(long, value_enum, default_value_t = CoreBugs::Sample)]
    core_bugs: CoreBugs,
}

#[derive(Subcommand)]
enum What {
    /// List the guests that show defects, one per line: name, driver, kernel, whether it needs coherent memory (yes or
    /// no), whether an oops must end it (yes or no), cases, and arguments for the kernel's command line
    Plan,
    /// Make the table of results, and judge them
    Table {
        /// The directory with a directory of logs for each guest
        #[arg(long)]
        vm: PathBuf,
        /// The guest in which our driver must pass the cases about defects of the C driver
        #[arg(long)]
        rust: String,
        /// The guest with our kernel, whose patches must make the cases about bugs of the core pass
        #[arg(long)]
        mended: String,
        /// The file to write the table to
        #[arg(long)]
        table: PathBuf,
        /// The file to write the verdicts to, one per line: what was checked, 1 if it is as expected and 0 if not, and
        /// what was seen
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
