// SPDX-License-Identifier: GPL-2.0

//! Frees the memory of a process that was killed, as the OOM reaper does: `process_mrelease()`.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    libc,
    sys::signal::{kill, Signal},
    unistd::Pid,
};

/// A process, also when its number is another's.
pub struct Victim {
    pid: Pid,
    fd: OwnedFd,
}

impl Victim {
    pub fn new(pid: Pid) -> Result<Victim> {
        // SAFETY: It takes two numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let fd = Errno::result(fd).context("pidfd_open")?;
        // SAFETY: The descriptor is new, and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(Victim { pid, fd })
    }

    pub fn kill(&self) -> Result<()> {
        kill(self.pid, Signal::SIGKILL).context("kill")
    }

    /// Fails with `EAGAIN` where a lock was held, and with `ESRCH` when the memory is gone already.
    pub fn reap(&self) -> Result<(), Errno> {
        // SAFETY: It takes two numbers.
        let done = unsafe { libc::syscall(libc::SYS_process_mrelease, self.fd.as_raw_fd(), 0) };
        Errno::result(done).map(drop)
    }
}
