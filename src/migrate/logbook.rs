// SPDX-License-Identifier: GPL-2.0

//! Reports the folios of a migration to the ledger, stage by stage. While nobody wants records, it reads nothing.

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
    /// The direction of the migration.
    pub(super) direction: Direction,
    /// The CPU fault that is being handled, which holds a reference on the folio that faulted.
    pub(super) fault: Option<&'a Fault<'a>>,
    /// The index of the entry whose source has an injected reference.
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

    /// Returns the number of references that are held on a source: the migration's, the fault's, the injected one.
    ///
    /// The fault's is on the first source, unless another page was mapped there after the fault.
    fn held(&self, index: usize, source: &Counts) -> i32 {
        let is_faulting = self
            .fault
            .is_some_and(|fault| fault.shape().pfn == source.pfn);
        1 + i32::from(is_faulting) + i32::from(self.extra_at == Some(index))
    }

    /// Reports the sources after setup.
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

    /// Reports the destinations when they are filled and given.
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

    /// Reports sources and destinations after `migrate_vma_pages()`.
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
            // Of a huge folio only the first entry has a page.
            for index in first..first + nr {
                if let Some(counts) = committed.source_counts(index) {
                    self.write(Stage::PagesSource, counts, self.held(index, &counts));
                }
                if let Some(counts) = committed.destination_counts(index) {
                    // The destination of a hole is mapped now. The reference of that mapping is an expected one.
                    self.write(Stage::PagesDestination, counts, 1);
                }
            }
        });
    }

    /// Reports what is mapped at a range after finalize. It is looked up as a device does, without taking references,
    /// which would change the counts. No lock may be held.
    pub(super) fn finalized(&self, mirror: &Mirror, range: Range<usize>) {
        if !self.state.ledger.wants_records() {
            return;
        }
        let mut last = None;
        // Without memory for the lookup, nothing is reported.
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
