// SPDX-License-Identifier: GPL-2.0

//! One attempt to migrate a part of a window: setup, filling, pages, finalize.

use super::{
    fill::{
        Filled,
        Filler, //
    },
    logbook::Logbook,
    report::Report, //
};
use crate::{
    client::Client,
    clock::{
        nanos_since,
        now, //
    },
    inject::{
        Injection,
        Point, //
    },
    layer::mm::{
        folio::{
            Folio,
            LockedFolio, //
        },
        hmm::Want,
        lock::{
            is_alone,
            MmapReadLock,
            Vma, //
        },
        migrate::{
            Batch,
            Collected,
            Committed,
            Outcome,
            Select, //
        },
        mirror::Room,
        HUGE_ORDER,
        HUGE_SIZE, //
    },
    ledger::Direction,
    pause::PausePoint,
    policy::{
        fates::{
            Fate,
            Fates, //
        },
        plan::AttemptResult, //
    }, //
};
use core::ops::Range;
use kernel::{
    mm::{
        virt::flags,
        MmWithUser, //
    },
    page::PAGE_SHIFT,
    prelude::*,
    sync::aref::ARef, //
};

/// How often setup is repeated because the page tables changed while it ran; chosen.
const COLLECT_TRIES: u32 = 10;

/// An attempt to migrate a part of a window.
pub(super) struct Attempt<'a> {
    pub(super) client: &'a Client,
    pub(super) mm: &'a ARef<MmWithUser>,
    pub(super) direction: Direction,
    /// The addresses of the part. If the VMA ends earlier, so does the attempt.
    pub(super) range: Range<usize>,
    /// The index in the window of the part's first page.
    pub(super) first: usize,
    /// Whether huge folios are collected whole.
    pub(super) compound: bool,
    /// Whether the part is known to have no page that KSM has merged.
    pub(super) is_unmerged: bool,
}

/// What the attempts at a window record.
pub(super) struct Progress<'a> {
    pub(super) fates: &'a mut Fates,
    /// The injected reference. It is kept from one attempt to the next, as another user would keep theirs.
    pub(super) extra: Option<Extra>,
    pub(super) report: &'a mut Report,
}

/// Where an attempt ended, and its outcome.
pub(super) struct Tried {
    /// The end of the part, or of the VMA if that comes first.
    pub(super) end: usize,
    pub(super) what: What,
}

/// The outcome of an attempt.
pub(super) enum What {
    /// It was made.
    Done(AttemptResult),
    /// It was not made: no page of the VMA can be migrated to a device.
    Kept,
    /// It was not made: KSM may have merged pages of the part. These must be left out.
    Merged,
}

/// An injected reference on a source, as another user may hold one.
pub(super) struct Extra {
    address: usize,
    folio: Folio,
}

impl Extra {
    /// Takes a reference on the first source, if there is one. `start` is the address of the first entry.
    fn hold(start: usize, collected: &Collected<'_>) -> Option<Self> {
        (0..collected.len()).find_map(|index| {
            let folio = collected.source(index)?.hold()?;
            let address = start + (index << PAGE_SHIFT);
            Some(Extra { address, folio })
        })
    }

    /// Returns the index of the entry whose source it holds. `None` if another folio is mapped there now, which
    /// happens between attempts.
    fn entry(&self, start: usize, collected: &Collected<'_>) -> Option<usize> {
        let index = self.address.checked_sub(start)? >> PAGE_SHIFT;
        collected
            .source(index)
            .is_some_and(|source| source.counts().pfn == self.folio.counts().pfn)
            .then_some(index)
    }
}

fn select(direction: Direction, is_private: bool) -> Select {
    match (direction, is_private) {
        (Direction::ToDevice, _) => Select::System,
        (_, true) => Select::DevicePrivate,
        (_, false) => Select::DeviceCoherent,
    }
}

