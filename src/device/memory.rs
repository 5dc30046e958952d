// SPDX-License-Identifier: GPL-2.0

//! The memory of a device: chunks of 256 MiB, made as they are needed; or one range, used whole.
//!
//! Chunks are made before a migration collects its pages, never while it holds any: making one waits
//! for memory hotplug, which may wait for the very pages. The lock of the list is not held while a
//! chunk goes, which waits for its last page.

use super::{
    chunk::{
        Chunk,
        ChunkPagemap,
        CHUNK_SIZE, //
    },
    owner::Owner,
    state::{
        MemoryType,
        State, //
    },
    supply::Supply, //
};
use crate::layer::{
    mm::pagemap,
    ratelimit::warn_limited, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// The most chunks that a device may ever have: 4 GiB.
const MOST: usize = 16;

/// How much private memory a device may have: a number of chunks, one at least.
#[derive(Clone, Copy)]
pub(crate) struct Limit(usize);

impl Limit {
    /// What there may be at most.
    pub(crate) const MOST_MIB: u64 = Limit::mib(MOST);

    const fn mib(chunks: usize) -> u64 {
        (chunks * (CHUNK_SIZE >> 20)) as u64
    }

    /// From a number of MiB.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is not a number of chunks, none, or too many.
    pub(crate) fn new(mib: u64) -> Result<Self> {
        let chunks = (1..=MOST).find(|chunks| Limit::mib(*chunks) == mib);
        chunks.map(Limit).ok_or(EINVAL)
    }
}

/// The memory of a device.
#[pin_data]
pub(crate) struct Memory {
    #[pin]
    chunks: Mutex<KVec<Arc<ChunkPagemap>>>,
    /// One chunk is made at a time.
    #[pin]
    growing: Mutex<()>,
    /// For private memory, in chunks.
    limit: Atomic<usize>,
}

impl Memory {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Memory {
            chunks <- new_mutex!(KVec::new(), "dmirror_chunks"),
            growing <- new_mutex!((), "dmirror_growing"),
            limit: Atomic::new(MOST),
        })
    }

    /// Makes no more than this from now on. What is there stays until nobody uses it.
    pub(crate) fn set_limit(&self, limit: Limit) {
        self.limit.store(limit.0, Relaxed);
    }

    /// The limit, in MiB.
    pub(crate) fn limit_mib(&self) -> u64 {
        Limit::mib(self.limit.load(Relaxed))
    }

    /// The chunks of this moment.
    pub(crate) fn chunks(&self) -> Result<KVec<Arc<ChunkPagemap>>> {
        let mut copies = KVec::with_capacity(MOST, GFP_KERNEL)?;
        for chunk in self.chunks.lock().iter() {
            copies
                .push_within_capacity(chunk.clone())
                .map_err(|_| ENOMEM)?;
        }
        Ok(copies)
    }

    /// Chunks, pages in use, pages in all.
    pub(crate) fn usage(&self) -> (usize, usize, usize) {
        let chunks = self.chunks.lock();
        let (mut used, mut total) = (0, 0);
        for chunk in chunks.iter() {
            let (chunk_used, chunk_total) = chunk.usage();
            used += chunk_used;
            total += chunk_total;
        }
        (chunks.len(), used, total)
    }

    /// Makes a chunk if there is not room for one more folio of the largest kind. Sleeps; no lock may be held.
    ///
    /// Failing is no error: allocations will say that there is no memory.
    pub(crate) fn make_room(&self, state: &Arc<State>) {
        if let Err(error) = self.try_make_room(state) {
            warn_limited!(
                "hmm_dmirror{}: no more device memory: {:?}\n",
                state.id(),
                error
            );
        }
    }

    /// As [`Memory::make_room`]. A device that has all it may have is no error.
    pub(crate) fn try_make_room(&self, state: &Arc<State>) -> Result {
        let has_room = || self.chunks.lock().iter().any(|chunk| chunk.has_room());
        if has_room() {
            return Ok(());
        }
        let _growing = self.growing.lock();
        let (memory, size, most) = match state.memory_type() {
            MemoryType::Private => {
                let most = self.limit.load(Relaxed);
                (pagemap::Memory::Private, CHUNK_SIZE, most)
            }
            // One range per device, used whole (T17).
            MemoryType::Coherent(range) => (pagemap::Memory::Coherent(range), range.size(), 1),
        };
        if has_room() || self.chunks.lock().len() >= most {
            return Ok(());
        }
        self.chunks.lock().reserve(1, GFP_KERNEL)?;
        let chunk = Arc::pin_init(
            ChunkPagemap::new(
                memory,
                size,
                state.pgmap_owner(),
                Chunk::new(state.clone())?,
            ),
            GFP_KERNEL,
        )?;
        let refused = self.chunks.lock().push_within_capacity(chunk);
        // There is room, but should there be none, the chunk must not go under the lock.
        refused.map_err(|_| ENOMEM)
    }

    /// What there is at this moment, to allocate from. Not to be dropped with locks held: it may be the
    /// last to know a chunk that is given up meanwhile.
    pub(crate) fn supply(&self) -> Result<Supply> {
        Ok(Supply::new(self.chunks()?))
    }

    /// Takes the chunks away that have no page in use. Returns how many pages keep others.
    pub(crate) fn shrink(&self) -> Result<usize> {
        let mut kept = 0;
        let mut empty = KVec::with_capacity(MOST, GFP_KERNEL)?;
        {
            let mut chunks = self.chunks.lock();
            let mut at = 0;
            while at < chunks.len() {
                // Who found it in the list before gets no folio of it any more.
                match chunks[at].retire() {
                    0 => {
                        let chunk = chunks.remove(at).map_err(|_| EINVAL)?;
                        empty.push_within_capacity(chunk).map_err(|_| EINVAL)?;
                    }
                    used => {
                        kept += used;
                        at += 1;
                    }
                }
            }
        }
        drop(empty);
        Ok(kept)
    }

    /// Returns the number of pages that belong to an owner.
    pub(crate) fn owned_by(&self, owner: &Arc<Owner>) -> Result<usize> {
        let chunks = self.chunks()?;
        Ok(chunks.iter().map(|chunk| chunk.owned_by(owner)).sum())
    }

    /// Frees the memory behind blocks that nobody uses.
    pub(crate) fn trim(&self) {
        for chunk in self.chunks.lock().iter() {
            Chunk::trim(chunk);
        }
    }
}
