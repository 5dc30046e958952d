// SPDX-License-Identifier: GPL-2.0

//! Watches the stressed process from outside: its progress, hangs and end, kernel reports, and the ledger.

use std::{
    fs,
    io::Write,
    sync::atomic::Ordering::Relaxed,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::{
        signal::{killpg, Signal},
        wait::{waitpid, WaitPidFlag, WaitStatus},
    },
    unistd::Pid,
};

use super::{board::Board, worker::Job};
use crate::{ledger::Ledger, proc::kmsg::Kmsg, test::ktap::Ktap};

/// The interval at which progress is shown.
const BEAT: Duration = Duration::from_secs(5);
/// The time after which an operation counts as hung. Under emulation, a fork that splits huge pages while others
/// wait for the same locks was seen to take seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// The time limit for the other threads after a failure, and for the final checks after the threads.
const GRACE: Duration = Duration::from_secs(60);

/// The observations.
#[derive(Default)]
pub struct Seen {
    /// Why the process failed.
    pub end: Option<String>,
    /// What the kernel complained of.
    pub complaints: Vec<String>,
    /// References that were missing.
    pub deficits: Vec<String>,
    pub took: Duration,
    /// Where the threads of a process that hangs are, if the kernel tells.
    pub stacks: Vec<String>,
}

/// When each thread began its present operation, as far as can be seen from here.
struct Pulse {
    begun: Vec<(u64, Instant)>,
}

impl Pulse {
    /// The thread that has been at the same operation for too long.
    fn stuck(&mut self, board: &Board) -> Option<usize> {
        let mut stuck = None;
        for (thread, (last, since)) in self.begun.iter_mut().enumerate() {
            let now = board.lanes[thread].begun.load(Relaxed);
            if now != *last {
                (*last, *since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                stuck = stuck.or(Some(thread));
            }
        }
        stuck
    }
}

fn stacks(pid: Pid) -> Vec<String> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| {
            let stack = fs::read_to_string(task.path().join("stack")).ok()?;
            Some(format!(
                "task {}:\n{stack}",
                task.file_name().to_string_lossy()
            ))
        })
        .collect()
}

/// Watches until the process has ended.
pub fn watch<W: Write>(
    board: &Board,
    pid: Pid,
    job: &Job,
    mut log: Option<&mut Kmsg>,
    ledger: Option<&Ledger>,
    ktap: &mut Ktap<W>,
) -> Result<Seen> {
    let start = Instant::now();
    let mut seen = Seen::default();
    let mut pulse = Pulse {
        begun: vec![(0, start); job.threads],
    };
    let mut beat = start;
    let mut overdue = None;
    let mut last = 0;
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)).context("waitpid")? {
            WaitStatus::StillAlive => {}
            WaitStatus::Exited(_, 0) => break,
            status => {
                seen.end = Some(format!("the stressed process ended with {status:?}"));
                break;
            }
        }
        let ended = board.ended.load(Relaxed) as usize;
        if ended == job.threads || board.stop.load(Relaxed) {
            let since = *overdue.get_or_insert_with(Instant::now);
            if since.elapsed() > GRACE {
                board.fail(format_args!(
                    "the stressed process does not come to its end"
                ));
                seen.stacks = stacks(pid);
                let _ = killpg(pid, Signal::SIGKILL);
            }
            if since.elapsed() > 2 * GRACE {
                seen.end = Some("the stressed process cannot be killed".into());
                break;
            }
        } else if let Some(thread) = pulse.stuck(board) {
            board.fail(format_args!(
                "thread {thread} has not got any further for {} s",
                PATIENCE.as_secs()
            ));
            seen.stacks = stacks(pid);
        }
        sleep(Duration::from_millis(100));
        if beat.elapsed() < BEAT {
            continue;
        }
        beat = Instant::now();
        let begun = board.begun();
        ktap.diagnostic(&format!(
            "{:4} s: {begun} operations, {} a second, {} pages moved, {} values compared",
            start.elapsed().as_secs(),
            (begun - last) / BEAT.as_secs(),
            board.moved.load(Relaxed),
            board.compared.load(Relaxed),
        ))?;
        last = begun;
        listen(board, &mut log, ledger, &mut seen);
    }
    // What the process started must not outlive it.
    let _ = killpg(pid, Signal::SIGKILL);
    seen.took = start.elapsed();
    listen(board, &mut log, ledger, &mut seen);
    Ok(seen)
}

/// The ledger keeps its last records only, so that these are a sample; what it counts is all.
fn listen(board: &Board, log: &mut Option<&mut Kmsg>, ledger: Option<&Ledger>, seen: &mut Seen) {
    let complaints = log.as_mut().map(|log| log.complaints()).unwrap_or_default();
    if let Some(first) = complaints.first() {
        board.fail(format_args!("the kernel says: {first}"));
    }
    seen.complaints.extend(complaints);
    let missing = match ledger.map(Ledger::too_low) {
        None | Some(Ok(0)) => return,
        Some(Ok(count)) => format!("{count} counts were too low"),
        Some(Err(error)) => format!("{error:#}"),
    };
    if seen.deficits.is_empty() {
        board.fail(format_args!("the ledger: {missing}"));
        seen.deficits.push(missing);
    }
    let records = ledger.and_then(|ledger| ledger.records().ok());
    let short = records
        .into_iter()
        .flatten()
        .filter(|r| !r.matches && r.surplus < 0);
    for line in short.map(|record| record.columns.join(" ")) {
        if !seen.deficits.contains(&line) && seen.deficits.len() < 8 {
            seen.deficits.push(line);
        }
    }
}
