// SPDX-License-Identifier: GPL-2.0

//! A chunk: a range of device memory, with the kernel memory that simulates it.
//!
//! The data of private memory is in [`Backing`]s, one for each block of 2 MiB. A backing is allocated when a page of
//! the block is first used, and kept until no page of it is in use. It does not depend on the size of folios: if one
//! is split, the data stays where it is.

use super::state::State;
use crate::layer::mm::{
    backing::Backing,
    mapped::Mapped,
    pagemap::Pagemap,
    user::UserPages,
    HUGE_PAGES,
    HUGE_SIZE, //
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    }, //
};

/// Bytes of a chunk of private memory.
pub(crate) const CHUNK_SIZE: usize = 256 << 20;

/// A chunk with its `struct dev_pagemap`. `migrate/fault.rs` handles its CPU faults.
pub(crate) type ChunkPagemap = Pagemap<Chunk>;

/// The driver's data of a chunk.
pub(crate) struct Chunk {
    state: Arc<State>,
    /// For private memory: the backing of each block.
    backing: Option<Pin<KBox<SpinLock<Blocks>>>>,
}

type Blocks = KVec<Option<Arc<Backing>>>;

/// Where the data of a page is: the backing of its block, and the index of the page in it.
pub(crate) type BackingPage = (Arc<Backing>, usize);

impl Chunk {
    /// Makes the data of a chunk, without backings.
    pub(crate) fn new(state: Arc<State>) -> Result<Self> {
        let backing = match state.is_private() {
            false => None,
            true => {
                let nr = CHUNK_SIZE / HUGE_SIZE;
                let blocks = KVec::from_elem(None, nr, GFP_KERNEL)?;
                Some(KBox::pin_init(
                    new_spinlock!(blocks, "dmirror_backing"),
                    GFP_KERNEL,
                )?)
            }
        };
        Ok(Chunk { state, backing })
    }

    /// Returns the state of the device.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Returns where the data of a page is. `None` for coherent memory, which has its own data.
    pub(crate) fn backing_page(&self, offset: usize) -> Option<BackingPage> {
        let block = self
            .backing
            .as_ref()?
            .lock()
            .get(offset / HUGE_PAGES)?
            .clone()?;
        Some((block, offset % HUGE_PAGES))
    }

    /// As [`Chunk::backing_page`], for a page that was just allocated: makes the backing if there is none. May sleep.
    pub(crate) fn make_backing(&self, offset: usize) -> Result<Option<BackingPage>> {
        let Some(blocks) = &self.backing else {
            return Ok(None);
        };
        if let Some(page) = self.backing_page(offset) {
            return Ok(Some(page));
        }
        let new = Arc::new(Backing::new()?, GFP_KERNEL)?;
        let block = {
            let mut blocks = blocks.lock();
            let slot = blocks.get_mut(offset / HUGE_PAGES).ok_or(EINVAL)?;
            // Another thread may just have made it, for another page of the block.
            slot.get_or_insert_with(|| new.clone()).clone()
        };
        Ok(Some((block, offset % HUGE_PAGES)))
    }

    /// Copies `nr` pages of private memory, all of one block, to user memory from its page `at` on. Does not fault;
    /// see [`Backing::copy_to_user`].
    pub(crate) fn copy_to_user(
        &self,
        offset: usize,
        nr: usize,
        to: &UserPages,
        at: usize,
    ) -> Result {
        let (backing, first) = self.backing_page(offset).ok_or(EIO)?;
        backing.copy_to_user(first, nr, to, at)
    }

    /// As [`Chunk::copy_to_user`], in the other direction.
    pub(crate) fn copy_from_user(
        &self,
        offset: usize,
        nr: usize,
        from: &UserPages,
        at: usize,
    ) -> Result {
        let (backing, first) = self.backing_page(offset).ok_or(EIO)?;
        backing.copy_from_user(first, nr, from, at)
    }

    /// Frees the backings of blocks of which no page is in use. Sleeps.
    pub(crate) fn trim(chunk: &ChunkPagemap) {
        let Some(blocks) = &chunk.data().backing else {
            return;
        };
        for block in 0..CHUNK_SIZE / HUGE_SIZE {
            let unused = {
                let mut blocks = blocks.lock();
                // If a page of the block is allocated after this check, `make_backing` waits for this
                // lock and then makes a new backing.
                match blocks.get_mut(block) {
                    Some(slot) if chunk.block_is_free(block) => slot.take(),
                    _ => None,
                }
            };
            // Freeing may sleep.
            drop(unused);
        }
    }
}

/// Returns whether mapped pages are memory of this device.
pub(crate) fn is_own(device: &State, pages: &Mapped<'_>) -> bool {
    pages
        .device::<Chunk>()
        .is_some_and(|(chunk, _)| core::ptr::eq(&**chunk.data().state(), device))
}
