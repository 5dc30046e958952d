// SPDX-License-Identifier: GPL-2.0

//! One window of a migration on request: at most a huge page, as many attempts as the policy allows.

use super::{
    fill::{
        Filled,
        Filler, //
    },
    logbook::Logbook,
    select,
    Report, //
};
use crate::{
    client::Client,
    clock::{
        nanos_since,
        now, //
    },
    device::chunk::is_own,
    inject::Point,
    layer::mm::{
        folio::Folio,
        hmm::Want,
        lock::{
            check_killed,
            is_alone,
            MmapReadLock, //
        },
        mapped::Mapped,
        migrate::{
            Batch,
            Collected,
            Outcome, //
        },
        mirror::Room,
        HUGE_ORDER,
        HUGE_SIZE, //
    },
    ledger::Direction,
    pause::PausePoint,
    policy::{
        behind::Behind,
        fates::Fates,
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
    mm::{
        virt::flags,
        MmWithUser, //
    },
    page::PAGE_SHIFT,
    prelude::*,
    sync::aref::ARef,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How often the page tables may change under the collector.
const COLLECT_TRIES: u32 = 10;

/// For injection: a reference that somebody else holds on a source.
struct Extra {
    address: usize,
    folio: Folio,
}

impl Extra {
    /// The entry of that source among those from `start` on, if it is still the one there: between two
    /// attempts, another folio may have come in its place, of which nothing is held.
    fn at(&self, start: usize, collected: &Collected<'_>) -> Option<usize> {
        let index = self.address.checked_sub(start)? >> PAGE_SHIFT;
        collected
            .source(index)
            .is_some_and(|source| source.counts().pfn == self.folio.counts().pfn)
            .then_some(index)
    }
}

struct Window<'a> {
    client: &'a Client,
    mm: &'a ARef<MmWithUser>,
    direction: Direction,
    start: usize,
    /// Not behind the end of the VMA, once that is known.
    end: usize,
    /// Whether an attempt was made at all.
    is_begun: bool,
}

/// An attempt at a part of a window.
struct Tried {
    /// The end of the part that is in the VMA.
    end: usize,
    what: What,
}

/// What it came to.
enum What {
    /// An answer.
    Done(AttemptResult),
    /// Nothing of the VMA may leave.
    Kept,
    /// KSM may have merged pages there, which must be left out.
    Merged,
}

/// Migrates what lies in `range`, or in the part of it that its first VMA covers; gives the end of
/// that part.
pub fn run(
    client: &Client,
    mm: &ARef<MmWithUser>,
    scratch: &mut Scratch,
    range: Range<usize>,
    direction: Direction,
    report: &mut Report,
) -> Result<usize> {
    let mut window = Window {
        client,
        mm,
        direction,
        start: range.start,
        end: range.end,
        is_begun: false,
    };
    // Huge folios on coherent devices cannot be selected back (K10).
    let mut attempts = Attempts::new(client.device().state().is_private());
    let Scratch { batch, fates, .. } = scratch;
    fates.reset(range.len() >> PAGE_SHIFT);
    let mut extra = None;
    let done = loop {
        let result = match window.round(batch, &attempts, &mut extra, fates, report) {
            Ok(result) => result,
            Err(error) if !window.is_begun => return Err(error),
            // What the attempts before did stands.
            Err(error) => break Err(error),
        };
        let log = Logbook {
            state: client.device().state(),
            direction,
            fault: None,
            extra_at: None,
        };
        log.finalized(client.mirror(), window.start..window.end);
        match attempts.after(result) {
            Next::Done => break Ok(()),
            Next::Again => {}
            Next::Pause(milliseconds) => fsleep(Delta::from_millis(milliseconds.into())),
        }
        if let Err(error) = check_killed() {
            break Err(error);
        }
    };
    let before = report.counts.split_refused;
    fates.count(&mut report.counts);
    report.retries += u64::from(attempts.retries());
    if report.counts.split_refused > before {
        client.device().state().stats.split_refused.add(1);
    }
    done.map(|()| window.end)
}

impl Window<'_> {
    /// Goes through the window once: mostly by one attempt; by several, if there are folios that cannot be
    /// split (see [`super::behind`]), or pages that KSM has merged.
    fn round(
        &mut self,
        batch: &mut Batch,
        attempts: &Attempts,
        extra: &mut Option<Extra>,
        fates: &mut Fates,
        report: &mut Report,
    ) -> Result<AttemptResult> {
        let mut all = AttemptResult::default();
        let mut at = self.start;
        let mut left = Behind::default();
        let mut is_one = true;
        while at < self.end {
            is_one = at == self.start;
            let mut tried =
                self.attempt(batch, at..self.end, false, attempts, extra, fates, report)?;
            if !self.is_begun {
                self.end = tried.end;
                fates.truncate((self.end - self.start) >> PAGE_SHIFT);
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
                let part = at..merged.start;
                tried = self.attempt(batch, part, true, attempts, extra, fates, report)?;
            }
            let result = match tried.what {
                What::Done(result) => result,
                What::Kept | What::Merged => return Ok(all),
            };
            if result.split_before {
                return Ok(result);
            }
            all.refused |= result.refused;
            left = self.left_behind(at..tried.end, attempts, fates);
            at = left.next().map_or(next, |page| at + (page << PAGE_SHIFT));
            if at < self.end {
                check_killed()?;
            }
        }
        if !is_one {
            left = self.left_behind(self.start..self.end, attempts, fates);
        }
        all.refused |= left.is_any();
        all.split_refused = fates.has_refused_split();
        Ok(all)
    }

    /// Goes through a part of the window. `is_clear` says that KSM was asked about.
    #[expect(clippy::too_many_arguments)]
    fn attempt(
        &self,
        batch: &mut Batch,
        range: Range<usize>,
        is_clear: bool,
        attempts: &Attempts,
        extra: &mut Option<Extra>,
        fates: &mut Fates,
        report: &mut Report,
    ) -> Result<Tried> {
        let state = self.client.device().state();
        let injection = self.client.injection();
        if !state.is_private() {
            // The old flag is about a huge folio first of all, which a coherent device never asks for.
            self.client.owner().inject.set_flags(0)?;
        }
        let to_lock = match range.start == self.start && injection.fires(Point::FolioLock) {
            true => self.find_source(&range, attempts.compound()),
            false => None,
        };
        // Before the lock, and so dropped after it.
        let supply = self.client.device().memory.supply()?;
        let mmap = MmapReadLock::new(self.mm)?;
        // Not before: who injection on that page waits for the folio's lock with `mmap_lock` held.
        let blocker = to_lock.and_then(|folio| folio.try_lock().ok());
        let vma = mmap.vma(range.start).ok_or(EINVAL)?;
        if vma.flags() & flags::READ == 0 {
            return Err(EINVAL);
        }
        let range = range.start..range.end.min(vma.end());
        let (start, end) = (range.start, range.end);
        let tried = |what| Ok(Tried { end, what });
        if self.direction == Direction::ToDevice {
            if !vma.may_leave() {
                return tried(What::Kept);
            }
            if vma.may_have_merged() && !is_clear {
                return tried(What::Merged);
            }
        }
        // A large folio that is not mapped whole any more would be split, and its lock waited for.
        let blocker = blocker.filter(|folio| {
            folio.order() == 0 || folio.is_mapped_whole() && !vma.may_wait_for_user()
        });
        // Whoever holds a folio does not let go because it is collected again.
        let holds = injection.fires(Point::ExtraRef);
        if !holds {
            *extra = None;
        }

        let begin = now();
        let select = select(self.direction, self.client.device());
        let mut tries = 0;
        let mut collected = loop {
            match batch.setup(
                vma,
                range.clone(),
                select,
                attempts.compound(),
                state.pgmap_owner(),
            ) {
                Err(error) if error == EAGAIN && tries < COLLECT_TRIES => tries += 1,
                Ok(collected) => break collected,
                Err(error) => return Err(error),
            }
        };
        drop(blocker);
        report.times.setup += nanos_since(begin);
        if holds && extra.is_none() {
            *extra = (0..collected.len()).find_map(|index| {
                let folio = collected.source(index)?.hold()?;
                let address = start + (index << PAGE_SHIFT);
                Some(Extra { address, folio })
            });
        }
        let log = Logbook {
            state,
            direction: self.direction,
            fault: None,
            extra_at: extra.as_ref().and_then(|extra| extra.at(start, &collected)),
        };
        log.collected(&collected);
        injection.pause(PausePoint::Collected, self.direction);

        let begin = now();
        let filler = Filler {
            client: self.client,
            vma,
            range: range.clone(),
            injection,
            supply: &supply,
        };
        let filled = match self.direction {
            Direction::ToDevice => filler.to_device(&mut collected),
            _ => filler.to_system(&mut collected),
        };
        report.times.copy += nanos_since(begin);

        let mut result = AttemptResult::default();
        let reason = match filled {
            Filled::SplitBefore => {
                result.split_before = true;
                return tried(What::Done(result));
            }
            Filled::Upto(reason) => reason,
        };
        log.filled(&collected);
        injection.pause(PausePoint::Filled, self.direction);

        let begin = now();
        let committed = collected.commit();
        report.times.pages += nanos_since(begin);
        injection.pause(PausePoint::Committed, self.direction);
        let splitting = !attempts.compound() && state.is_private();
        let first = (start - self.start) >> PAGE_SHIFT;
        committed.outcomes(|index, nr, outcome| {
            fates.note(first + index, nr, outcome, reason, splitting);
            let is_anon = |at| {
                committed
                    .source_counts(at)
                    .is_some_and(|source| source.anon)
            };
            result.refused |= outcome == Outcome::Refused && (index..index + nr).any(is_anon);
        });
        log.committed(&committed);
        injection.pause(PausePoint::Finalize, self.direction);

        let begin = now();
        drop(committed);
        report.times.finalize += nanos_since(begin);
        tried(What::Done(result))
    }

    /// The pages that could go but were not offered: somebody has them locked, holds them, or they were
    /// in motion. Pages of other kinds, and those that are there already, are not worth another attempt.
    fn left_behind(&self, range: Range<usize>, attempts: &Attempts, fates: &Fates) -> Behind {
        let mut behind = Behind::default();
        let is_splitting = !attempts.compound() && fates.has_refused_split();
        if !fates.has_uncollected() && !is_splitting {
            return behind;
        }
        let first = (range.start - self.start) >> PAGE_SHIFT;
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

    /// The first pages in a row that KSM has merged; none, at the end of the range.
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

    /// Calls `see` for each page in a range, or once if all is one huge mapping, with the number of the
    /// page in the range, and how many pages are meant.
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

    /// For injection: the first page's folio, to see what it is like if somebody else has it locked.
    ///
    /// The collector only tries to lock what it takes as it is, but waits for the lock of a large
    /// folio that it must split first: for ever, if the lock is ours. So a large folio is locked only
    /// where it is to be collected whole, and neither another thread could split the mapping before, nor another
    /// process by userfaultfd; reclaim would take the lock for it.
    fn find_source(&self, range: &Range<usize>, compound: bool) -> Option<Folio> {
        let is_whole = compound && range.len() == HUGE_SIZE && is_alone(self.mm);
        let first = range.start..range.start + (1 << PAGE_SHIFT);
        let mut folio = None;
        let mut room = Room::new().ok()?;
        self.client
            .mirror()
            .fill(&mut room, first, Want::Look, |_, _, seen| {
                let is_taken_as_it_is = |order| match order {
                    0 => true,
                    _ => is_whole && seen.pfn().map_order() >= HUGE_ORDER,
                };
                folio = seen
                    .page()
                    .filter(|page| is_taken_as_it_is(page.counts().order))
                    .and_then(|page| page.folio());
            })
            .ok()?;
        folio
    }
}
