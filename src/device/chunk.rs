// SPDX-License-Identifier: GPL-2.0

//! A range of device memory, and what stands behind its pages.
//!
//! Private memory is played by [`Backing`]s of 2 MiB, made when a block is first used and kept until
//! nobody uses the block: a split has nothing to do there, and data never moves.

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

/// A chunk with its `struct dev_pagemap`. How it handles CPU faults is in `migrate/fault.rs`.
pub(crate) type ChunkPagemap = Pagemap<Chunk>;

/// The driver's side of a range of device memory.
pub(crate) struct Chunk {
    state: Arc<State>,
    /// For private memory: what stands behind each block.
    backing: Option<Pin<KBox<SpinLock<Blocks>>>>,
}

type Blocks = KVec<Option<Arc<Backing>>>;

/// What holds the data of a page: a backing, and the number of the page in it.
pub(crate) type BackingPage = (Arc<Backing>, usize);

impl Chunk {
    /// For a device.
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

    /// The state of the device.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Returns what holds the data of a page; `None` for coherent memory, which the CPU reaches itself.
    pub(crate) fn backing_page(&self, offset: usize) -> Option<BackingPage> {
        let block = self
            .backing
            .as_ref()?
            .lock()
            .get(offset / HUGE_PAGES)?
            .clone()?;
        Some((block, offset % HUGE_PAGES))
    }

    /// As [`Chunk::backing_page`] for a page that was just allocated. May sleep.
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
            // Somebody with another page of the block may have been faster.
            slot.get_or_insert_with(|| new.clone()).clone()
        };
        Ok(Some((block, offset % HUGE_PAGES)))
    }

    /// Copies `nr` pages of private memory, all of one block, to user memory, page `at` of it and on.
    /// Does not fault; see [`Backing::copy_to_user`].
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

    /// As [`Chunk::copy_to_user`], the other way.
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

    /// Frees what stands behind blocks of which no page is in use.
    pub(crate) fn trim(chunk: &ChunkPagemap) {
        let Some(blocks) = &chunk.data().backing else {
            return;
        };
        for block in 0..CHUNK_SIZE / HUGE_SIZE {
            let unused = {
                let mut blocks = blocks.lock();
                // Who takes a page of the block after this look will make a new backing: that
                // waits for this lock.
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

/// Returns whether pages are memory of this device.
pub(crate) fn is_own(device: &State, pages: &Mapped<'_>) -> bool {
    pages
        .device::<Chunk>()
        .is_some_and(|(chunk, _)| core::ptr::eq(&**chunk.data().state(), device))
}
