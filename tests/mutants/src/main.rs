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
mod logic;
mod pick;
mod report;
mod text;
mod weave;
mod work;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{bail, ensure, Context, Result};
use clap::{Args, Parser, Subcommand};
use regex::RegexSet;

use candidate::Candidate;
use find::tree::candidates;
use guest::{Picked, Reached, Share};
use report::Tried;
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
    /// The file of results, in there
    #[arg(long, default_value = "results.jsonl")]
    results: String,
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
    Weave {
        /// Those of the pure logic only, and its tests
        #[arg(long)]
        logic: bool,
    },
    /// Drop the mutants that the compiler's errors in a log are about
    Blame { log: PathBuf },
    /// Note what the suites reach, from the output of a guest: WORK/reach.json
    Reach { output: PathBuf },
    /// Write which cases need not be run to note that
    Known {
        /// Begin no other case after so long
        #[arg(long)]
        seconds: Option<u64>,
        to: PathBuf,
    },
    /// Try those of a sample that the tests of the pure logic compile
    Logic {
        #[command(flatten)]
        sample: Sample,
        /// The tree that was woven for them
        #[arg(long)]
        woven: PathBuf,
        /// The program that runs them
        program: PathBuf,
    },
    /// Write what a guest is to try; prints how many mutants that are
    Plan {
        #[command(flatten)]
        sample: Sample,
        /// Seconds for the cases of a mutant
        #[arg(long, default_value_t = 60.0)]
        seconds: f64,
        /// What survived that is tried by all other cases
        #[arg(long)]
        rest: bool,
        /// Which of how many guests it is for
        #[arg(long, default_value_t = 0)]
        guest: usize,
        #[arg(long, default_value_t = 1)]
        guests: usize,
        plan: PathBuf,
    },
    /// Note what became of mutants, from the output and the kernel log of a guest: WORK/results.jsonl
    Collect {
        plan: PathBuf,
        output: PathBuf,
        console: PathBuf,
    },
    /// Write the table, and print a summary
    Report {
        #[command(flatten)]
        sample: Sample,
        table: PathBuf,
    },
}

/// Which mutants.
#[derive(Args)]
struct Sample {
    /// How many
    #[arg(long, default_value_t = 300)]
    mutants: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Those with these ids, and no others
    #[arg(long, value_delimiter = ',')]
    ids: Vec<String>,
}

impl Sample {
    fn pick<'c>(&self, all: &'c [Candidate]) -> Result<Vec<&'c Candidate>> {
        if self.ids.is_empty() {
            let order = pick::order(all, self.seed);
            return Ok(order.into_iter().take(self.mutants).collect());
        }
        let find = |id: &String| {
            let of = all.iter().find(|candidate| candidate.id == *id);
            of.with_context(|| format!("no mutant {id} is woven in"))
        };
        self.ids.iter().map(find).collect()
    }
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

