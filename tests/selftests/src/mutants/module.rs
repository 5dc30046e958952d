// SPDX-License-Identifier: GPL-2.0

//! The woven module, and the one that says which mutant is active: `dmirror_mutant`, loaded before.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};

use crate::proc::kmsg::{self, Kmsg};

const ACTIVE: &str = "/sys/module/dmirror_mutant/parameters/active";
const REACHED: &str = "/sys/kernel/debug/dmirror_mutant_reached";
/// Which KUnit suites run when a module is loaded.
const SUITES: &str = "/sys/module/kunit/parameters/filter_glob";
/// Seconds that KUnit gives a case, 300 otherwise.
const KUNIT_TIMEOUT: &str = "/sys/module/kunit/parameters/timeout";

/// How long the module may take to load, with all suites.
const LOADS_IN: Duration = Duration::from_secs(90);
/// How long to go: at once, unless a page was leaked, for which it waits for ever.
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
        fs::write(SUITES, "none").context("this kernel has no KUnit")?;
        let _ = fs::write(KUNIT_TIMEOUT, "20");
        Ok(Module {
            path: path.into(),
            name: name.to_string_lossy().into_owned(),
            parameters: parameters.split_whitespace().map(String::from).collect(),
        })
    }

    /// Loads it, with its KUnit suites or without; what failed is the error. Gives the log since.
    pub fn load(&self, with_kunit: bool) -> Result<Kmsg> {
        let suites = if with_kunit { "*" } else { "none" };
        fs::write(SUITES, suites).context(SUITES)?;
        let mut log = Kmsg::open().context("the kernel's log cannot be read")?;
        let insmod = Command::new("insmod")
            .arg(&self.path)
            .args(&self.parameters)
            .stdin(Stdio::null())
            .spawn()
            .context("insmod")?;
        let status = wait(insmod, LOADS_IN).context("insmod")?;
        let lines = log.lines();
        if let Some(line) = lines.iter().find(|line| kmsg::complains(line)) {
            bail!("the kernel says: {line}");
        }
        // Suites stand behind their cases, of which one says what is wrong.
        if let Some(line) = lines.iter().find(|line| line.trim().starts_with("not ok ")) {
            bail!("{}", line.trim());
        }
        ensure!(status.success(), "insmod: {status}");
        ensure!(
            !with_kunit || lines.iter().any(|line| line.starts_with("ok ")),
            "no suite ran"
        );
        Ok(log)
    }

    pub fn is_loaded(&self) -> bool {
        Path::new("/sys/module").join(&self.name).exists()
    }

    /// Unloads it, if it is loaded.
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

/// Makes a mutant the active one; 0 is none.
pub fn activate(number: usize) -> Result<()> {
    fs::write(ACTIVE, number.to_string()).context(ACTIVE)
}

/// Forgets which mutants were reached.
pub fn forget_reached() -> Result<()> {
    fs::write(REACHED, "0").context(REACHED)
}

/// Which mutants were reached.
pub fn reached() -> Result<Vec<usize>> {
    let all = fs::read(REACHED).context(REACHED)?;
    let numbers = all.iter().enumerate();
    Ok(numbers
        .filter(|(_, seen)| **seen != 0)
        .map(|(n, _)| n)
        .collect())
}

/// Waits for a process, which is killed if that takes too long; what cannot be killed stays.
pub fn wait(mut child: Child, limit: Duration) -> Result<ExitStatus> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    bail!("did not end in {} s", limit.as_secs())
}
