// SPDX-License-Identifier: GPL-2.0

//! Eviction: pages come back because their owner closes, or because the device gives its memory up.
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
    client::Client,
    device::{
        chunk::ChunkPagemap,
        owner::Owner,
        state::State,
        Device, //
    },
    inject::{
        Injection,
        Point, //
    },
    layer::{
        mm::{
            migrate::{
                Batch,
                Collected, //
            },
            system::Blank,
            Size,
            HUGE_PAGES, //
        },
        ratelimit::warn_limited, //
    },
    ledger::Direction,
    pause::PausePoint,
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

/// The most folios whose counts are recorded; chosen to be more than anybody reads.
const REMEMBERED: usize = 64;

struct Eviction<'a> {
    state: &'a State,
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
pub(crate) fn evict(device: &Device, owner: Option<&Arc<Owner>>) -> Result {
    let state = device.state();
    let chunks = device.memory.chunks()?;
    let left = || -> usize {
        let of = |chunk: &Arc<ChunkPagemap>| match owner {
            Some(owner) => chunk.owned_by(owner),
            None => chunk.usage().0,
        };
        chunks.iter().map(of).sum()
    };
    if left() == 0 {
        forget_stuck(state);
        return Ok(());
    }
    let mut eviction = Eviction {
        state,
        owner,
        batch: Batch::new()?,
        pfns: KVec::with_capacity(HUGE_PAGES, GFP_KERNEL)?,
    };
    let mut attempts = Attempts::patient();
    loop {
        for chunk in &chunks {
            eviction.evict_chunk(chunk)?;
        }
        let stuck = left();
        if stuck == 0 {
            state.stats.retries.add(attempts.retries().into());
            forget_stuck(state);
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
                state.stats.retries.add(attempts.retries().into());
                state.stats.stuck.add(stuck as u64);
                eviction.remember(&chunks);
                return Err(EBUSY);
            }
        }
    }
}

/// Brings the pages of all processes back and frees the memory, as `HMM_DMIRROR_RELEASE` does. Sleeps; no
/// lock may be held.
///
/// # Errors
///
/// `EBUSY` if somebody holds pages; they stay, with their chunks.
pub(crate) fn release(device: &Device) -> Result {
    let chunks = device.memory.chunks()?;
    for chunk in &chunks {
        chunk.close(true);
    }
    let evicted = evict(device, None);
    for chunk in &chunks {
        chunk.close(false);
    }
    drop(chunks);
    evicted?;
    match device.memory.shrink()? {
        0 => Ok(()),
        _ => Err(EBUSY),
    }
}

/// Frees all memory of a device that no file is open on. Waits for pages that somebody holds.
pub(crate) fn shut_down(device: &Device) {
    // No user is left who could disarm them.
    device.state().inject.clear();
    device.state().inject.pause.clear();
    let pause = Delta::from_millis(100);
    for round in 0u32.. {
        match release(device) {
            Ok(()) => return,
            Err(error) if round % 100 == 0 => pr_warn!(
                "hmm_dmirror{}: waiting for {} pages that are held: {:?}\n",
                device.state().id(),
                device.memory.usage().1,
                error
            ),
            Err(_) => {}
        }
        fsleep(pause);
    }
}

/// Evicts the pages of a client that closes its file. Sleeps; no lock may be held.
///
/// Pages that somebody holds stay on the device, and the process still faults them back.
pub(crate) fn close(client: &Client) {
    let owner = client.owner();
    // No file is left to resume what it stops. A CPU fault may be stopped now, and hold its page.
    owner.inject.pause.clear();
    if !owner.has_used() {
        return;
    }
    // Its own pages only: a close must not move those of other files (T14).
    if let Err(error) = evict(client.device(), Some(owner)) {
        warn_limited!(
            "hmm_dmirror{}: pages stay on the device after close: {:?}\n",
            client.device().state().id(),
            error
        );
    }
    client.device().memory.trim();
    // Injected failures end with the file, also for pages that could not leave.
    owner.inject.clear();
}

/// Empties the list of folios that could not be evicted.
fn forget_stuck(state: &State) {
    // Freed after the lock is released.
    let _before = core::mem::take(&mut *state.stuck.lock());
}

impl Eviction<'_> {
    /// Records the counts of folios that could not be evicted, up to [`REMEMBERED`].
    fn remember(&mut self, chunks: &[Arc<ChunkPagemap>]) {
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
        // Freed after the lock is released.
        let _before = core::mem::replace(&mut *self.state.stuck.lock(), stuck);
    }

    /// Makes one pass over a chunk.
    fn evict_chunk(&mut self, chunk: &ChunkPagemap) -> Result {
        let mut cursor = 0;
        loop {
            self.pfns.clear();
            if chunk.in_use(self.owner, &mut cursor, &mut self.pfns) == 0 {
                return Ok(());
            }
            self.state.reserve.fill();
            self.evict_listed(chunk)?;
        }
    }

    /// Evicts the folios that are listed in `pfns`.
    fn evict_listed(&mut self, chunk: &ChunkPagemap) -> Result {
        let state = self.state;
        let injection = Injection::new(self.owner.map(|owner| &owner.inject), &state.inject);
        let mut collected = self.batch.setup_device(chunk, &self.pfns)?;
        let extra = match injection.fires(Point::ExtraRef) {
            true => (0..collected.len()).find_map(|i| Some((i, collected.source(i)?.hold()?))),
            false => None,
        };
        let log = Logbook {
            state,
            direction: Direction::Evict,
            fault: None,
            extra_at: extra.as_ref().map(|(index, _)| *index),
        };
        log.collected(&collected);
        injection.pause(PausePoint::Collected, Direction::Evict);
        fill(state, &injection, &mut collected);
        log.filled(&collected);
        injection.pause(PausePoint::Filled, Direction::Evict);
        let committed = collected.commit();
        injection.pause(PausePoint::Committed, Direction::Evict);
        let mut moved = 0;
        committed.outcomes(|_, nr, outcome| {
            if outcome.is_migrated() {
                moved += nr as u64;
            }
        });
        log.committed(&committed);
        drop(extra);
        injection.pause(PausePoint::Finalize, Direction::Evict);
        drop(committed);
        state.stats.evicted.add(moved);
        Ok(())
    }
}

/// Gives destinations to all entries for which there is one.
fn fill(state: &State, injection: &Injection<'_>, collected: &mut Collected<'_>) {
    let mut origin = Origin::default();
    for index in 0..collected.len() {
        // What was just migrated away will be gone at the next look.
        let Some(source) = collected.source(index).filter(|source| !source.is_left()) else {
            continue;
        };
        let made = alloc(state, injection, collected.kind(index).size())
            .and_then(|folio| copy_back(injection, &mut origin, &source, folio));
        // Without a destination the page stays, a huge one too: nothing can split it without an address.
        if let Ok(destination) = made {
            // What does not fit is freed, and the page stays.
            let _ = collected.give(index, destination);
        }
    }
}

/// A destination; a huge one also out of the reserve.
fn alloc(state: &State, injection: &Injection<'_>, size: Size) -> Made<Blank> {
    match system_folio(injection, size, || Blank::anywhere(size)) {
        Err(fate) if size == Size::Huge => state.reserve.take().ok_or(fate),
        folio => folio,
    }
}