fn weave_tree(top: &Path, work: &Work<'_>, logic: bool) -> Result<()> {
    let dropped = work.read_dropped()?;
    let mut all = candidates(top)?;
    if logic {
        let files = logic::files(top)?;
        all.retain(|candidate| files.contains(&candidate.file));
        logic::tree(top, &work.tree())?;
    }
    let (chosen, rest): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|candidate| !dropped.contains_key(&candidate.id));
    ensure!(
        chosen.len() <= weave::MOST,
        "{} mutants are more than the {} that dmirror_mutant.c has room for",
        chosen.len(),
        weave::MOST
    );
    let woven = weave::tree(top, &work.tree(), &chosen)?;
    write(
        &work.directory.join("woven.json"),
        &serde_json::to_string(&woven)?,
    )?;
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
        "the guest ended before it had run everything: look at {}",
        output.display()
    );
    for part in reach.iter().filter(|part| !part.passed) {
        println!("not used, since it fails without a mutant: {}", part.by);
    }
    let woven = work.woven()?;
    let ids: HashMap<usize, &str> = woven.iter().map(|w| (w.number, &*w.candidate.id)).collect();
    let id = |number: &usize| ids.get(number).map(ToString::to_string);
    let mut all: BTreeMap<String, Reached> = BTreeMap::new();
    for part in work.reach()? {
        all.insert(part.by.clone(), part);
    }
    for part in reach {
        let reached = Reached {
            ids: part.reached.iter().filter_map(id).collect(),
            by: part.by,
            seconds: part.seconds,
            passed: part.passed,
        };
        all.insert(reached.by.clone(), reached);
    }
    let all: Vec<_> = all.into_values().collect();
    let reached: HashSet<&String> = all.iter().flat_map(|part| &part.ids).collect();
    let seconds: f64 = all.iter().map(|part| part.seconds).sum();
    println!(
        "{} of {} mutants are reached, by {} parts of the suites in {seconds:.0} s",
        reached.len(),
        woven.len(),
        all.len(),
    );
    work.write_reach(&all)
}

fn known(work: &Work<'_>, seconds: Option<u64>, to: &Path) -> Result<()> {
    let reach = work.reach()?;
    let passed = reach.iter().filter(|part| part.passed);
    let cases: Vec<_> = passed.filter_map(|r| r.by.strip_prefix("case ")).collect();
    let known = serde_json::json!({"cases": cases, "seconds": seconds});
    write(to, &known.to_string())
}

/// Tries what the tests of the pure logic compile; what they do not notice is left to the guests.
fn try_logic(work: &Work<'_>, sample: &Sample, there: &Path, program: &Path) -> Result<()> {
    let there = Work {
        directory: there,
        ..*work
    };
    let woven = work.woven()?;
    let numbers: HashMap<String, usize> = there
        .woven()?
        .into_iter()
        .map(|woven| (woven.candidate.id, woven.number))
        .collect();
    let all: Vec<_> = woven.iter().map(|woven| woven.candidate.clone()).collect();
    let tried: HashSet<String> = ids(work.results()?);
    let passed = work.logic_passed()?;
    if let Some(verdict) = logic::run(program, 0)? {
        bail!(
            "without a mutant the tests fail: {}, {}",
            verdict.by,
            verdict.what
        );
    }
    let mut count = (0, 0);
    for candidate in sample.pick(&all)? {
        let Some(number) = numbers.get(&candidate.id) else {
            continue;
        };
        if tried.contains(&candidate.id) || passed.contains(&candidate.id) {
            continue;
        }
        count.0 += 1;
        let Some(mut verdict) = logic::run(program, *number)? else {
            work.add_logic_passed(&candidate.id)?;
            continue;
        };
        count.1 += 1;
        let of = woven.iter().find(|w| w.candidate.id == candidate.id);
        verdict.number = of.context("a mutant that is not woven")?.number;
        println!(
            "# mutant {}: noticed by {}, {} ({:.1} s): {}",
            verdict.number,
            verdict.by,
            verdict.what,
            verdict.seconds,
            candidate.describe()
        );
        work.add_results(vec![verdict], &woven, |_| 0)?;
    }
    println!("{} tried, {} noticed", count.0, count.1);
    Ok(())
}

fn ids(tried: Vec<Tried>) -> HashSet<String> {
    tried.into_iter().map(|tried| tried.candidate.id).collect()
}

