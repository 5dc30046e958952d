// SPDX-License-Identifier: GPL-2.0

//! Runs a case in its own process, so that a crash or a hang only fails this case, and so that the kernel must free
//! all its memory when it ends.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    panic::{self, AssertUnwindSafe},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    libc,
    poll::{poll, PollFd, PollFlags, PollTimeout},
    sys::{
        signal::{killpg, Signal},
        wait::{waitpid, WaitPidFlag, WaitStatus},
    },
    unistd::{self, ForkResult, Pid},
};

pub use crate::skip::Skip;

/// The time that a killed process may take to end, at most; no longer than the case itself.
const GRACE: Duration = Duration::from_secs(15);

const PASSED: i32 = 0;
const FAILED: i32 = 1;
const SKIPPED: i32 = 4;

/// How a case ended, and its output.
pub enum End {
    Passed,
    Failed(String),
    Skipped(String),
    TimedOut(String),
}

pub struct Report {
    pub end: End,
    pub output: String,
}

/// Makes a pipe: the reading and the writing end.
pub fn pipe() -> Result<(File, File)> {
    let (read, write) = unistd::pipe().context("pipe")?;
    Ok((read.into(), write.into()))
}

/// Runs `case` in a child and waits for it.
pub fn run(limit: Duration, case: impl FnOnce() -> Result<()>) -> Result<Report> {
    let (output, child_output) = pipe()?;
    io::stdout().flush()?;
    // SAFETY: this program has one thread when it starts a case.
    match unsafe { unistd::fork() }.context("fork")? {
        ForkResult::Child => {
            drop(output);
            in_child(limit, case, child_output)
        }
        ForkResult::Parent { child } => {
            drop(child_output);
            watch(child, limit, output)
        }
    }
}

/// Runs the case. Never returns, since the code after the fork is for the parent.
fn in_child(limit: Duration, case: impl FnOnce() -> Result<()>, output: File) -> ! {
    let _ = unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
    let _ = unistd::dup2_stdout(&output);
    let _ = unistd::dup2_stderr(&output);
    drop(output);
    nix::unistd::alarm::set(limit.as_secs() as u32);
    let code = match panic::catch_unwind(AssertUnwindSafe(case)) {
        Ok(Ok(())) => PASSED,
        Ok(Err(error)) => match error.downcast_ref::<Skip>() {
            Some(skip) => {
                println!("{skip}");
                SKIPPED
            }
            None => {
                println!("{error:#}");
                FAILED
            }
        },
        // The panic has printed its message to stderr.
        Err(_) => FAILED,
    };
    let _ = io::stdout().flush();
    // SAFETY: ends this process at once, without what the parent registered for its own end.
    unsafe { libc::_exit(code) }
}

/// Collects the output until the child has ended, or until some time after its limit.
fn watch(child: Pid, limit: Duration, mut output: File) -> Result<Report> {
    let grace = GRACE.min(limit);
    let overdue = Instant::now() + limit + grace;
    let mut text = Vec::new();
    let mut killed = false;
    let end = loop {
        drain(&mut output, &mut text);
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).context("waitpid")? {
            WaitStatus::Exited(_, PASSED) => break End::Passed,
            WaitStatus::Exited(_, SKIPPED) => break End::Skipped(String::new()),
            WaitStatus::Exited(_, code) => break End::Failed(format!("exit status {code}")),
            WaitStatus::Signaled(_, Signal::SIGALRM, _) => {
                break End::TimedOut(format!("after {} s", limit.as_secs()))
            }
            WaitStatus::Signaled(_, Signal::SIGKILL, _) if killed => {
                break End::TimedOut("had to be killed".into())
            }
            WaitStatus::Signaled(_, signal, _) => break End::Failed(format!("killed by {signal}")),
            _ => {}
        }
        if Instant::now() > overdue + grace {
            break End::TimedOut(format!("process {child} cannot be killed"));
        }
        if Instant::now() > overdue && !killed {
            let _ = killpg(child, Signal::SIGKILL);
            killed = true;
        }
    };
    // Kills what the case has started, too.
    let _ = killpg(child, Signal::SIGKILL);
    drain(&mut output, &mut text);
    let output = String::from_utf8_lossy(&text).into_owned();
    Ok(match end {
        // The last line is the reason for the result, the lines before it are remarks.
        End::Skipped(_) => {
            let text = output.trim_end();
            let (remarks, reason) = text.rsplit_once('\n').unwrap_or(("", text));
            Report {
                end: End::Skipped(reason.to_string()),
                output: remarks.to_string(),
            }
        }
        end => Report { end, output },
    })
}

