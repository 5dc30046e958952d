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

/// A process to kill, identified by a pidfd, which stays valid if its process ID is reused.
pub struct Victim {
    pid: Pid,
    fd: OwnedFd,
}

impl Victim {
    pub fn new(pid: Pid) -> Result<Victim> {
        // SAFETY: It takes two numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let fd = Errno::result(fd).context("pidfd_open")?;
        // SAFETY: The descriptor is new, and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(Victim { pid, fd })
    }

    pub fn kill(&self) -> Result<()> {
        kill(self.pid, Signal::SIGKILL).context("kill")
    }

    /// Frees the memory of the process.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if a lock was held; `ESRCH` if the memory is freed already.
    pub fn reap(&self) -> Result<(), Errno> {
        // SAFETY: It takes two numbers.
        let done = unsafe { libc::syscall(libc::SYS_process_mrelease, self.fd.as_raw_fd(), 0) };
        Errno::result(done).map(drop)
    }
}
