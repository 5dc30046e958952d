// SPDX-License-Identifier: GPL-2.0

//! One window of a migration on request: at most a huge page, as many attempts as the policy allows.

use super::{
    attempt::{
        Attempt,
        Progress,
        Tried,
        What, //
    },
    logbook::Logbook,
    report::Report, //
};
use crate::{
    client::Client,
    device::chunk::is_own,
    layer::mm::{
        hmm::Want,
        lock::check_killed,
        mapped::Mapped,
        migrate::Batch,
        mirror::Room, //
    },
    ledger::Direction,
    policy::{
        behind::Behind,
        plan::{
            AttemptResult,
            Attempts,
            Next, //
        }, //
    },
    scratch::Scratch, //
};
use core::ops::Range;
use kernel::{
    mm::MmWithUser,
    page::PAGE_SHIFT,
    prelude::*,
    sync::aref::ARef,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

struct Window<'a> {
    client: &'a Client,
    mm: &'a ARef<MmWithUser>,
    direction: Direction,
    start: usize,
    /// The end of the range; after the first attempt, not beyond the end of the VMA.
    end: usize,
    /// Whether an attempt was made.
    is_begun: bool,
    attempts: Attempts,
    progress: Progress<'a>,
}

/// Migrates the pages of `range`, up to the end of the VMA that covers its start. Returns where it stopped: at
/// that end, or at the end of `range`.
pub(super) fn run(
    client: &Client,
    mm: &ARef<MmWithUser>,
    scratch: &mut Scratch,
    range: Range<usize>,
    direction: Direction,
    report: &mut Report,
) -> Result<usize> {
    let state = client.device().state();
    let Scratch { batch, fates, .. } = scratch;
    fates.reset(range.len() >> PAGE_SHIFT);
    let mut window = Window {
        client,
        mm,
        direction,
        start: range.start,
        end: range.end,
        is_begun: false,
        // Huge folios on coherent devices cannot be selected back (K10).
        attempts: Attempts::new(state.is_private()),
        progress: Progress {
            fates,
            extra: None,
            report,
        },
    };
    let done = window.rounds(batch);
    if !window.is_begun {
        done?;
    }
    // Pages that moved before an error stay moved, and are counted.
    let Progress { fates, report, .. } = &mut window.progress;
    let before = report.counts.split_refused;
    fates.count(&mut report.counts);
    report.retries += u64::from(window.attempts.retries());
    if report.counts.split_refused > before {
        state.stats.split_refused.add(1);
    }
    done.map(|()| window.end)
}

impl Window<'_> {
    /// Repeats passes over the window, with pauses, as often as the policy allows.
    fn rounds(&mut self, batch: &mut Batch) -> Result {
        loop {
            let result = self.round(batch)?;
            let log = Logbook {
                state: self.client.device().state(),
                direction: self.direction,
                fault: None,
                extra_at: None,
            };
            log.finalized(self.client.mirror(), self.start..self.end);
            match self.attempts.after(result) {
                Next::Done => return Ok(()),
                Next::Again => {}
                Next::Pause(milliseconds) => fsleep(Delta::from_millis(milliseconds.into())),
            }
            check_killed()?;
        }
    }

    /// Makes one pass over the window. That is one attempt, unless there are folios that cannot be split (see
    /// [`crate::policy::behind`]) or pages that KSM has merged: then it is an attempt for each part between them.
    fn round(&mut self, batch: &mut Batch) -> Result<AttemptResult> {
        let mut all = AttemptResult::default();
        let mut at = self.start;
        let mut left = Behind::default();
        let mut is_one = true;
        while at < self.end {
            is_one = at == self.start;
            let mut tried = self.attempt(batch, at..self.end, false)?;
            if !self.is_begun {
                self.end = tried.end;
                let pages = self.page(self.end);
                self.progress.fates.truncate(pages);
                self.is_begun = true;
            }
            let mut next = self.end;
            if matches!(tried.what, What::Merged) {
                let merged = self.find_merged(at..self.end)?;
                if merged.start == at {
                    at = merged.end;
                    continue;
                }
                next = merged.end;
                tried = self.attempt(batch, at..merged.start, true)?;
            }
            let result = match tried.what {
                What::Done(result) => result,
                What::Kept | What::Merged => return Ok(all),
            };
            if result.split_before {
                return Ok(result);
            }
            all.refused |= result.refused;
            left = self.left_behind(at..tried.end);
            at = left.next().map_or(next, |page| at + (page << PAGE_SHIFT));
            if at < self.end {
                check_killed()?;
            }
        }
        if !is_one {
            left = self.left_behind(self.start..self.end);
        }
        all.refused |= left.is_any();
        all.split_refused = self.progress.fates.has_refused_split();
        Ok(all)
    }

    /// Makes an attempt at a part of the window. `is_unmerged` says that KSM has merged no page of the part.
    fn attempt(
        &mut self,
        batch: &mut Batch,
        range: Range<usize>,
        is_unmerged: bool,
    ) -> Result<Tried> {
        Attempt {
            client: self.client,
            mm: self.mm,
            direction: self.direction,
            first: self.page(range.start),
            range,
            compound: self.attempts.compound(),
            is_unmerged,
        }
        .run(batch, &mut self.progress)
    }

    /// Returns the index in the window of the page at an address.
    fn page(&self, address: usize) -> usize {
        (address - self.start) >> PAGE_SHIFT
    }

    /// Returns the pages that can be migrated but were not collected: they were locked, had extra references, or
    /// were being migrated. Pages that cannot be migrated or are at their destination are not worth another attempt.
    fn left_behind(&self, range: Range<usize>) -> Behind {
        let mut behind = Behind::default();
        let fates = &self.progress.fates;
        let is_splitting = !self.attempts.compound() && fates.has_refused_split();
        if !fates.has_uncollected() && !is_splitting {
            return behind;
        }
        let first = self.page(range.start);
        let looked = self.look(range, |at, nr, page| {
            if !(at..at + nr).any(|page| fates.stays(first + page)) {
                return;
            }
            let counts = page.counts();
            let on_device = counts.device_private || counts.device_coherent;
            let could_go = match self.direction {
                Direction::ToDevice => !on_device && page.may_leave(),
                _ => on_device && is_own(self.client.device().state(), page),
            };
            if could_go {
                behind.see(at, nr, counts.pfn, counts.order > 0);
            }
        });
        match looked {
            Ok(()) => behind,
            Err(_) => Behind::default(),
        }
    }

    /// Returns the first run of pages that KSM has merged; if there are none, an empty range at the end.
    fn find_merged(&self, range: Range<usize>) -> Result<Range<usize>> {
        let mut merged: Option<Range<usize>> = None;
        let address = |page: usize| range.start + (page << PAGE_SHIFT);
        self.look(range.clone(), |at, nr, page| match &mut merged {
            None if page.is_merged() => merged = Some(address(at)..address(at + nr)),
            Some(run) if run.end == address(at) && page.is_merged() => run.end = address(at + nr),
            _ => {}
        })?;
        Ok(merged.unwrap_or(range.end..range.end))
    }

    /// Calls `see` for each page that is mapped in a range, with its index in the range and the number 1. A huge
    /// mapping is seen once, with the number of its pages.
    fn look(&self, range: Range<usize>, mut see: impl FnMut(usize, usize, &Mapped<'_>)) -> Result {
        let mut room = Room::new()?;
        self.client
            .mirror()
            .fill(&mut room, range, Want::Look, |at, nr, seen| {
                if let Some(page) = seen.page() {
                    see(at, nr, &page);
                }
            })
    }
}
