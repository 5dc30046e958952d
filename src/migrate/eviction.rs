// SPDX-License-Identifier: GPL-2.0

//! Eviction: migrates pages back to system memory because their owner closes its file, or because the device frees
//! its memory.
//!
//! A huge folio needs a huge destination here; one is kept in reserve. Folios with extra references are retried a
//! few times, then left on the device and reported.

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

/// The number of folios whose counts are recorded at most; chosen to be more than anybody reads.
const REMEMBERED: usize = 64;

struct Eviction<'a> {
    state: &'a State,
    owner: Option<&'a Arc<Owner>>,
    batch: Batch,
    pfns: KVec<usize>,
}

/// Evicts the pages of an owner, or of all owners. Sleeps; no lock may be held.
///
/// # Errors
///
/// `EBUSY` if pages are left, because they have extra references or there is no system memory for them; `ENOMEM`
/// if the lists for the eviction cannot be allocated.
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

/// Evicts the pages of all processes and frees the device's memory, as `HMM_DMIRROR_RELEASE` does. Sleeps; no
/// lock may be held.
///
/// # Errors
///
/// `EBUSY` if pages have extra references, or came to the device meanwhile; they stay, with their chunks.
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

/// Frees all memory of a device that has no open file. Waits for pages with extra references.
pub(crate) fn shut_down(device: &Device) {
    // No user is left who could disarm injected failures and pauses.
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

/// Evicts the pages of a client whose file is closed. Sleeps; no lock may be held.
///
/// Pages with extra references stay on the device; CPU faults of the process still bring them back.
pub(crate) fn close(client: &Client) {
    let owner = client.owner();
    // With the file closed, nobody could resume a migration that it has paused, such as a CPU fault's.
    owner.inject.pause.clear();
    if !owner.has_used() {
        return;
    }
    // Only the client's own pages: a close must not move those of other files (T14 in docs/defects.md).
    if let Err(error) = evict(client.device(), Some(owner)) {
        warn_limited!(
            "hmm_dmirror{}: pages stay on the device after close: {:?}\n",
            client.device().state().id(),
            error
        );
    }
    client.device().memory.trim();
    // Injected failures end with the file, also for pages that could not be evicted.
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
                    // Folios beyond the list's capacity are not recorded.
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

    /// Evicts the folios listed in `pfns`.
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

/// Gives a destination to each entry for which one can be allocated and filled.
fn fill(state: &State, injection: &Injection<'_>, collected: &mut Collected<'_>) {
    let mut origin = Origin::default();
    for index in 0..collected.len() {
        // A folio that was just migrated away will not be listed again.
        let Some(source) = collected.source(index).filter(|source| !source.is_left()) else {
            continue;
        };
        let made = alloc(state, injection, collected.kind(index).size())
            .and_then(|folio| copy_back(injection, &mut origin, &source, folio));
        // Without a destination the page stays, also a huge one: the core cannot split a folio without an address.
        if let Ok(destination) = made {
            // A destination that the entry cannot take is freed, and the page stays.
            let _ = collected.give(index, destination);
        }
    }
}

/// Allocates a destination. A huge one may come from the reserve.
fn alloc(state: &State, injection: &Injection<'_>, size: Size) -> Made<Blank> {
    match system_folio(injection, size, || Blank::anywhere(size)) {
        Err(fate) if size == Size::Huge => state.reserve.take().ok_or(fate),
        folio => folio,
    }
}
