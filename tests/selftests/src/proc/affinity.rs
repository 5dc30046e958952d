// SPDX-License-Identifier: GPL-2.0

//! The CPUs that a thread may run on.

use anyhow::{Context, Result};
use nix::{
    sched::{sched_getaffinity, sched_getcpu, sched_setaffinity, CpuSet},
    unistd::Pid,
};

/// Keeps this thread on the CPU that it is on.
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    pub fn here() -> Result<Pinned> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).context("sched_getaffinity")?;
        let mut cpus = CpuSet::new();
        cpus.set(sched_getcpu().context("getcpu")?)?;
        sched_setaffinity(this, &cpus).context("sched_setaffinity")?;
        Ok(Pinned { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}
