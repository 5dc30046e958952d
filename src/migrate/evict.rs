// SPDX-License-Identifier: GPL-2.0

//! Eviction: pages come back because their owner closes, or the memory is to go.
//!
//! A huge folio needs a huge destination here, for which there is a reserve. What somebody holds is
//! tried again a few times, then left and reported.

use super::{
    fill::system_folio,
    logbook::Logbook,
    origin::{
        copy_back,
        Origin, //
    }, //
};
use crate::{
    device::{
        Core,
        Device, //
    },
    devmem::{
        Memory,
        Owner, //
    },
    inject::{
        Faults,
        Point, //
    },
    layer::mm::{
        migrate::{
            Batch,
            Collected, //
        },
        system::Blank,
        Size,
        HUGE_PAGES, //
    },
    ledger::Direction,
    pause::Stage,
    policy::{
        fates::Made,
        plan::{
            AttemptResult,
            Attempts,
            Next, //
        }, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How many stuck folios are remembered.
const REMEMBERED: usize = 64;

struct Eviction<'a> {
    core: &'a Core,
    owner: Option<&'a Arc<Owner>>,
    batch: Batch,
    pfns: KVec<usize>,
}

/// Brings the pages of an owner back, or everybody's. Sleeps; no lock may be held.
///
/// # Errors
///
/// `EBUSY` if pages are left because somebody holds them or there is no memory; `ENOMEM` if not even
/// the lists can be had.
pub fn evict(device: &Device, owner: Option<&Arc<Owner>>) -> Result {
    let core = device.core();
    let chunks = device.memory.chunks()?;
    let left = || -> usize {
        let of = |chunk: &Arc<Memory>| match owner {
            Some(owner) => chunk.owned_by(owner),
            None => chunk.usage().0,
        };
        chunks.iter().map(of).sum()
    };
    if left() == 0 {
        forget_stuck(core);
        return Ok(());
    }
    let mut eviction = Eviction {
        core,
        owner,
        batch: Batch::new()?,
        pfns: KVec::with_capacity(HUGE_PAGES, GFP_KERNEL)?,
    };
    let mut attempts = Attempts::patient();
    loop {
        for chunk in &chunks {
            eviction.chunk(chunk)?;
        }
        let stuck = left();
        if stuck == 0 {
            core.stats.retries.add(attempts.retries().into());
            forget_stuck(core);
            return Ok(());
        }
        let refused = AttemptResult {
            refused: true,
            ..AttemptResult::default()
        };
        match attempts.after(refused) {
            Next::Pause(milliseconds) => fsleep(Delta::from_millis(milliseconds.into())),
            Next::Again => {}
            Next::Done => {
                core.stats.retries.add(attempts.retries().into());
                core.stats.stuck.add(stuck as u64);
                eviction.remember(&chunks);
                return Err(EBUSY);
            }
        }
    }
}

/// The list is of the last eviction, and that left nothing.
fn forget_stuck(core: &Core) {
    // What was there goes after the lock.
    let _before = core::mem::take(&mut *core.stuck.lock());
}

impl Eviction<'_> {
    /// Keeps who holds what is stuck, as far as there is room.
    fn remember(&mut self, chunks: &[Arc<Memory>]) {
        let Ok(mut stuck) = KVec::with_capacity(REMEMBERED, GFP_KERNEL) else {
            return;
        };
        for chunk in chunks {
            let mut cursor = 0;
            self.pfns.clear();
            while stuck.len() < REMEMBERED
                && chunk.in_use(self.owner, &mut cursor, &mut self.pfns) > 0
            {
                for counts in self.pfns.drain_all().filter_map(|pfn| chunk.inspect(pfn)) {
                    // A full list is long enough.
                    let _ = stuck.push_within_capacity(counts);
                }
            }
        }
        // What was there goes after the lock.
        let _before = core::mem::replace(&mut *self.core.stuck.lock(), stuck);
    }

    /// One pass over a chunk.
    fn chunk(&mut self, memory: &Memory) -> Result {
        let mut cursor = 0;
        loop {
            self.pfns.clear();
            if memory.in_use(self.owner, &mut cursor, &mut self.pfns) == 0 {
                return Ok(());
            }
            self.core.reserve.fill();
            self.some(memory)?;
        }
    }

    /// What is listed in `pfns`.
    fn some(&mut self, memory: &Memory) -> Result {
        let core = self.core;
        let faults = Faults::new(self.owner.map(|owner| &owner.inject), &core.inject);
        let mut collected = self.batch.setup_device(memory, &self.pfns)?;
        let extra = match faults.fires(Point::ExtraRef) {
            true => (0..collected.len()).find_map(|i| Some((i, collected.source(i)?.hold()?))),
            false => None,
        };
        let log = Logbook {
            core,
            direction: Direction::Evict,
            fault: None,
            extra_at: extra.as_ref().map(|(index, _)| *index),
        };
        log.collected(&collected);
        faults.pause(Stage::Collected, Direction::Evict);
        fill(core, &faults, &mut collected);
        log.filled(&collected);
        faults.pause(Stage::Filled, Direction::Evict);
        let committed = collected.commit();
        faults.pause(Stage::Committed, Direction::Evict);
        let mut moved = 0;
        committed.outcomes(|_, nr, outcome| {
            if outcome.is_migrated() {
                moved += nr as u64;
            }
        });
        log.committed(&committed);
        drop(extra);
        faults.pause(Stage::Finalize, Direction::Evict);
        drop(committed);
        core.stats.evicted.add(moved);
        Ok(())
    }
}

/// Gives destinations to all entries for which there is one.
fn fill(core: &Core, faults: &Faults<'_>, collected: &mut Collected<'_>) {
    let mut origin = Origin::default();
    for index in 0..collected.len() {
        // What was just migrated away will be gone at the next look.
        let Some(source) = collected.source(index).filter(|source| !source.is_left()) else {
            continue;
        };
        let made = alloc(core, faults, collected.kind(index).size())
            .and_then(|folio| copy_back(faults, &mut origin, &source, folio));
        // Without a destination the page stays, a huge one too: nothing can split it without an address.
        if let Ok(destination) = made {
            // What does not fit is freed, and the page stays.
            let _ = collected.give(index, destination);
        }
    }
}

/// A destination; a huge one also out of the reserve.
fn alloc(core: &Core, faults: &Faults<'_>, size: Size) -> Made<Blank> {
    match system_folio(faults, size, || Blank::anywhere(size)) {
        Err(fate) if size == Size::Huge => core.reserve.take().ok_or(fate),
        folio => folio,
    }
}
