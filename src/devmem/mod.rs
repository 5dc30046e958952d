// SPDX-License-Identifier: GPL-2.0

//! The memory of a device: chunks of 256 MiB, made as they are needed; or one range, used whole.
//!
//! Chunks are made before a migration collects its pages, never while it holds any: making one waits
//! for memory hotplug, which may wait for the very pages. The lock of the list is not held while a
//! chunk goes, which waits for its last page.

pub mod chunk;
pub mod reserve;

pub use chunk::{
    Chunk,
    Memory,
    Owner, //
};
pub use reserve::Reserve;

use crate::{
    device::{
        Core,
        Kind, //
    },
    layer::mm::{
        migrate::Source,
        pagemap::{
            self,
            DeviceFolio,
            OwnerId, //
        }, //
    },
    layer::ratelimit::warn_limited, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// Bytes of a chunk of private memory.
pub const CHUNK_SIZE: usize = 256 << 20;

/// The most chunks that a device may have: 4 GiB.
const MOST: usize = 16;

/// The memory of a device.
#[pin_data]
pub struct DeviceMemory {
    #[pin]
    chunks: Mutex<KVec<Arc<Memory>>>,
    /// One chunk is made at a time.
    #[pin]
    growing: Mutex<()>,
}

impl DeviceMemory {
    /// None yet.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(DeviceMemory {
            chunks <- new_mutex!(KVec::new(), "dmirror_chunks"),
            growing <- new_mutex!((), "dmirror_growing"),
        })
    }

    /// The chunks of this moment.
    pub fn chunks(&self) -> Result<KVec<Arc<Memory>>> {
        let mut copies = KVec::with_capacity(MOST, GFP_KERNEL)?;
        for chunk in self.chunks.lock().iter() {
            copies
                .push_within_capacity(chunk.clone())
                .map_err(|_| ENOMEM)?;
        }
        Ok(copies)
    }

    /// Chunks, pages in use, pages in all.
    pub fn usage(&self) -> (usize, usize, usize) {
        let chunks = self.chunks.lock();
        let (mut used, mut total) = (0, 0);
        for chunk in chunks.iter() {
            let (chunk_used, chunk_total) = chunk.usage();
            used += chunk_used;
            total += chunk_total;
        }
        (chunks.len(), used, total)
    }

    /// Makes a chunk if there is not room for one more huge folio. Sleeps; no lock may be held.
    ///
    /// Failing is no error: allocations will say that there is no memory.
    pub fn make_room(&self, core: &Arc<Core>) {
        if let Err(error) = self.try_make_room(core) {
            warn_limited!(
                "hmm_dmirror{}: no more device memory: {:?}\n",
                core.id(),
                error
            );
        }
    }

    /// As [`DeviceMemory::make_room`]. A device that has all it may have is no error.
    pub fn try_make_room(&self, core: &Arc<Core>) -> Result {
        let has_room = || self.chunks.lock().iter().any(|chunk| chunk.has_huge_room());
        if has_room() {
            return Ok(());
        }
        let _growing = self.growing.lock();
        let (memory, size, most) = match core.kind() {
            Kind::Private => (pagemap::Memory::Private, CHUNK_SIZE, MOST),
            // One range per device, used whole (T17).
            Kind::Coherent(span) => (pagemap::Memory::Coherent(span.start), span.size, 1),
        };
        if has_room() || self.chunks.lock().len() >= most {
            return Ok(());
        }
        let chunk = Arc::pin_init(
            Memory::new(
                memory,
                size,
                OwnerId::of(&**core),
                Chunk::new(core.clone())?,
            ),
            GFP_KERNEL,
        )?;
        // If even this fails, the chunk just goes again, with no lock held.
        let refused = self.chunks.lock().push(chunk, GFP_KERNEL | __GFP_NOWARN);
        refused.map_err(Error::from)
    }

    /// A new folio, locked and not filled. Does not sleep for long.
    pub fn alloc(&self, huge: bool, owner: &Arc<Owner>) -> Result<NewFolio> {
        let folio = self
            .chunks
            .lock()
            .iter()
            .find_map(|chunk| chunk.alloc(huge, owner.clone()))
            .ok_or(ENOMEM)?;
        Ok(NewFolio(folio))
    }

    /// Takes the chunks away that have no page in use. Returns how many pages keep others.
    pub fn shrink(&self) -> Result<usize> {
        let mut kept = 0;
        let mut empty = KVec::with_capacity(MOST, GFP_KERNEL)?;
        {
            let mut chunks = self.chunks.lock();
            let mut at = 0;
            while at < chunks.len() {
                // Nobody finds it while the list is locked, so what is empty stays so.
                match chunks[at].usage().0 {
                    0 if empty.len() < MOST => {
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

    /// Frees the memory behind blocks that nobody uses.
    pub fn trim(&self) {
        for chunk in self.chunks.lock().iter() {
            Chunk::trim(chunk);
        }
    }
}

/// A new folio of device memory that is to be filled.
pub struct NewFolio(DeviceFolio);

impl NewFolio {
    /// Fills it with the data of a source of the same size, or with zeroes. May sleep.
    pub fn fill(mut self, from: Option<Source<'_>>) -> Result<DeviceFolio> {
        let chunk = self.0.pagemap::<Chunk>().ok_or(EINVAL)?.data();
        match (chunk.make_backing(self.0.offset())?, from) {
            (Some((backing, first)), Some(source)) => source.copy_to(&backing, first)?,
            (Some((backing, first)), None) => backing.clear(first, self.0.folio().pfns().len())?,
            (None, Some(source)) => self.0.fill_from(&source)?,
            (None, None) => self.0.clear()?,
        }
        Ok(self.0)
    }
}
