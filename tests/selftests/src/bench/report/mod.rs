// SPDX-License-Identifier: GPL-2.0

//! `dmirror bench-report`: writes the results of the guests of `make bench` as a table, as JSON and as a plot.

mod hmm_tests;
mod judge;
mod observed;
mod part;
mod plot;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};
use clap::Args;
use serde::Serialize;

use super::record;
use observed::Cost;
use part::Part;

#[derive(Args)]
pub struct Options {
    /// The output of `dmirror bench`
    #[arg(long, value_name = "FILE")]
    bench: Option<PathBuf>,
    /// The output of the runs of hmm-tests
    #[arg(long, value_name = "FILE")]
    hmm_tests: Option<PathBuf>,
    /// The output of `dmirror bench` in a guest whose clock counts instructions
    #[arg(long, value_name = "FILE")]
    icount: Option<PathBuf>,
    /// The same as --icount, in a guest whose page allocator does not clear pages
    #[arg(long, value_name = "FILE")]
    unzeroed: Option<PathBuf>,
    /// The same as --icount, with a module without ledger and tracepoint
    #[arg(long, value_name = "FILE", requires = "icount")]
    unobserved: Option<PathBuf>,
    /// The output of `dmirror bench` in a guest without page-table isolation
    #[arg(long, value_name = "FILE")]
    nopti: Option<PathBuf>,
    /// The output of `dmirror bench-memory`
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// The output of `dmirror bench` for processes side by side; once for each guest, with one CPU, two, and so on
    #[arg(long, value_name = "FILE")]
    side_by_side: Vec<PathBuf>,
    /// A description of the machine and the kernel, for people
    #[arg(long)]
    conditions: String,
    /// The file to which the table is written, as Markdown
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// The file to which all samples are written
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// The file to which the plot is written
    #[arg(long, value_name = "FILE")]
    svg: PathBuf,
}

#[derive(Serialize)]
struct Report<'a> {
    conditions: &'a str,
    parts: &'a [Part],
    /// The cost of ledger and tracepoint.
    observed: &'a [Cost],
}

pub fn run(options: &Options) -> Result<u8> {
    let mut parts = Vec::new();
    let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
    let lines = |path: &Path| record::read(&read(path)?).context("what dmirror bench printed");
    if let Some(path) = &options.bench {
        parts.push(Part::new("Time", lines(path)?));
    }
    if let Some(path) = &options.hmm_tests {
        let lines = hmm_tests::lines(&read(path)?)?;
        parts.push(Part::new("Time, by the kernel's own hmm-tests", lines));
    }
    for (path, title) in [
        (
            &options.nopti,
            "Time, with nopti: to enter the kernel does not empty the TLB, which is emulated here",
        ),
        (
            &options.icount,
            "Instructions of the guest, one for a nanosecond",
        ),
        (
            &options.unzeroed,
            "Instructions, with init_on_alloc=0: the page allocator does not clear what is copied to",
        ),
        (
            &options.memory,
            "Memory of the kernel, beyond struct pages, what plays the device's memory, and huge_ready",
        ),
    ] {
        if let Some(path) = path {
            parts.push(Part::new(title, lines(path)?));
        }
    }
    for path in &options.side_by_side {
        let mut part = Part::new("Processes side by side, by time, CPUs: ", lines(path)?);
        part.title += &part.machine.as_ref().map_or(0, |m| m.cpus).to_string();
        parts.push(part);
    }
    let mut costs = Vec::new();
    if let (Some(with), Some(without)) = (&options.icount, &options.unobserved) {
        let results = |path| Ok::<_, anyhow::Error>(Part::new("", lines(path)?).results);
        costs = observed::costs(&results(with)?, &results(without)?);
        ensure!(
            !costs.is_empty(),
            "no row was measured with and without ledger"
        );
    }
    ensure!(
        parts.iter().any(|part| !part.rows.is_empty()),
        "nothing was measured"
    );
    let text = table::markdown(&options.conditions, &parts) + &observed::markdown(&costs);
    fs::write(&options.table, text).context("the table")?;
    let report = Report {
        conditions: &options.conditions,
        parts: &parts,
        observed: &costs,
    };
    fs::write(&options.json, serde_json::to_string(&report)? + "\n").context("the samples")?;
    fs::write(&options.svg, plot::svg(&parts[0].results)?).context("the plot")?;
    print!("{}{}", table::text(&parts), observed::text(&costs));
    Ok(0)
}
