// SPDX-License-Identifier: GPL-2.0

//! One window of a migration on request: at most a huge page, as many attempts as the policy allows.

use super::{
    fates::Fates,
    fill::{
        Filled,
        Filler, //
    },
    logbook::Logbook,
    nanos_since,
    now,
    policy::{
        self,
        Attempts,
        Next, //
    },
    Direction,
    Report, //
};
use crate::{
    access::is_own,
    file::File,
    inject::Point,
    layer::mm::{
        folio::Folio,
        hmm::Want,
        lock::{
            check_killed,
            is_alone,
            MmapReadLock, //
        },
        migrate::{
            Batch,
            Collected,
            Outcome, //
        },
        mirror::Room,
        HUGE_ORDER,
        HUGE_SIZE, //
    },
    pause::Stage,
    scratch::Scratch,
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
    index: usize,
    folio: Folio,
}

impl Extra {
    /// Whether that source is still the one there: between two attempts, another folio may have come
    /// in its place, of which nothing is held.
    fn is_of(&self, collected: &Collected<'_>) -> bool {
        collected
            .source(self.index)
            .is_some_and(|source| source.counts().pfn == self.folio.counts().pfn)
    }
}

struct Window<'a> {
    file: &'a File,
    mm: &'a ARef<MmWithUser>,
    direction: Direction,
}

/// Migrates what lies in `range`, or in the part of it that its first VMA covers; gives the end of
/// that part.
pub fn run(
    file: &File,
    mm: &ARef<MmWithUser>,
    scratch: &mut Scratch,
    range: Range<usize>,
    direction: Direction,
    report: &mut Report,
) -> Result<usize> {
    let window = Window {
        file,
        mm,
        direction,
    };
    // Huge folios on coherent devices cannot be selected back (K10).
    let mut attempts = Attempts::new(file.device().core().is_private());
    let Scratch { batch, fates, .. } = scratch;
    fates.reset(range.len() >> PAGE_SHIFT);
    let mut end = range.end;
    let mut is_first = true;
    let mut extra = None;
    let done = loop {
        let tried = window.attempt(
            batch,
            range.start..end,
            &attempts,
            &mut extra,
            fates,
            report,
        );
        let (now_end, result) = match tried {
            Ok(done) => done,
            Err(error) if is_first => return Err(error),
            // What the attempts before did stands.
            Err(error) => break Err(error),
        };
        if is_first {
            end = now_end;
            fates.truncate((end - range.start) >> PAGE_SHIFT);
            is_first = false;
        }
        let result = policy::Result {
            refused: result.refused || window.has_left_behind(range.start..end, fates),
            ..result
        };
        let log = Logbook {
            core: file.device().core(),
            direction,
            fault: None,
            extra_at: None,
        };
        log.finalized(file.mirror(), range.start..end);
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
        file.device().core().stats.split_refused.add(1);
    }
    done.map(|()| end)
}

