// SPDX-License-Identifier: GPL-2.0

//! What a migration tells the ledger, stage by stage. Nothing is looked at while nobody wants it.

use crate::{
    device::state::State,
    layer::mm::{
        fault::Fault,
        folio::Counts,
        hmm::Want,
        migrate::{
            Collected,
            Committed,
            Outcome, //
        },
        mirror::{
            Mirror,
            Room, //
        }, //
    },
    ledger::{
        Direction,
        Record,
        Stage, //
    }, //
};
use core::ops::Range;

/// The reports of one attempt.
pub(super) struct Logbook<'a> {
    /// The device.
    pub(super) state: &'a State,
    /// Where to.
    pub(super) direction: Direction,
    /// The fault that is being handled: it holds a reference on the folio of its page.
    pub(super) fault: Option<&'a Fault<'a>>,
    /// The entry whose source has a reference more, by injection.
    pub(super) extra_at: Option<usize>,
}

impl Logbook<'_> {
    fn write(&self, stage: Stage, counts: Counts, held: i32) {
        self.state.ledger.write(Record {
            stage,
            device: self.state.id(),
            direction: self.direction,
            counts,
            held,
        });
    }

    /// References on a source: the migration's, the fault's, the injected one.
    ///
    /// The fault's is mostly on the first source, but not if somebody has put another page in the place of
    /// the one that faulted.
    fn held(&self, index: usize, source: &Counts) -> i32 {
        let is_faulting = self
            .fault
            .is_some_and(|fault| fault.shape().pfn == source.pfn);
        1 + i32::from(is_faulting) + i32::from(self.extra_at == Some(index))
    }

    /// Sources, after setup.
    #[inline]
    pub(super) fn collected(&self, collected: &Collected<'_>) {
        if self.state.ledger.wants_records() {
            self.tell_collected(collected);
        }
    }

    #[cold]
    fn tell_collected(&self, collected: &Collected<'_>) {
        for index in 0..collected.len() {
            if let Some(counts) = collected.source(index).map(|source| source.counts()) {
                self.write(Stage::Setup, counts, self.held(index, &counts));
            }
        }
    }

    /// Destinations, filled and given.
    #[inline]
    pub(super) fn filled(&self, collected: &Collected<'_>) {
        if self.state.ledger.wants_records() {
            self.tell_filled(collected);
        }
    }

    #[cold]
    fn tell_filled(&self, collected: &Collected<'_>) {
        for index in 0..collected.len() {
            if let Some(counts) = collected.destination_counts(index) {
                self.write(Stage::Filled, counts, 1);
            }
        }
    }

    /// Sources and destinations, after pages.
    #[inline]
    pub(super) fn committed(&self, committed: &Committed<'_>) {
        if self.state.ledger.wants_records() {
            self.tell_committed(committed);
        }
    }

    #[cold]
    fn tell_committed(&self, committed: &Committed<'_>) {
        committed.outcomes(|first, nr, outcome| {
            if outcome == Outcome::NotCollected {
                return;
            }
            // The entries behind a huge folio's first have no page.
            for index in first..first + nr {
                if let Some(counts) = committed.source_counts(index) {
                    self.write(Stage::PagesSource, counts, self.held(index, &counts));
                }
                if let Some(counts) = committed.destination_counts(index) {
                    // A hole is filled by mapping it, which takes a reference that is expected.
                    self.write(Stage::PagesDestination, counts, 1);
                }
            }
        });
    }

    /// What is mapped at a range, after finalize. Looked up like a device does, without taking a
    /// reference: to look must not change what is seen. No lock may be held.
    pub(super) fn finalized(&self, mirror: &Mirror, range: Range<usize>) {
        if !self.state.ledger.wants_records() {
            return;
        }
        let mut last = None;
        // What cannot be looked up is not told.
        let Ok(mut room) = Room::new() else {
            return;
        };
        let _ = mirror.fill(&mut room, range, Want::Look, |_, _, seen| {
            let counts = seen.page().map(|page| page.counts());
            if let Some(counts) = counts.filter(|counts| last != Some(counts.pfn)) {
                last = Some(counts.pfn);
                self.write(Stage::Final, counts, 0);
            }
        });
    }
}
