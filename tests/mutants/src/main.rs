// SPDX-License-Identifier: GPL-2.0

//! `mutants`: what `make mutants` does outside of the guest. `scripts/mutants.sh` calls it.
//!
//! All mutants are woven into one module, each behind a switch, so that there is one build and not
//! one for each; which of them is active is said to the module `dmirror_mutant` at run time.

#![deny(warnings)]

mod blame;
mod candidate;
mod cfg;
mod fields;
mod find;
mod guest;
mod pick;
mod report;
mod text;
mod weave;
mod work;

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{ensure, Context, Result};
use clap::{Parser, Subcommand};
use regex::RegexSet;

use find::tree::candidates;
use weave::{read, write};
use work::{json, Work};

/// Finds, weaves, picks and reports mutants of rust_dmirror
#[derive(Parser)]
struct Cli {
    /// The tree of the module
    #[arg(long, default_value = ".")]
    top: PathBuf,
    /// Where everything of a run is
    #[arg(long, default_value = "build/mutants")]
    work: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show all candidates, one a line
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the tree with the mutants in it: WORK/woven
    Weave,
    /// Drop the mutants that the compiler's errors in a log are about
    Blame { log: PathBuf },
    /// Note what the suites reach, from the output of a guest: WORK/reach.json
    Reach { output: PathBuf },
    /// Write what a guest is to try; prints how many mutants that are, and how many are left in all
    Plan {
        #[arg(long)]
        mutants: usize,
        #[arg(long)]
        seed: u64,
        /// Which of how many guests it is for
        #[arg(long, default_value_t = 0)]
        guest: usize,
        #[arg(long, default_value_t = 1)]
        guests: usize,
        plan: PathBuf,
    },
    /// Note what became of mutants, from the output and the kernel log of a guest: WORK/results.jsonl
    Collect { output: PathBuf, console: PathBuf },
    /// Write the table, and print a summary
    Report {
        #[arg(long)]
        mutants: usize,
        #[arg(long)]
        seed: u64,
        table: PathBuf,
    },
}

fn list(top: &Path, as_json: bool) -> Result<()> {
    for candidate in candidates(top)? {
        match as_json {
            true => println!("{}", serde_json::to_string(&candidate)?),
            false => println!("{} {}", candidate.id, candidate.describe()),
        }
    }
    Ok(())
}

fn weave_tree(top: &Path, work: &Work<'_>) -> Result<()> {
    let dropped = work.read_dropped()?;
    let (chosen, rest): (Vec<_>, Vec<_>) = candidates(top)?
        .into_iter()
        .partition(|candidate| !dropped.contains_key(&candidate.id));
    ensure!(
        chosen.len() <= weave::MOST,
        "{} mutants are more than the {} that dmirror_mutant.c has room for",
        chosen.len(),
        weave::MOST
    );
    let woven = weave::tree(top, &work.tree(), &chosen)?;
    write(&work.0.join("woven.json"), &serde_json::to_string(&woven)?)?;
    println!(
        "{} of {} mutants are woven in; {} do not compile",
        woven.len(),
        chosen.len() + rest.len(),
        rest.len()
    );
    Ok(())
}

fn blame_log(work: &Work<'_>, log: &Path) -> Result<()> {
    let woven = work.woven()?;
    let blamed = blame::blame(&read(log)?, &woven);
    let mut dropped = work.read_dropped()?;
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, reason) in &blamed.dropped {
        *reasons.entry(reason).or_default() += 1;
        if let Some(woven) = woven.iter().find(|woven| woven.number == *number) {
            let reason = format!("{reason}: {}", woven.candidate.describe());
            dropped.insert(woven.candidate.id.clone(), reason);
        }
    }
    write(&work.dropped(), &serde_json::to_string_pretty(&dropped)?)?;
    println!("{} mutants do not compile", blamed.dropped.len());
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, nr)| usize::MAX - nr);
    for (reason, nr) in reasons.into_iter().take(12) {
        println!("  {nr:4} {reason}");
    }
    for error in blamed.unexplained.iter().take(12) {
        println!("  of no mutant: {error}");
    }
    ensure!(
        !blamed.dropped.is_empty(),
        "the build failed, and no mutant explains it: look at {}",
        log.display()
    );
    Ok(())
}

fn reach(work: &Work<'_>, output: &Path) -> Result<()> {
    let (_, reach) = guest::read(&read(output)?);
    ensure!(
        reach.iter().any(|part| part.by == "unload"),
        "the guest ended before it had run everything once: look at {}",
        output.display()
    );
    let woven = work.woven()?.len();
    let all: HashSet<usize> = reach
        .iter()
        .flat_map(|r| r.reached.iter().copied())
        .collect();
    for part in reach.iter().filter(|part| !part.passed) {
        println!("not used, since it fails without a mutant: {}", part.by);
    }
    let seconds: f64 = reach.iter().map(|part| part.seconds).sum();
    println!(
        "{} of {woven} mutants are reached, by {} parts of the suites in {seconds:.0} s",
        all.len(),
        reach.len()
    );
    write(&work.0.join("reach.json"), &serde_json::to_string(&reach)?)
}

