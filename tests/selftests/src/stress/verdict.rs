// SPDX-License-Identifier: GPL-2.0

//! The result of a run, as test cases and as a table.

use std::{
    fs,
    io::Write,
    sync::atomic::Ordering::Relaxed,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};

use super::{
    board::Board,
    plan::Op,
    watch::Seen,
    worker::{self, Job},
};
use crate::{
    abi::Stats,
    device::Device,
    table,
    test::ktap::{Ktap, Outcome},
};

pub const CASES: usize = 9;

/// An operation that was tried this often without success does not work.
const OFTEN: u64 = 50;

/// With fewer tries, no swapped pages prove nothing: the pages may have been on the device.
const FEW: u64 = 10;

pub struct Verdict<'a> {
    pub board: &'a Board,
    pub job: &'a Job,
    pub seen: Seen,
    /// The counters before the run.
    pub before: Vec<Stats>,
    pub has_log: bool,
    pub has_ledger: bool,
    pub is_eager: bool,
    pub swapped_before: Option<u64>,
    pub replay: String,
}

/// The counters of both private devices, by files that are closed again.
pub fn counters() -> Result<Vec<Stats>> {
    (0..2)
        .map(|index| {
            Device::open(index)?
                .stats()
                .with_context(|| format!("counters of device {index}"))
        })
        .collect()
}