impl Window<'_> {
    fn attempt(
        &self,
        batch: &mut Batch,
        range: Range<usize>,
        attempts: &Attempts,
        extra: &mut Option<Extra>,
        fates: &mut Fates,
        report: &mut Report,
    ) -> Result<(usize, policy::Result)> {
        let core = self.file.device().core();
        let faults = self.file.faults();
        if !core.is_private() {
            // The old flag is about a huge folio first of all, which a coherent device never asks for.
            self.file.owner().inject.set_flags(0)?;
        }
        // Whoever holds a folio does not let go because it is collected again.
        let holds = faults.fires(Point::ExtraRef);
        if !holds {
            *extra = None;
        }
        let to_lock = match faults.fires(Point::FolioLock) {
            true => self.find_source(&range, attempts.compound()),
            false => None,
        };
        // Before the lock, and so dropped after it.
        let supply = self.file.device().memory.supply()?;
        let mmap = MmapReadLock::new(self.mm)?;
        // Not before: who faults on that page waits for the folio's lock with `mmap_lock` held.
        let blocker = to_lock.and_then(|folio| folio.try_lock().ok());
        let vma = mmap.vma(range.start).ok_or(EINVAL)?;
        if vma.flags() & flags::READ == 0 {
            return Err(EINVAL);
        }
        let range = range.start..range.end.min(vma.end());
        let end = range.end;

        let begin = now();
        let select = self.direction.select(self.file.device());
        let mut tries = 0;
        let mut collected = loop {
            match batch.setup(
                vma,
                range.clone(),
                select,
                attempts.compound(),
                core.owner(),
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
                Some(Extra { index, folio })
            });
        }
        let log = Logbook {
            core,
            direction: self.direction,
            fault: None,
            extra_at: extra
                .as_ref()
                .filter(|extra| extra.is_of(&collected))
                .map(|extra| extra.index),
        };
        log.collected(&collected);
        faults.pause(Stage::Collected, self.direction);

        let begin = now();
        let filler = Filler {
            file: self.file,
            vma,
            range: range.clone(),
            faults,
            supply: &supply,
        };
        let filled = match self.direction {
            Direction::ToDevice => filler.to_device(&mut collected),
            _ => filler.to_system(&mut collected),
        };
        report.times.copy += nanos_since(begin);

        let mut result = policy::Result::default();
        let reason = match filled {
            Filled::SplitBefore => {
                result.split_before = true;
                return Ok((end, result));
            }
            Filled::Upto(reason) => reason,
        };
        log.filled(&collected);
        faults.pause(Stage::Filled, self.direction);

        let begin = now();
        let committed = collected.commit();
        report.times.pages += nanos_since(begin);
        faults.pause(Stage::Committed, self.direction);
        let splitting = !attempts.compound() && core.is_private();
        committed.outcomes(|index, nr, outcome| {
            fates.note(index, nr, outcome, reason, splitting);
            let is_anon = |at| {
                committed
                    .source_counts(at)
                    .is_some_and(|source| source.anon)
            };
            result.refused |= outcome == Outcome::Refused && (index..index + nr).any(is_anon);
        });
        result.split_refused = fates.has_refused_split();
        log.committed(&committed);
        faults.pause(Stage::Finalize, self.direction);

        let begin = now();
        drop(committed);
        report.times.finalize += nanos_since(begin);
        Ok((end, result))
    }

    /// Whether there are pages that could go but were not offered: somebody has them locked, holds
    /// them, or they were in motion. Pages of other kinds, and those that are there already, are not
    /// worth another attempt.
    fn has_left_behind(&self, range: Range<usize>, fates: &Fates) -> bool {
        if !fates.has_uncollected() {
            return false;
        }
        let mut left = false;
        let looked = Room::new().and_then(|mut room| {
            let mirror = self.file.mirror();
            mirror.fill(&mut room, range, Want::Look, |at, nr, seen| {
                let is_uncollected = (at..at + nr).any(|page| fates.is_uncollected(page));
                let Some(page) = seen.page().filter(|_| is_uncollected) else {
                    return;
                };
                let counts = page.counts();
                let on_device = counts.device_private || counts.device_coherent;
                left |= counts.anon
                    && match self.direction {
                        Direction::ToDevice => !on_device,
                        _ => on_device && is_own(self.file.device(), &page),
                    };
            })
        });
        looked.is_ok() && left
    }

    /// For injection: the first page's folio, to see what it is like if somebody else has it locked.
    ///
    /// The collector only tries to lock what it takes as it is, but waits for the lock of a large
    /// folio that it must split first: for ever, if the lock is ours. So a large folio is locked only
    /// where it is to be collected whole, and no other thread could split the mapping before.
    fn find_source(&self, range: &Range<usize>, compound: bool) -> Option<Folio> {
        let is_whole = compound && range.len() == HUGE_SIZE && is_alone(self.mm);
        let first = range.start..range.start + (1 << PAGE_SHIFT);
        let mut folio = None;
        let mut room = Room::new().ok()?;
        self.file
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
