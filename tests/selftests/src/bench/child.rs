// SPDX-License-Identifier: GPL-2.0

//! The child processes that measure.
//!
//! A driver mirrors the whole address space of the process that opens it. Therefore no process opens both drivers,
//! and each measurement runs in a process without the memory of other measurements.

use std::{
    fs::File,
    io::{Read, Write},
    panic::{self, AssertUnwindSafe},
};

use anyhow::{anyhow, ensure, Context, Result};
use nix::{
    libc,
    sys::wait::{waitpid, WaitStatus},
    unistd::{alarm, fork, ForkResult, Pid},
};

use super::record::Row;
use crate::test::pipe;

/// The results of a child: samples in nanoseconds for each of its rows.
pub type Series = Vec<(Row, Vec<u64>)>;

/// The time limit of a child, in seconds; chosen to be enough for 1 GiB under emulation.
const LIMIT: u32 = 240;

const DONE: i32 = 0;
const FAILED: i32 = 1;

/// Calls `measure` in a child, and returns its result.
pub fn run(measure: impl FnOnce() -> Result<Series>) -> Result<Series> {
    let (mut output, input) = pipe()?;
    let child = spawn(move || {
        let found = measure().map_err(|error| format!("{error:#}"));
        let mut input = input;
        input.write_all(&serde_json::to_vec(&found)?)?;
        Ok(())
    })?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    wait(child)?;
    let found: Result<Series, String> =
        serde_json::from_slice(&bytes).context("what the child said")?;
    found.map_err(|error| anyhow!(error))
}

/// Forks a child that calls `work` and exits. The parent drops what `work` has captured.
fn spawn(work: impl FnOnce() -> Result<()>) -> Result<Pid> {
    // SAFETY: this program has one thread when it measures.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            alarm::set(LIMIT);
            let code = match panic::catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(())) => DONE,
                Ok(Err(error)) => {
                    eprintln!("# {error:#}");
                    FAILED
                }
                Err(_) => FAILED,
            };
            // SAFETY: ends this process at once, without the exit handlers of the parent.
            unsafe { libc::_exit(code) }
        }
    }
}

fn wait(child: Pid) -> Result<()> {
    let status = waitpid(child, None).context("waitpid")?;
    ensure!(
        matches!(status, WaitStatus::Exited(_, DONE)),
        "the child ended badly: {status:?}"
    );
    Ok(())
}

const QUIT: u8 = b'q';

/// A process that assists the measuring one. It handles requests, and answers each with two numbers.
pub struct Helper {
    child: Pid,
    requests: File,
    answers: File,
}

impl Helper {
    /// Starts a helper, which calls `prepare` once, then `serve` for each request.
    ///
    /// An error of either ends the helper. The caller then gets an error from its next request or answer.
    pub fn start<S>(
        prepare: impl FnOnce() -> Result<S>,
        mut serve: impl FnMut(&mut S, u8) -> Result<[u64; 2]>,
    ) -> Result<Helper> {
        let (mut input, requests) = pipe()?;
        let (answers, mut output) = pipe()?;
        let child = spawn(move || {
            let mut state = prepare()?;
            let mut request = [0];
            loop {
                input.read_exact(&mut request)?;
                if request[0] == QUIT {
                    return Ok(());
                }
                let [first, second] = serve(&mut state, request[0])?;
                output.write_all(&first.to_ne_bytes())?;
                output.write_all(&second.to_ne_bytes())?;
            }
        })?;
        Ok(Helper {
            child,
            requests,
            answers,
        })
    }

    pub fn ask(&mut self, request: u8) -> Result<()> {
        self.requests
            .write_all(&[request])
            .context("a helper is gone")
    }

    pub fn answer(&mut self) -> Result<[u64; 2]> {
        let mut numbers = [[0; 8]; 2];
        for number in &mut numbers {
            self.answers
                .read_exact(number)
                .context("a helper is gone")?;
        }
        Ok(numbers.map(u64::from_ne_bytes))
    }

    pub fn call(&mut self, request: u8) -> Result<[u64; 2]> {
        self.ask(request)?;
        self.answer()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Closing the pipe is not enough: helpers that were started later have inherited this end of it.
        let _ = self.requests.write_all(&[QUIT]);
        let _ = waitpid(self.child, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::{Pages, What};

    #[test]
    fn what_a_child_finds_or_says_comes_back() {
        let row = Row::new(What::ToDevice, Pages::Huge, 1);
        let found = run(|| Ok(vec![(row, vec![1, 2])])).unwrap();
        assert_eq!(found, [(row, vec![1, 2])]);
        let error = run(|| Err(anyhow!("ENOENT"))).unwrap_err();
        assert_eq!(format!("{error}"), "ENOENT");
        assert!(run(|| panic!("as it must")).is_err());
    }

    #[test]
    fn helpers_answer_and_end_in_any_order() {
        let start = |add| {
            Helper::start(
                move || Ok(add),
                |state: &mut u64, request| {
                    *state += 1;
                    Ok([*state, request.into()])
                },
            )
            .unwrap()
        };
        let (mut one, mut other) = (start(1), start(10));
        assert_eq!(one.call(b'x').unwrap(), [2, b'x'.into()]);
        other.ask(b'y').unwrap();
        assert_eq!(one.call(b'x').unwrap()[0], 3);
        drop(one);
        assert_eq!(other.answer().unwrap()[0], 11);
    }
}
