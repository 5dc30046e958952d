// SPDX-License-Identifier: GPL-2.0

//! The memory of a device. Private memory is made in chunks of 256 MiB, as they are needed. Coherent memory is one
//! chunk of the whole range.
//!
//! A chunk is made before a migration collects its pages, never after: that waits for memory hotplug, which may wait
//! for these very pages. The lock of the list is not held while a chunk is freed, which waits for its last page.

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

/// The number of chunks that a device may have at most; chosen: 4 GiB.
const MOST: usize = 16;

/// The private memory that a device may have at most, in chunks. At least one.
#[derive(Clone, Copy)]
pub(crate) struct Limit(usize);

impl Limit {
    /// The largest limit, in MiB.
    pub(crate) const MOST_MIB: u64 = Limit::mib(MOST);

    const fn mib(chunks: usize) -> u64 {
        (chunks * (CHUNK_SIZE >> 20)) as u64
    }

    /// Makes a limit from a number of MiB.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is no whole number of chunks, no chunk, or too many.
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
    /// Held while a chunk is made, so that only one is made at a time.
    #[pin]
    growing: Mutex<()>,
    /// The limit of private memory, in chunks.
    limit: Atomic<usize>,
}

impl Memory {
    /// Makes a device's memory, without chunks.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Memory {
            chunks <- new_mutex!(KVec::new(), "dmirror_chunks"),
            growing <- new_mutex!((), "dmirror_growing"),
            limit: Atomic::new(MOST),
        })
    }

    /// Limits the chunks that are made from now on. Chunks above the limit stay until no page of them is in use.
    pub(crate) fn set_limit(&self, limit: Limit) {
        self.limit.store(limit.0, Relaxed);
    }

    /// Returns the limit, in MiB.
    pub(crate) fn limit_mib(&self) -> u64 {
        Limit::mib(self.limit.load(Relaxed))
    }

    /// Returns a copy of the list of chunks.
    pub(crate) fn chunks(&self) -> Result<KVec<Arc<ChunkPagemap>>> {
        let mut copies = KVec::with_capacity(MOST, GFP_KERNEL)?;
        for chunk in self.chunks.lock().iter() {
            copies
                .push_within_capacity(chunk.clone())
                .map_err(|_| ENOMEM)?;
        }
        Ok(copies)
    }

    /// Returns the number of chunks, of pages in use, and of all pages.
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

    /// Makes a chunk if no chunk has room for one more huge folio. Sleeps; no lock may be held.
    ///
    /// A failure is only logged: the allocation of a folio will fail.
    pub(crate) fn make_room(&self, state: &Arc<State>) {
        if let Err(error) = self.try_make_room(state) {
            warn_limited!(
                "hmm_dmirror{}: no more device memory: {:?}\n",
                state.id(),
                error
            );
        }
    }

    /// As [`Memory::make_room`], but returns the error. A device at its limit is no error.
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
            // Each device has its own range and uses all of it (T17 in docs/defects.md).
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
        // This cannot fail after `reserve`. If it did, the chunk must not be dropped with the lock held.
        refused.map_err(|_| ENOMEM)
    }

    /// Returns the current chunks, to allocate folios from. Must not be dropped with locks held: it may have the last
    /// reference to a chunk that has been removed from the list.
    pub(crate) fn supply(&self) -> Result<Supply> {
        Ok(Supply::new(self.chunks()?))
    }

    /// Frees the chunks without a page in use. Returns the number of pages in use that keep the others. Sleeps.
    pub(crate) fn shrink(&self) -> Result<usize> {
        let mut kept = 0;
        let mut empty = KVec::with_capacity(MOST, GFP_KERNEL)?;
        {
            let mut chunks = self.chunks.lock();
            let mut at = 0;
            while at < chunks.len() {
                // A retired chunk hands out no more folios, also to a task that has copied the list before.
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

    /// Returns the number of pages that an owner has on the device.
    pub(crate) fn owned_by(&self, owner: &Arc<Owner>) -> Result<usize> {
        let chunks = self.chunks()?;
        Ok(chunks.iter().map(|chunk| chunk.owned_by(owner)).sum())
    }

    /// Frees the backings of blocks that nobody uses. Sleeps.
    pub(crate) fn trim(&self) {
        for chunk in self.chunks.lock().iter() {
            Chunk::trim(chunk);
        }
    }
}
