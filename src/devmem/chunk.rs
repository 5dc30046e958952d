// SPDX-License-Identifier: GPL-2.0

//! A range of device memory, and what stands behind its pages.
//!
//! Private memory is played by [`Backing`]s of 2 MiB, made when a block is first used and kept until
//! nobody uses the block: a split has nothing to do there, and data never moves.

use crate::{
    device::Core,
    inject::Points,
    layer::mm::{
        backing::Backing,
        fault::{
            Fault,
            FaultError, //
        },
        pagemap::{
            Driver,
            Pagemap, //
        },
        user::UserPages,
        HUGE_PAGES,
        HUGE_SIZE, //
    },
    migrate,
    policy::around::Streams, //
};
use kernel::{
    new_spinlock,
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    }, //
};

/// A registered range of device memory.
pub type Memory = Pagemap<Chunk>;

/// Whose pages they are: an open file, as far as its pages know it.
///
/// Its last reference may go under a page table lock, so there is nothing in it that sleeps.
#[pin_data]
pub struct Owner {
    /// What is to fail.
    #[pin]
    pub inject: Points,
    /// Whether it ever had a page.
    used: Atomic<bool>,
    /// Where its process is expected to fault next.
    pub streams: Streams,
}

impl Owner {
    /// A new one.
    pub fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Owner {
                inject <- Points::new(),
                used: Atomic::new(false),
                streams: Streams::default(),
            }),
            GFP_KERNEL,
        )
    }

    /// Notes that it gets a page.
    pub fn note_use(&self) {
        self.used.store(true, Relaxed);
    }

    /// Whether it ever had a page: who had none has nothing to be looked for.
    pub fn has_used(&self) -> bool {
        self.used.load(Relaxed)
    }
}

/// The driver's side of a range of device memory.
pub struct Chunk {
    core: Arc<Core>,
    /// For private memory: what stands behind each block.
    backing: Option<Pin<KBox<SpinLock<Blocks>>>>,
}

type Blocks = KVec<Option<Arc<Backing>>>;

/// Where data is: a backing, and the number of the page in it.
pub type Place = (Arc<Backing>, usize);

impl Chunk {
    /// For a device.
    pub fn new(core: Arc<Core>) -> Result<Self> {
        let backing = match core.is_private() {
            false => None,
            true => {
                let nr = super::CHUNK_SIZE / HUGE_SIZE;
                let blocks = KVec::from_elem(None, nr, GFP_KERNEL)?;
                Some(KBox::pin_init(
                    new_spinlock!(blocks, "dmirror_backing"),
                    GFP_KERNEL,
                )?)
            }
        };
        Ok(Chunk { core, backing })
    }

    /// The device.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Where the data of a page is; `None` for coherent memory, which the CPU reaches itself.
    pub fn place(&self, offset: usize) -> Option<Place> {
        let block = self
            .backing
            .as_ref()?
            .lock()
            .get(offset / HUGE_PAGES)?
            .clone()?;
        Some((block, offset % HUGE_PAGES))
    }

    /// As [`Chunk::place`] for a page that was just allocated. May sleep.
    pub fn make_backing(&self, offset: usize) -> Result<Option<Place>> {
        let Some(blocks) = &self.backing else {
            return Ok(None);
        };
        if let Some(place) = self.place(offset) {
            return Ok(Some(place));
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
    pub fn copy_to_user(&self, offset: usize, nr: usize, to: &UserPages, at: usize) -> Result {
        let (backing, first) = self.place(offset).ok_or(EIO)?;
        backing.copy_to_user(first, nr, to, at)
    }

    /// As [`Chunk::copy_to_user`], the other way.
    pub fn copy_from_user(&self, offset: usize, nr: usize, from: &UserPages, at: usize) -> Result {
        let (backing, first) = self.place(offset).ok_or(EIO)?;
        backing.copy_from_user(first, nr, from, at)
    }

    /// Frees what stands behind blocks of which no page is in use.
    pub fn trim(memory: &Memory) {
        let Some(blocks) = &memory.data().backing else {
            return;
        };
        for block in 0..super::CHUNK_SIZE / HUGE_SIZE {
            let unused = {
                let mut blocks = blocks.lock();
                // Who takes a page of the block after this look will make a new backing: that
                // waits for this lock.
                match blocks.get_mut(block) {
                    Some(slot) if memory.block_is_free(block) => slot.take(),
                    _ => None,
                }
            };
            // Freeing may sleep.
            drop(unused);
        }
    }
}

impl Driver for Chunk {
    const NAME: &'static CStr = c"hmm_dmirror";

    type Owner = Owner;

    fn migrate_to_ram(memory: &Memory, fault: &Fault<'_>) -> core::result::Result<(), FaultError> {
        migrate::on_fault(memory, fault)
    }
}