/// Reads available output, after waiting for a moment.
fn drain(output: &mut File, text: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::from(20u8)).unwrap_or(0) > 0;
        if !ready {
            return;
        }
        match output.read(&mut buffer) {
            Ok(n) if n > 0 => text.extend(&buffer[..n]),
            // Closed by the child, which is ending or has closed its output.
            _ => {
                std::thread::sleep(Duration::from_millis(5));
                return;
            }
        }
    }
}

/// A second process of a case, which runs in steps with the first.
pub struct Peer {
    pid: Pid,
    to: File,
    from: File,
}

/// The other end of a [`Peer`].
pub struct PeerEnd {
    to: File,
    from: File,
}

impl PeerEnd {
    /// Reports that this step is done, and waits for the next one.
    pub fn next(&mut self) -> Result<()> {
        self.to
            .write_all(b".")
            .context("the first process is gone")?;
        let mut byte = [0];
        self.from
            .read_exact(&mut byte)
            .context("the first process is gone")
    }

    /// Reports that this process is running, without waiting for further steps.
    pub fn running(&mut self) -> Result<()> {
        self.to.write_all(b".").context("the first process is gone")
    }
}

impl Peer {
    /// Forks. Returns when the new process has called [`PeerEnd::next`] or has ended.
    pub fn start(body: impl FnOnce(&mut PeerEnd) -> Result<()>) -> Result<Peer> {
        let (from, child_to) = pipe()?;
        let (child_from, to) = pipe()?;
        io::stdout().flush()?;
        // SAFETY: cases fork before they start threads.
        match unsafe { unistd::fork() }.context("fork")? {
            ForkResult::Child => {
                drop((from, to));
                let mut end = PeerEnd {
                    to: child_to,
                    from: child_from,
                };
                let failed = match panic::catch_unwind(AssertUnwindSafe(|| body(&mut end))) {
                    Ok(Ok(())) => false,
                    Ok(Err(error)) => {
                        println!("in the second process: {error:#}");
                        true
                    }
                    Err(_) => true,
                };
                let _ = io::stdout().flush();
                // SAFETY: as in `in_child`.
                unsafe { libc::_exit(if failed { FAILED } else { PASSED }) }
            }
            ForkResult::Parent { child } => {
                drop((child_to, child_from));
                let mut peer = Peer {
                    pid: child,
                    to,
                    from,
                };
                peer.arrive();
                Ok(peer)
            }
        }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the other process has done its step. `finish` returns how it ended.
    fn arrive(&mut self) {
        let _ = self.from.read(&mut [0]);
    }

    /// Starts the next step of the other process.
    pub fn step(&mut self) {
        let _ = self.to.write_all(b".");
        self.arrive();
    }

    /// Waits for the end of the other process, which must be a success.
    pub fn finish(mut self) -> Result<()> {
        let _ = self.to.write_all(b".");
        match waitpid(self.pid, None).context("waitpid")? {
            WaitStatus::Exited(_, PASSED) => Ok(()),
            status => anyhow::bail!("the second process failed: {status:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// None of these print: other tests' threads may hold the lock of stdout at the fork.
    fn end(case: impl FnOnce() -> Result<()>) -> End {
        run(Duration::from_secs(1), case).unwrap().end
    }

    #[test]
    fn good_ends_are_told_from_bad_ones() {
        assert!(matches!(end(|| Ok(())), End::Passed));
        let crash = end(|| std::process::abort());
        assert!(matches!(crash, End::Failed(why) if why.contains("SIGABRT")));
        let exit = end(|| {
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(3) }
        });
        assert!(matches!(exit, End::Failed(why) if why.contains('3')));
    }

    #[test]
    fn a_hang_ends_and_takes_its_children_along() {
        let start = Instant::now();
        let hang = end(|| {
            let _peer = Peer::start(|end| end.next())?;
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        assert!(matches!(hang, End::TimedOut(_)));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
