// SPDX-License-Identifier: GPL-2.0

//! Loads, unloads and tests the woven module, and selects its active mutant by the module `dmirror_mutant`, which must
//! be loaded before.

use std::{
    error::Error,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};

use crate::proc::kmsg::{self, Kmsg};

const ACTIVE: &str = "/sys/module/dmirror_mutant/parameters/active";
const REACHED: &str = "/sys/kernel/debug/dmirror_mutant_reached";
/// The KUnit suites that are loaded. With `kunit.autorun=0` on the kernel's command line, they do not run when they are
/// loaded, but only on request.
const SUITES: &str = "/sys/kernel/debug/kunit";
/// The time limit of KUnit for a case, in seconds; the default is 300.
const KUNIT_TIMEOUT: &str = "/sys/module/kunit/parameters/timeout";

/// The time limit for loading the module.
const LOADS_IN: Duration = Duration::from_secs(30);
/// The time limit for unloading it. If a page was leaked, unloading waits for it for ever; otherwise it takes no time.
const UNLOADS_IN: Duration = Duration::from_secs(5);

pub struct Module {
    path: PathBuf,
    name: String,
    parameters: Vec<String>,
}

impl Module {
    pub fn new(path: &Path, parameters: &str) -> Result<Module> {
        ensure!(
            Path::new(REACHED).exists(),
            "no {REACHED}: insmod dmirror_mutant.ko first"
        );
        let name = path.file_stem().context("the module has no name")?;
        ensure!(Path::new(SUITES).exists(), "this kernel has no KUnit");
        let _ = fs::write(KUNIT_TIMEOUT, "20");
        Ok(Module {
            path: path.into(),
            name: name.to_string_lossy().into_owned(),
            parameters: parameters.split_whitespace().map(String::from).collect(),
        })
    }

    /// Loads it. Returns a reader of the kernel log, which has read everything up to now.
    ///
    /// # Errors
    ///
    /// Fails if the module cannot be loaded, or if there is a kernel report meanwhile.
    pub fn load(&self) -> Result<Kmsg> {
        let mut log = Kmsg::open().context("the kernel's log cannot be read")?;
        let insmod = Command::new("insmod")
            .arg(&self.path)
            .args(&self.parameters)
            .stdin(Stdio::null())
            .spawn()
            .context("insmod")?;
        let status = wait(insmod, LOADS_IN).context("insmod")?;
        ensure_quiet(&log.lines())?;
        ensure!(status.success(), "insmod: {status}");
        Ok(log)
    }

    /// Returns the KUnit suites of the loaded module.
    pub fn suites(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(SUITES).context(SUITES)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(&format!("{}_", self.name)) {
                all.push(name);
            }
        }
        all.sort();
        Ok(all)
    }

    pub fn is_loaded(&self) -> bool {
        Path::new("/sys/module").join(&self.name).exists()
    }

    /// Unloads it if it is loaded.
    pub fn unload(&self) -> Result<()> {
        if !self.is_loaded() {
            return Ok(());
        }
        let rmmod = Command::new("rmmod").arg(&self.name).spawn();
        let status = wait(rmmod.context("rmmod")?, UNLOADS_IN).context("rmmod")?;
        ensure!(status.success(), "rmmod: {status}");
        Ok(())
    }
}

/// Runs a KUnit suite of the loaded module.
///
/// # Errors
///
/// Fails if a case fails, if the suite does not run or takes too long, or if there is a kernel report meanwhile.
pub fn suite(name: &str, limit: Duration, log: &mut Kmsg) -> Result<()> {
    let run = Path::new(SUITES).join(name).join("run");
    // In its own process, which can be abandoned if the suite hangs.
    let run = Command::new("sh")
        .args(["-c", "echo 1 >\"$0\""])
        .arg(run)
        .spawn();
    let status = wait(run.context("sh")?, limit).context("the suite")?;
    let lines = log.lines();
    ensure_quiet(&lines)?;
    // The result of a suite comes after those of its cases. The first failure tells more.
    if let Some(line) = lines.iter().find(|line| line.trim().starts_with("not ok ")) {
        bail!("{}", line.trim());
    }
    ensure!(status.success(), "sh: {status}");
    let is_done = |line: &String| line.starts_with("ok ") && line.ends_with(&format!(" {name}"));
    ensure!(lines.iter().any(is_done), "the suite did not run");
    Ok(())
}

fn ensure_quiet(lines: &[String]) -> Result<()> {
    match lines.iter().find(|line| kmsg::complains(line)) {
        Some(line) => bail!("the kernel says: {line}"),
        None => Ok(()),
    }
}

/// Activates a mutant, given by its number; 0 activates none.
pub fn activate(number: usize) -> Result<()> {
    fs::write(ACTIVE, number.to_string()).context(ACTIVE)
}

/// Clears the record of reached mutants.
pub fn forget_reached() -> Result<()> {
    fs::write(REACHED, "0").context(REACHED)
}

/// Returns the numbers of the mutants that were reached.
pub fn reached() -> Result<Vec<usize>> {
    let all = fs::read(REACHED).context(REACHED)?;
    let numbers = all.iter().enumerate();
    Ok(numbers
        .filter(|(_, seen)| **seen != 0)
        .map(|(n, _)| n)
        .collect())
}

/// The error if something did not end in time. It may still hold locks, references and pages.
#[derive(Debug)]
pub struct Stuck(pub String);

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Stuck {}

/// Waits for the end of a process. After the time limit, kills it and fails with [`Stuck`], without waiting any longer.
pub fn wait(mut child: Child, limit: Duration) -> Result<ExitStatus> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    bail!(Stuck(format!("did not end in {} s", limit.as_secs())))
}
