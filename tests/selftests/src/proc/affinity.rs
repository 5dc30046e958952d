// SPDX-License-Identifier: GPL-2.0

//! The CPUs on which a thread may run, and its scheduling policy.

use std::mem::zeroed;

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    libc,
    sched::{sched_getaffinity, sched_getcpu, sched_setaffinity, CpuSet},
    unistd::Pid,
};

/// Pins this thread to its present CPU. Dropping it restores the thread's CPU mask.
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

/// Gives this thread a real-time policy (`SCHED_FIFO`), so that it runs before all threads that have none. Dropping it
/// sets `SCHED_OTHER`.
pub struct First;

impl First {
    pub fn here() -> Result<First> {
        First::set(libc::SCHED_FIFO, 1).context("sched_setscheduler")?;
        Ok(First)
    }

    fn set(policy: i32, priority: i32) -> Result<(), Errno> {
        // SAFETY: All zeroes are a valid value of it.
        let mut param: libc::sched_param = unsafe { zeroed() };
        param.sched_priority = priority;
        // SAFETY: The kernel only reads the structure.
        Errno::result(unsafe { libc::sched_setscheduler(0, policy, &param) }).map(drop)
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let _ = First::set(libc::SCHED_OTHER, 0);
    }
}