/// What is left of a sample for one of several guests.
fn plan(
    work: &Work<'_>,
    (mutants, seed): (usize, u64),
    (this, guests): (usize, usize),
    plan: &Path,
) -> Result<()> {
    let woven = work.woven()?;
    let all: Vec<_> = woven.iter().map(|woven| woven.candidate.clone()).collect();
    let results = work.results()?;
    let tried: HashSet<&str> = results.iter().map(|t| &*t.candidate.id).collect();
    let picked: Vec<_> = pick::order(&all, seed)
        .into_iter()
        .take(mutants)
        .enumerate()
        .filter(|(at, candidate)| at % guests == this && !tried.contains(&*candidate.id))
        .filter_map(|(_, candidate)| {
            let of = woven
                .iter()
                .find(|woven| woven.candidate.id == candidate.id)?;
            Some((of.number, candidate.describe()))
        })
        .collect();
    let reach: Vec<guest::Reach> = json(&work.0.join("reach.json"))?;
    let (entries, unreached) = guest::plan(&picked, &reach);
    for verdict in &unreached {
        if let Some((_, text)) = picked.iter().find(|(number, _)| *number == verdict.number) {
            println!("# mutant {}: survived, not reached: {text}", verdict.number);
        }
    }
    work.add_results(unreached, &woven)?;
    write(plan, &serde_json::to_string(&entries)?)?;
    println!("{}", entries.mutants.len());
    Ok(())
}

fn collect(top: &Path, work: &Work<'_>, output: &Path, console: &Path) -> Result<()> {
    let (output, _) = guest::read(&read(output)?);
    ensure!(
        !output.is_finished || output.unfinished.is_none(),
        "the guest ended without a verdict of mutant {:?}",
        output.unfinished
    );
    // Of a console anything may be left.
    let console = String::from_utf8_lossy(&std::fs::read(console)?).into_owned();
    let reports = read(&top.join("tests/kernel-reports"))?;
    let reports = reports
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let reports = RegexSet::new(reports).context("tests/kernel-reports")?;
    let is_report = |line: &str| reports.is_match(line);
    let woven = work.woven()?;
    let mut verdicts = output.verdicts;
    if let Some((number, doing)) = output.unfinished {
        let verdict = guest::died(number, &doing, &console, is_report);
        let of = woven.iter().find(|woven| woven.number == number);
        let of = of.context("a guest told of a mutant that is not woven")?;
        let text = of.candidate.describe();
        // A machine that stands still looks the same, so that is tried again.
        if verdict.what == guest::HUNG && work.hangs_anew(&of.candidate.id)? {
            println!("# the guest hung, or was held up: mutant {number} is tried again: {text}");
        } else {
            println!(
                "# mutant {number}: noticed by {doing}, {}: {text}",
                verdict.what
            );
            verdicts.push(verdict);
        }
    }
    if let Some(why) = output.last {
        println!("# the guest ends: {why}");
    }
    println!("{}", verdicts.len());
    work.add_results(verdicts, &woven)
}

fn write_report(
    top: &Path,
    work: &Work<'_>,
    (mutants, seed): (usize, u64),
    table: &Path,
) -> Result<()> {
    let reasons = read(&top.join("tests/mutants/equivalent.toml"))?;
    let reasons: BTreeMap<String, String> =
        toml::from_str(&reasons).context("tests/mutants/equivalent.toml")?;
    report::check_reasons(&reasons, &candidates(top)?)?;
    let all: Vec<_> = work.woven()?.into_iter().map(|w| w.candidate).collect();
    let wanted: HashSet<&str> = pick::order(&all, seed)
        .into_iter()
        .take(mutants)
        .map(|candidate| &*candidate.id)
        .collect();
    let mut tried = work.results()?;
    tried.retain(|tried| wanted.contains(&*tried.candidate.id));
    ensure!(
        tried.len() == wanted.len(),
        "{} of {} mutants were tried",
        tried.len(),
        wanted.len()
    );
    write(table, &report::markdown(&tried, &reasons, seed)?)?;
    let figures = report::figures(&tried, &reasons);
    let survivors = tried
        .iter()
        .filter(|t| !t.verdict.noticed && !reasons.contains_key(&t.candidate.id));
    for tried in survivors {
        println!(
            "survived ({}): {} {}",
            tried.verdict.what,
            tried.candidate.id,
            tried.candidate.describe()
        );
    }
    println!(
        "{} tried, {} noticed, {} equivalent: {:.0} % of the others noticed",
        figures.tried,
        figures.noticed,
        figures.explained,
        figures.share()
    );
    Ok(())
}

fn run(cli: Cli) -> Result<()> {
    let (top, work) = (&*cli.top, &Work(&cli.work));
    match cli.command {
        Command::List { json } => list(top, json),
        Command::Weave => weave_tree(top, work),
        Command::Blame { log } => blame_log(work, &log),
        Command::Reach { output } => reach(work, &output),
        Command::Plan {
            mutants,
            seed,
            guest,
            guests,
            plan: to,
        } => plan(work, (mutants, seed), (guest, guests), &to),
        Command::Collect { output, console } => collect(top, work, &output, &console),
        Command::Report {
            mutants,
            seed,
            table,
        } => write_report(top, work, (mutants, seed), &table),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::FAILURE
        }
    }
}
