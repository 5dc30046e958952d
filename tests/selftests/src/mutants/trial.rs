// SPDX-License-Identifier: GPL-2.0

//! One mutant, until something notices it.

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

/// The most seconds for a case while nothing is known of it.
pub const LIMIT: u64 = 60;

/// How many times longer than usual anything takes on a machine that is too busy to tell what hangs. One
/// processor that a mutant keeps busy makes it two.
const SLOW: f64 = 4.0;

/// Seconds for some work that takes nothing but a processor.
pub fn spin() -> f64 {
    let start = Instant::now();
    let sum = (0..20_000_000u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
    std::hint::black_box(sum);
    start.elapsed().as_secs_f64()
}

/// What noticed a mutant, and what it said.
struct Noticed {
    by: String,
    what: String,
    /// It holds what is not to be waited for.
    is_stuck: bool,
}

/// Tries a mutant and prints what came of it. Gives the reason if the next one needs another boot.
pub fn run(module: &Module, entry: &Entry, seconds: u64, usual: f64) -> Result<Option<String>> {
    let start = Instant::now();
    let number = entry.number;
    kmsg::mark(&format!("mutant {number} begins"));
    println!("# progress: mutant {number}, {}", entry.text);
    let mut whole = Kmsg::open().context("the kernel's log cannot be read")?;
    activate(number)?;
    // What fails from here on is the mutant's fault.
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
    // Whoever is not there any more must not be asked for memory. With 2: what the slabs' owners can give back.
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
    // What is freed later is complained of later.
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
    // lockdep, and what warns once, say nothing more after a report.
    Ok(match (gone, complaints.is_empty()) {
        (Err(error), _) => Some(format!("the module cannot be unloaded: {error:#}")),
        (Ok(()), false) => Some("the kernel has complained".into()),
        (Ok(()), true) => None,
    })
}

/// What the plan has, in its order.
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
    // While the ledger is off: one of them is about that.
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
    // It writes to the module.
    drop(ledger);
    None
}

fn one_case(name: &str, limit: u64, log: &mut Kmsg) -> Result<()> {
    let limit = Duration::from_secs(limit);
    let (outcome, remarks) =
        test::run_case(cases::named(name)?, Driver::Rust, limit, Some(log), false)?;
    match outcome {
        Outcome::Pass => Ok(()),
        // It passes without a mutant; why it fails is the last remark.
        Outcome::Fail => bail!("{}", remarks.trim().lines().next_back().unwrap_or("failed")),
        Outcome::Timeout(why) => bail!(Stuck(format!("timeout {why}"))),
        other => bail!("{other:?}"),
    }
}

/// The stress in a process of its own, which has the module to itself.
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

/// What looked at a survivor.
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
