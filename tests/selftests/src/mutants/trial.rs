// SPDX-License-Identifier: GPL-2.0

//! Tests one mutant until something notices it.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail, Context, Result};

use super::{
    cases,
    module::{activate, suite, wait, Module, Stuck},
    plan::{Entry, Event},
};
use crate::{
    device::Driver,
    ledger::Ledger,
    proc::kmsg::{self, Kmsg},
    test::{self, ktap::Outcome},
};

/// The time limit for a suite or a case whose usual time is not known yet, in seconds.
pub const LIMIT: u64 = 60;

/// If [`spin`] takes this many times longer than usual, the machine is too busy to tell what hangs. A mutant that keeps
/// one CPU busy makes it take twice as long.
const SLOW: f64 = 4.0;

/// Returns the seconds that a fixed piece of work takes, which needs only a CPU.
pub fn spin() -> f64 {
    let start = Instant::now();
    let sum = (0..20_000_000u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
    std::hint::black_box(sum);
    start.elapsed().as_secs_f64()
}

/// The part that noticed a mutant, and its message.
struct Noticed {
    by: String,
    what: String,
    /// Whether the part did not end in time. What it holds must not be waited for.
    is_stuck: bool,
}

/// Tests a mutant and prints the verdict. Returns the reason if the next mutant needs another boot.
pub fn run(module: &Module, entry: &Entry, seconds: u64, usual: f64) -> Result<Option<String>> {
    let start = Instant::now();
    let number = entry.number;
    kmsg::mark(&format!("mutant {number} begins"));
    println!("# progress: mutant {number}, {}", entry.text);
    let mut whole = Kmsg::open().context("the kernel's log cannot be read")?;
    activate(number)?;
    // From here on, a failure is caused by the mutant.
    Event::Begin(number).print();
    let mut noticed = attempt(module, entry, seconds);
    let gone = match noticed.as_ref().filter(|noticed| noticed.is_stuck) {
        Some(_) => Err(anyhow!("something is stuck")),
        None => {
            doing("unload");
            module.unload()
        }
    };
    activate(0)?;
    // The module is gone, so the kernel must not call its shrinker any more. A 2 makes the kernel call all shrinkers.
    if gone.is_ok() {
        let _ = fs::write("/proc/sys/vm/drop_caches", "2");
    }
    let is_stuck = match (&noticed, &gone) {
        (Some(noticed), _) => noticed.is_stuck,
        (None, Err(error)) => error.downcast_ref::<Stuck>().is_some(),
        (None, Ok(())) => false,
    };
    if is_stuck && spin() > SLOW * usual {
        println!(
            "# mutant {number} is tried again, the machine is too busy: {}",
            entry.text
        );
        Event::Unsure(number).print();
        return Ok(Some("the machine is too busy".into()));
    }
    // What is freed with a delay is also reported with a delay.
    sleep(Duration::from_millis(100));
    let complaints = whole.complaints();
    if noticed.is_none() {
        let what = match (&gone, complaints.first()) {
            (_, Some(line)) => Some(format!("the kernel says: {line}")),
            (Err(error), None) => Some(format!("{error:#}")),
            (Ok(()), None) => None,
        };
        noticed = what.map(|what| Noticed {
            by: "unload".into(),
            what,
            is_stuck: false,
        });
    }
    let taken = start.elapsed().as_secs_f64();
    let (by, what) = match &noticed {
        Some(noticed) => (noticed.by.clone(), first_line(&noticed.what)),
        None => (String::new(), parts(entry)),
    };
    let said = match &noticed {
        Some(_) => format!("noticed by {by}, {what}"),
        None => format!("SURVIVED {what}"),
    };
    println!("# mutant {number}: {said} ({taken:.1} s): {}", entry.text);
    Event::Verdict {
        number,
        noticed: noticed.is_some(),
        by: &by,
        what: &what,
        seconds: taken,
    }
    .print();
    // After a report, lockdep and warnings that are logged once are silent.
    Ok(match (gone, complaints.is_empty()) {
        (Err(error), _) => Some(format!("the module cannot be unloaded: {error:#}")),
        (Ok(()), false) => Some("the kernel has complained".into()),
        (Ok(()), true) => None,
    })
}

/// Runs the parts of the plan in its order, until one notices the mutant.
fn attempt(module: &Module, entry: &Entry, seconds: u64) -> Option<Noticed> {
    let noticed = |by: &str, error: anyhow::Error| {
        Some(Noticed {
            by: by.into(),
            what: format!("{error:#}"),
            is_stuck: error.downcast_ref::<Stuck>().is_some(),
        })
    };
    doing("load");
    let mut log = match module.load() {
        Ok(log) => log,
        Err(error) => return noticed("load", error),
    };
    // Before the ledger is enabled: one suite measures its cost while it is off.
    for planned in &entry.suites {
        let by = format!("kunit {}", planned.name);
        doing(&by);
        let limit = Duration::from_secs(planned.limit);
        if let Err(error) = suite(&planned.name, limit, &mut log) {
            return noticed(&by, error);
        }
    }
    let ledger = match Ledger::enable() {
        Ok(ledger) => ledger,
        Err(error) => return noticed("load", error),
    };
    for planned in &entry.cases {
        let by = format!("case {}", planned.name);
        doing(&by);
        if let Err(error) = one_case(&planned.name, planned.limit, &mut log) {
            return noticed(&by, error);
        }
    }
    if entry.stress {
        doing("stress");
        if let Err(error) = stress(seconds) {
            return noticed("stress", error);
        }
    }
    // Dropping it writes to the module, which must still be loaded.
    drop(ledger);
    None
}

fn one_case(name: &str, limit: u64, log: &mut Kmsg) -> Result<()> {
    let limit = Duration::from_secs(limit);
    let (outcome, remarks) =
        test::run_case(cases::named(name)?, Driver::Rust, limit, Some(log), false)?;
    match outcome {
        Outcome::Pass => Ok(()),
        // The case passes without a mutant.
        Outcome::Fail => bail!("{}", reason(&remarks)),
        Outcome::Timeout(why) => bail!(Stuck(format!("timeout {why}"))),
        other => bail!("{other:?}"),
    }
}

/// Returns the last line of the remarks on a failed case that says why it failed.
fn reason(remarks: &str) -> &str {
    let about = |line: &&str| line.starts_with("exit status ") || line.starts_with("took ");
    let mut lines = remarks.lines().filter(|line| !about(line));
    lines.next_back().unwrap_or("failed")
}

/// Runs the stress in its own process. Nothing else uses the module meanwhile.
pub fn stress(seconds: u64) -> Result<()> {
    let mut child = Command::new("/proc/self/exe")
        .args(["stress", "--seed", "1", "--seconds", &seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("stress")?;
    let mut output = child.stdout.take().context("stress")?;
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = output.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = wait(child, Duration::from_secs(2 * seconds + 60))?;
    if status.success() {
        return Ok(());
    }
    let text = reader.join().unwrap_or_default();
    match text.lines().find(|line| line.starts_with("not ok")) {
        Some(line) => bail!("{line}"),
        None => bail!("{status}"),
    }
}

fn doing(what: &str) {
    Event::Doing(what).print();
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_string()
}

/// Returns a text that names the parts that a survivor was tested by.
fn parts(entry: &Entry) -> String {
    let cases = match entry.cases.as_slice() {
        [] => String::new(),
        [one] => format!(" {}", one.name),
        [one, .., last] => format!(
            " {} cases, {} to {}",
            entry.cases.len(),
            one.name,
            last.name
        ),
    };
    let suites = match entry.suites.len() {
        0 => String::new(),
        nr => format!(" {nr} suites"),
    };
    let stress = if entry.stress { " stress" } else { "" };
    format!("load{suites}{cases}{stress}")
}