impl Verdict<'_> {
    /// Writes the results. Returns the exit code.
    pub fn report<W: Write>(self, mut ktap: Ktap<W>) -> Result<u8> {
        let board = self.board;
        ktap.diagnostic(&self.table())?;
        ktap.diagnostic(&format!(
            "{:.0} s, {} pages moved, {} values compared, {} SIGBUS explained by injections",
            self.seen.took.as_secs_f32(),
            board.moved.load(Relaxed),
            board.compared.load(Relaxed),
            board.excused.load(Relaxed)
        ))?;
        if let Some(why) = board.failure.get().or(self.seen.end.clone()) {
            ktap.diagnostic(&format!("FAILED: {why}"))?;
            ktap.diagnostic(&self.last_words())?;
            ktap.diagnostic(&format!("the same operations again: {}", self.replay))?;
        }
        let values = match (&self.seen.end, board.failure.get()) {
            (None, None) => Ok(()),
            (end, failure) => Err(anyhow::anyhow!(failure.or(end.clone()).unwrap_or_default())),
        };
        let reached = |check: u32, slot: Option<String>| {
            ensure!(
                board.checked.load(Relaxed) >= check,
                "the run did not come to this"
            );
            slot.map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
        };
        say(&mut ktap, "values", values)?;
        say(&mut ktap, "data_at_the_end", reached(1, board.data.get()))?;
        say(
            &mut ktap,
            "memory_comes_back",
            reached(worker::CHECKS, board.rss.get()),
        )?;
        say(&mut ktap, "device_is_empty", self.empty())?;
        self.ledger(&mut ktap)?;
        self.log(&mut ktap)?;
        say(&mut ktap, "every_operation_works", self.coverage())?;
        let eager = match self.is_eager {
            true => Outcome::Pass,
            false => Outcome::Skip("khugepaged cannot be made busy".into()),
        };
        ktap.result("stress.khugepaged", &eager)?;
        let swap = self.swap(&mut ktap)?;
        ktap.result("stress.swap", &swap)?;
        Ok(ktap.finish()?)
    }

    fn last_words(&self) -> String {
        let mut text = String::new();
        for thread in 0..self.job.threads {
            text += &format!("the last operations of thread {thread}:\n");
            for line in self.board.last(thread) {
                text += &format!("  {line}\n");
            }
        }
        text + &self.seen.stacks.join("\n")
    }

    fn table(&self) -> String {
        let mut table = table::new(&["operation", "done", "mean ms", "longest ms", "otherwise"]);
        for op in Op::ALL {
            let others: Vec<_> = self
                .board
                .ends(*op)
                .into_iter()
                .filter(|(name, _)| name != "done")
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            let done = self.board.done(*op);
            if done > 0 || !others.is_empty() {
                let came: u64 = self.board.ends(*op).iter().map(|(_, count)| count).sum();
                let [total, longest] = self.board.times(*op);
                table.add_row(vec![
                    op.name(),
                    done.to_string(),
                    format!("{:.1}", total.as_secs_f64() * 1e3 / came.max(1) as f64),
                    longest.as_millis().to_string(),
                    others.join(", "),
                ]);
            }
        }
        table::align_right(&mut table, &[1, 2, 3]);
        table.to_string()
    }

    /// Checks that all device memory is free, and that no page is stuck.
    fn empty(&self) -> Result<()> {
        // The last reference to an mm may be dropped a moment after its process was waited for.
        let limit = Instant::now() + Duration::from_secs(5);
        loop {
            let after = counters()?;
            let left = self.before.iter().zip(&after).enumerate();
            let wrong = left
                .filter(|(_, (was, is))| is.pages_used != was.pages_used)
                .map(|(index, (_, is))| format!("device {index}: {} pages in use", is.pages_used))
                .next();
            match wrong {
                None => return Ok(()),
                Some(why) => ensure!(Instant::now() < limit, why),
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Too many references are no failure: many threads here hold one for a moment.
    fn ledger<W: Write>(&self, ktap: &mut Ktap<W>) -> Result<()> {
        let outcome = match (self.has_ledger, self.seen.deficits.first()) {
            (false, _) => Outcome::Skip("the ledger cannot be read".into()),
            (true, None) => Outcome::Pass,
            (true, Some(_)) => Outcome::Fail,
        };
        for line in &self.seen.deficits {
            ktap.diagnostic(&format!("a reference is missing: {line}"))?;
        }
        Ok(ktap.result("stress.ledger_has_no_deficit", &outcome)?)
    }

    fn log<W: Write>(&self, ktap: &mut Ktap<W>) -> Result<()> {
        let outcome = match (self.has_log, self.seen.complaints.first()) {
            (false, _) => Outcome::Skip("the kernel's log cannot be read".into()),
            (true, None) => Outcome::Pass,
            (true, Some(_)) => Outcome::Fail,
        };
        for line in &self.seen.complaints {
            ktap.diagnostic(&format!("kernel: {line}"))?;
        }
        Ok(ktap.result("stress.kernel_log", &outcome)?)
    }

    fn swap<W: Write>(&self, ktap: &mut Ktap<W>) -> Result<Outcome> {
        let (Some(before), Some(after)) = (self.swapped_before, swapped_out()) else {
            return Ok(Outcome::Skip("no swap is active".into()));
        };
        let asked = self.board.done(Op::Pageout);
        ktap.diagnostic(&format!("{} pages were swapped out", after - before))?;
        Ok(match after > before || asked < FEW {
            true => Outcome::Pass,
            false => Outcome::Fail,
        })
    }

    fn coverage(&self) -> Result<()> {
        for op in Op::ALL {
            let came: u64 = self.board.ends(*op).iter().map(|(_, count)| count).sum();
            ensure!(
                self.board.done(*op) > 0 || came < OFTEN,
                "{} came {came} times and was never done",
                op.name()
            );
        }
        let moves = self.job.chosen[Op::ToDevice as usize];
        ensure!(
            !moves || self.board.moved.load(Relaxed) > 0,
            "no page was moved"
        );
        Ok(())
    }
}

fn say<W: Write>(ktap: &mut Ktap<W>, name: &str, result: Result<()>) -> Result<()> {
    let outcome = match result {
        Ok(()) => Outcome::Pass,
        Err(error) => {
            ktap.diagnostic(&format!("{name}: {error:#}"))?;
            Outcome::Fail
        }
    };
    Ok(ktap.result(&format!("stress.{name}"), &outcome)?)
}

/// Pages that were swapped out since boot, if the kernel counts them and may swap at all.
pub fn swapped_out() -> Option<u64> {
    let disks = fs::read_to_string("/proc/swaps").ok()?;
    if disks.lines().count() < 2 {
        return None;
    }
    let counters = fs::read_to_string("/proc/vmstat").ok()?;
    let line = counters.lines().find_map(|l| l.strip_prefix("pswpout "))?;
    line.trim().parse().ok()
}