impl Attempt<'_> {
    /// Makes the attempt. May sleep; takes `mmap_lock` for reading.
    ///
    /// # Errors
    ///
    /// As for [`super::migrate`].
    pub(super) fn run(&self, batch: &mut Batch, progress: &mut Progress<'_>) -> Result<Tried> {
        let state = self.client.device().state();
        let injection = self.client.injection();
        if !state.is_private() {
            // FAIL_ALLOC makes the allocation of a huge folio fail, and a coherent device never makes that allocation.
            self.client.owner().inject.set_flags(0)?;
        }
        let to_lock = self.folio_to_lock(&injection);
        // Declared before `mmap_lock`, so that it is dropped after it.
        let supply = self.client.device().memory.supply()?;
        let mmap = MmapReadLock::new(self.mm)?;
        // Taken after `mmap_lock`: a fault on that page waits for the folio lock with `mmap_lock` held.
        let blocker = to_lock.and_then(|folio| folio.try_lock().ok());
        let vma = mmap.vma(self.range.start).ok_or(EINVAL)?;
        if vma.flags() & flags::READ == 0 {
            return Err(EINVAL);
        }
        let end = self.range.end.min(vma.end());
        let range = self.range.start..end;
        if let Some(what) = self.check(vma) {
            return Ok(Tried { end, what });
        }
        let blocker = blocker.filter(|folio| may_stay_locked(folio, vma));
        // The reference stays over another attempt: collecting the folio anew would not make another user put theirs.
        let holds = injection.fires(Point::ExtraRef);
        if !holds {
            progress.extra = None;
        }

        let begin = now();
        let select = select(self.direction, state.is_private());
        let mut tries = 0;
        let collected = loop {
            match batch.setup(
                vma,
                range.clone(),
                select,
                self.compound,
                state.pgmap_owner(),
            ) {
                Err(error) if error == EAGAIN && tries < COLLECT_TRIES => tries += 1,
                Ok(collected) => break collected,
                Err(error) => return Err(error),
            }
        };
        drop(blocker);
        progress.report.times.setup += nanos_since(begin);
        if holds && progress.extra.is_none() {
            progress.extra = Extra::hold(range.start, &collected);
        }
        let filler = Filler {
            client: self.client,
            vma,
            range,
            injection,
            supply: &supply,
        };
        let result = self.migrate(collected, &filler, progress);
        Ok(Tried {
            end,
            what: What::Done(result),
        })
    }

    /// Returns the reason why no attempt can be made, if there is one.
    fn check(&self, vma: Vma<'_>) -> Option<What> {
        if self.direction != Direction::ToDevice {
            return None;
        }
        if !vma.may_leave() {
            return Some(What::Kept);
        }
        (vma.may_have_merged() && !self.is_unmerged).then_some(What::Merged)
    }

    /// Fills destinations for the collected sources, and migrates them.
    fn migrate(
        &self,
        mut collected: Collected<'_>,
        filler: &Filler<'_>,
        progress: &mut Progress<'_>,
    ) -> AttemptResult {
        let injection = &filler.injection;
        let extra = progress.extra.as_ref();
        let log = Logbook {
            state: self.client.device().state(),
            direction: self.direction,
            fault: None,
            extra_at: extra.and_then(|extra| extra.entry(filler.range.start, &collected)),
        };
        log.collected(&collected);
        injection.pause(PausePoint::Collected, self.direction);

        let begin = now();
        let filled = match self.direction {
            Direction::ToDevice => filler.to_device(&mut collected),
            _ => filler.to_system(&mut collected),
        };
        progress.report.times.copy += nanos_since(begin);
        let reason = match filled {
            Filled::SplitBefore => {
                return AttemptResult {
                    split_before: true,
                    ..AttemptResult::default()
                }
            }
            Filled::Upto(reason) => reason,
        };
        log.filled(&collected);
        injection.pause(PausePoint::Filled, self.direction);

        let begin = now();
        let committed = collected.commit();
        progress.report.times.pages += nanos_since(begin);
        injection.pause(PausePoint::Committed, self.direction);
        let result = self.note_outcomes(&committed, reason, progress.fates);
        log.committed(&committed);
        injection.pause(PausePoint::Finalize, self.direction);

        let begin = now();
        drop(committed);
        progress.report.times.finalize += nanos_since(begin);
        result
    }

    /// Records the outcome of each page. `reason` is why entries without a destination have none.
    fn note_outcomes(
        &self,
        committed: &Committed<'_>,
        reason: Fate,
        fates: &mut Fates,
    ) -> AttemptResult {
        let mut result = AttemptResult::default();
        let splitting = !self.compound && self.client.device().state().is_private();
        committed.outcomes(|index, nr, outcome| {
            fates.note(self.first + index, nr, outcome, reason, splitting);
            let is_anon = |at| {
                committed
                    .source_counts(at)
                    .is_some_and(|source| source.anon)
            };
            result.refused |= outcome == Outcome::Refused && (index..index + nr).any(is_anon);
        });
        result
    }

    /// Returns the folio of the window's first page if injection is to lock it, as another user might.
    ///
    /// The collector only tries the lock of a folio that it collects whole. If it has to split a large folio first,
    /// it waits for the lock, which would be for ever if this thread holds it. A large folio is therefore locked only
    /// if it is to be collected whole and nobody can split its mapping before: no other thread of the process, and no
    /// other process by userfaultfd. Reclaim splits only with the folio lock held.
    fn folio_to_lock(&self, injection: &Injection<'_>) -> Option<Folio> {
        if self.first != 0 || !injection.fires(Point::FolioLock) {
            return None;
        }
        let is_whole = self.compound && self.range.len() == HUGE_SIZE && is_alone(self.mm);
        let first = self.range.start..self.range.start + (1 << PAGE_SHIFT);
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

/// Returns whether an injected folio lock may be held during setup. If a large folio is no longer mapped whole,
/// setup would split it and wait for its lock.
fn may_stay_locked(folio: &LockedFolio, vma: Vma<'_>) -> bool {
    folio.order() == 0 || folio.is_mapped_whole() && !vma.may_wait_for_user()
}