/// What is left of a sample for one of several guests.
fn plan(
    top: &Path,
    work: &Work<'_>,
    sample: &Sample,
    share: Share,
    (this, guests): (usize, usize),
    plan: &Path,
) -> Result<()> {
    let woven = work.woven()?;
    let all: Vec<_> = woven.iter().map(|woven| woven.candidate.clone()).collect();
    let mut results = work.results()?;
    // Those are not tried, or not to the end.
    let is_wanted: Box<dyn Fn(&str) -> bool> = match share {
        Share::First(_) => {
            let tried = ids(results);
            Box::new(move |id| !tried.contains(id))
        }
        Share::Rest(_) => {
            // The first minute had a chance to refute a reason.
            let reasons = reasons(top)?;
            results.retain(|tried| tried.left > 0 && !reasons.contains_key(&tried.candidate.id));
            let begun = ids(results);
            Box::new(move |id| begun.contains(id))
        }
    };
    let picked: Vec<_> = sample
        .pick(&all)?
        .into_iter()
        .enumerate()
        .filter(|(at, candidate)| at % guests == this && is_wanted(&candidate.id))
        .filter_map(|(_, candidate)| {
            let of = woven
                .iter()
                .find(|woven| woven.candidate.id == candidate.id)?;
            Some(Picked {
                number: of.number,
                id: candidate.id.clone(),
                text: candidate.describe(),
            })
        })
        .collect();
    let (entries, unreached) = guest::plan(&picked, &work.reach()?, share);
    for verdict in &unreached {
        if let Some(one) = picked.iter().find(|one| one.number == verdict.number) {
            println!(
                "# mutant {}: survived, not reached: {}",
                verdict.number, one.text
            );
        }
    }
    work.add_results(unreached, &woven, |_| 0)?;
    write(plan, &serde_json::to_string(&entries)?)?;
    println!("{}", entries.mutants.len());
    Ok(())
}

fn collect(top: &Path, work: &Work<'_>, plan: &Path, output: &Path, console: &Path) -> Result<()> {
    let (output, _) = guest::read(&read(output)?);
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
    let plan: guest::Plan = json(plan)?;
    let left = |number: usize| {
        let of = plan.mutants.iter().find(|entry| entry.number == number);
        of.map_or(0, |entry| entry.left)
    };
    work.add_results(verdicts, &woven, left)
}

/// Why no test can notice a mutant, by id.
fn reasons(top: &Path) -> Result<BTreeMap<String, String>> {
    let text = read(&top.join("tests/mutants/equivalent.toml"))?;
    toml::from_str(&text).context("tests/mutants/equivalent.toml")
}

fn write_report(top: &Path, work: &Work<'_>, sample: &Sample, table: &Path) -> Result<()> {
    let reasons = reasons(top)?;
    report::check_reasons(&reasons, &candidates(top)?)?;
    let all: Vec<_> = work.woven()?.into_iter().map(|w| w.candidate).collect();
    let wanted: HashSet<&str> = sample
        .pick(&all)?
        .into_iter()
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
    write(table, &report::markdown(&tried, &reasons, sample.seed)?)?;
    let figures = report::figures(&tried, &reasons);
    let survivors = tried
        .iter()
        .filter(|t| !t.verdict.noticed && !reasons.contains_key(&t.candidate.id));
    for tried in survivors {
        println!(
            "survived ({}): {} {}",
            report::seen(tried),
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
    let top = &*cli.top;
    let work = &Work {
        directory: &cli.work,
        results: &cli.results,
    };
    match cli.command {
        Command::List { json } => list(top, json),
        Command::Weave { logic } => weave_tree(top, work, logic),
        Command::Blame { log } => blame_log(work, &log),
        Command::Reach { output } => reach(work, &output),
        Command::Known { seconds, to } => known(work, seconds, &to),
        Command::Logic {
            sample,
            woven,
            program,
        } => try_logic(work, &sample, &woven, &program),
        Command::Plan {
            sample,
            seconds,
            rest,
            guest,
            guests,
            plan: to,
        } => {
            let share = match rest {
                true => Share::Rest(seconds),
                false => Share::First(seconds),
            };
            plan(top, work, &sample, share, (guest, guests), &to)
        }
        Command::Collect {
            plan,
            output,
            console,
        } => collect(top, work, &plan, &output, &console),
        Command::Report { sample, table } => write_report(top, work, &sample, &table),
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
