// SPDX-License-Identifier: GPL-2.0

//! What a migration tells the ledger, stage by stage. Nothing is looked at while nobody wants it.

use super::Direction;
use crate::{
    device::Core,
    layer::mm::{
        folio::{
            Counts,
            Folio, //
        },
        migrate::{
            Collected,
            Committed,
            Outcome, //
        }, //
    },
    ledger::{
        Record,
        Stage, //
    }, //
};
use kernel::prelude::*;

/// The reports of one attempt.
pub struct Logbook<'a> {
    /// The device.
    pub core: &'a Core,
    /// Where to.
    pub direction: Direction,
    /// The entry whose source has a reference more, by injection.
    pub extra_at: Option<usize>,
}

impl Logbook<'_> {
    fn write(&self, stage: Stage, counts: Counts, held: i32) {
        self.core.ledger.write(Record {
            stage,
            device: self.core.id(),
            direction: self.direction,
            counts,
            held,
        });
    }

    /// References on a source: the migration's, the fault's, the injected one.
    fn held(&self, index: usize) -> i32 {
        1 + i32::from(self.direction == Direction::Fault) + i32::from(self.extra_at == Some(index))
    }

    /// Sources, after setup.
    pub fn collected(&self, collected: &Collected<'_>) {
        if !self.core.ledger.wants_records() {
            return;
        }
        for index in 0..collected.len() {
            if let Some(source) = collected.source(index) {
                self.write(Stage::Setup, source.counts(), self.held(index));
            }
        }
    }

    /// Destinations, filled and given.
    pub fn filled(&self, collected: &Collected<'_>) {
        if !self.core.ledger.wants_records() {
            return;
        }
        for index in 0..collected.len() {
            if let Some(counts) = collected.destination_counts(index) {
                self.write(Stage::Filled, counts, 1);
            }
        }
    }

    /// Sources and destinations, after pages. What is given back is to be told after finalize.
    #[must_use = "the last stage is still to be told"]
    pub fn committed(&self, committed: &Committed<'_>) -> Finals {
        let mut finals = Finals(KVec::new());
        if !self.core.ledger.wants_records() {
            return finals;
        }
        committed.outcomes(|index, _, outcome| {
            if outcome == Outcome::NotCollected {
                return;
            }
            if let Some(counts) = committed.source_counts(index) {
                self.write(Stage::PagesSource, counts, self.held(index));
                finals.keep(Stage::FinalSource, committed.hold_source(index));
            }
            if let Some(counts) = committed.destination_counts(index) {
                // A hole is filled by mapping it, which takes a reference that is expected.
                self.write(Stage::PagesDestination, counts, 1);
                finals.keep(Stage::FinalDestination, committed.hold_destination(index));
            }
        });
        finals
    }

    /// Sources and destinations, after finalize: with the one reference that let us look.
    pub fn finalized(&self, finals: Finals) {
        for (stage, folio) in &finals.0 {
            self.write(*stage, folio.counts(), 1);
        }
    }
}

/// Folios to be looked at once more.
pub struct Finals(KVec<(Stage, Folio)>);

impl Finals {
    fn keep(&mut self, stage: Stage, folio: Option<Folio>) {
        if let Some(folio) = folio {
            // Without memory for it, the last stage is not told.
            let _ = self.0.push((stage, folio), GFP_KERNEL | __GFP_NOWARN);
        }
    }
}
