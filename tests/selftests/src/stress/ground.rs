// SPDX-License-Identifier: GPL-2.0

//! The memory under stress: areas that move, lose pages and change their protection.
//!
//! A thread that accesses an area by the CPU, where the wrong moment would be a legitimate SIGSEGV, takes its
//! `shape` for reading. A thread that changes mappings takes it for writing. Migrations and other calls of the
//! driver take it not at all: they may run at any moment, and can tell from the area's stamp that the mapping has
//! changed meanwhile.

use std::{
    num::NonZeroUsize,
    ops::Range,
    ptr::NonNull,
    sync::{
        atomic::{
            AtomicU64, AtomicU8, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
        Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    },
};

use anyhow::{ensure, Context, Result};
use nix::{
    errno::Errno,
    libc,
    sys::mman::{mmap_anonymous, MapFlags, ProtFlags},
};

use crate::{area::HUGE, device::PAGE_SIZE};

const HUGE_SIZE: usize = HUGE * PAGE_SIZE;

/// The access that the CPU has to a page.
pub const NONE: u8 = 0;
pub const READ: u8 = 1;
pub const WRITE: u8 = 2;

/// Two reserved ranges. The area is in one of them.
const SLOTS: usize = 2;

/// Held while there is a hole in the address space that no other thread may fill.
static HOLE: Mutex<()> = Mutex::new(());

/// Takes a lock even if it is poisoned: the panic of its holder has already failed the run.
macro_rules! despite_panics {
    ($lock:expr) => {
        $lock.unwrap_or_else(std::sync::PoisonError::into_inner)
    };
}

/// Keeps the holes of this process for those who made them.
pub fn no_holes() -> MutexGuard<'static, ()> {
    despite_panics!(HOLE.lock())
}

pub struct Ground {
    index: usize,
    npages: usize,
    slots: [usize; SLOTS],
    base: &'static AtomicUsize,
    /// The slot that the area is in.
    shape: RwLock<usize>,
    stamp: AtomicU64,
    locks: Vec<RwLock<()>>,
    protection: Vec<AtomicU8>,
}

/// What was known of an area's shape before an access.
#[derive(Clone, Copy)]
pub struct Stamp(u64);

/// A guard with which the area's mapping does not change.
pub struct Still<'a> {
    ground: &'a Ground,
    _shape: RwLockReadGuard<'a, usize>,
}

/// A guard with which only this thread changes the area's mapping.
pub struct Changing<'a> {
    ground: &'a Ground,
    slot: RwLockWriteGuard<'a, usize>,
}

fn prot_of(access: u8) -> ProtFlags {
    match access {
        NONE => ProtFlags::PROT_NONE,
        READ => ProtFlags::PROT_READ,
        _ => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
    }
}

/// Maps anonymous memory, at an address if there is one, where nothing may be.
fn map(addr: Option<usize>, size: usize, prot: ProtFlags) -> Result<usize> {
    let flags = match addr {
        Some(_) => MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE,
        None => MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
    };
    let size = NonZeroUsize::new(size).context("nothing to map")?;
    // SAFETY: a free range, which the kernel checks.
    let mapped = unsafe { mmap_anonymous(addr.and_then(NonZeroUsize::new), size, prot, flags) }
        .context("mmap")?;
    let mapped = mapped.as_ptr() as usize;
    ensure!(
        addr.is_none_or(|addr| addr == mapped),
        "mmap went elsewhere"
    );
    Ok(mapped)
}

fn unmap(addr: usize, size: usize) -> Result<()> {
    // SAFETY: callers hold the shape, or what lies there is only reserved.
    Errno::result(unsafe { libc::munmap(addr as *mut _, size) })
        .map(drop)
        .context("munmap")
}

impl Ground {
    /// An area of so many huge pages, empty. `base` is where its address is published.
    pub fn new(index: usize, blocks: usize, base: &'static AtomicUsize) -> Result<Ground> {
        let npages = blocks * HUGE;
        let size = npages * PAGE_SIZE;
        let mut slots = [0; SLOTS];
        for slot in &mut slots {
            // Room to align it, to shift it, and for neighbours that are never merged.
            *slot = map(None, size + 4 * HUGE_SIZE, ProtFlags::PROT_NONE)?;
        }
        let ground = Ground {
            index,
            npages,
            slots,
            base,
            shape: RwLock::new(0),
            stamp: AtomicU64::new(0),
            locks: (0..npages).map(|_| RwLock::new(())).collect(),
            protection: (0..npages).map(|_| AtomicU8::new(WRITE)).collect(),
        };
        let addr = ground.place(0, 0);
        unmap(addr, size)?;
        map(Some(addr), size, prot_of(WRITE))?;
        base.store(addr, SeqCst);
        let changing = ground.change();
        changing
            .advise(0, npages, libc::MADV_HUGEPAGE)
            .context("MADV_HUGEPAGE")?;
        drop(changing);
        Ok(ground)
    }

    /// Where the area begins in a slot, shifted by pages.
    fn place(&self, slot: usize, shift: usize) -> usize {
        (self.slots[slot] + 1).next_multiple_of(HUGE_SIZE) + HUGE_SIZE + shift * PAGE_SIZE
    }

    pub fn npages(&self) -> usize {
        self.npages
    }

    /// The model's number of a page.
    pub fn id(&self, page: usize) -> usize {
        self.index * self.npages + page
    }

    /// Where a page is now, or was a moment ago.
    pub fn addr(&self, page: usize) -> usize {
        self.base.load(SeqCst) + page * PAGE_SIZE
    }

    pub fn lock(&self, page: usize) -> &RwLock<()> {
        &self.locks[page]
    }

    /// Keeps everybody else from writing to pages, and from discarding them.
    pub fn alone(&self, pages: Range<usize>) -> Vec<RwLockWriteGuard<'_, ()>> {
        pages
            .map(|page| despite_panics!(self.lock(page).write()))
            .collect()
    }

    /// What the CPU may do with a page, as long as the shape holds still.
    pub fn access(&self, page: usize) -> u8 {
        self.protection[page].load(Relaxed)
    }

    /// The least of what it may do with some pages.
    pub fn least_access(&self, first: usize, npages: usize) -> u8 {
        (first..first + npages)
            .map(|page| self.access(page))
            .min()
            .unwrap_or(NONE)
    }

    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp.load(SeqCst))
    }

    /// Whether the mapping was being changed at any time since.
    pub fn is_reshaped(&self, since: Stamp) -> bool {
        since.0 % 2 == 1 || self.stamp.load(SeqCst) != since.0
    }

    pub fn still(&self) -> Still<'_> {
        Still {
            ground: self,
            _shape: despite_panics!(self.shape.read()),
        }
    }

    pub fn change(&self) -> Changing<'_> {
        let slot = despite_panics!(self.shape.write());
        self.stamp.fetch_add(1, SeqCst);
        Changing { ground: self, slot }
    }
}

impl Still<'_> {
    fn word(&self, page: usize, word: usize) -> &AtomicU64 {
        // SAFETY: mapped and accessible as long as `self` lives, which callers have checked;
        // aligned; written by anybody at any time, hence atomic.
        unsafe { AtomicU64::from_ptr((self.ground.addr(page) as *mut u64).add(word)) }
    }

    pub fn load(&self, page: usize, word: usize) -> u64 {
        assert!(self.ground.access(page) >= READ);
        self.word(page, word).load(Acquire)
    }

    pub fn store(&self, page: usize, word: usize, value: u64) {
        assert!(self.ground.access(page) >= WRITE);
        self.word(page, word).store(value, Release);
    }

    /// Gives advice that does not change what is mapped where; the caller has the page's locks if it
    /// changes contents.
    pub fn advise(&self, first: usize, npages: usize, advice: i32) -> Result<(), Errno> {
        advise(self.ground.addr(first), npages, advice)
    }
}

fn advise(addr: usize, npages: usize, advice: i32) -> Result<(), Errno> {
    // SAFETY: memory of an area, whose contents callers know to lose where the advice says so.
    Errno::result(unsafe { libc::madvise(addr as *mut _, npages * PAGE_SIZE, advice) }).map(drop)
}

impl Changing<'_> {
    pub fn advise(&self, first: usize, npages: usize, advice: i32) -> Result<(), Errno> {
        advise(self.ground.addr(first), npages, advice)
    }

    pub fn protect(&self, first: usize, npages: usize, access: u8) -> Result<()> {
        let addr = NonNull::new(self.ground.addr(first) as *mut _).context("null")?;
        // SAFETY: nobody touches the area by the CPU while its shape changes.
        unsafe { nix::sys::mman::mprotect(addr, npages * PAGE_SIZE, prot_of(access)) }
            .context("mprotect")?;
        for page in &self.ground.protection[first..first + npages] {
            page.store(access, Relaxed);
        }
        Ok(())
    }

    /// Takes pages away for good and puts new, empty ones in their place; between that, `inside` may
    /// look at the hole.
    pub fn renew(
        &self,
        first: usize,
        npages: usize,
        inside: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (addr, size) = (self.ground.addr(first), npages * PAGE_SIZE);
        let hole = no_holes();
        unmap(addr, size)?;
        inside()?;
        map(Some(addr), size, prot_of(WRITE))?;
        drop(hole);
        self.advise(first, npages, libc::MADV_HUGEPAGE)
            .context("MADV_HUGEPAGE")?;
        for page in &self.ground.protection[first..first + npages] {
            page.store(WRITE, Relaxed);
        }
        Ok(())
    }

    /// Moves the area to its other slot, shifted by pages.
    pub fn relocate(&mut self, shift: usize) -> Result<()> {
        let ground = self.ground;
        let (from, size) = (ground.addr(0), ground.npages * PAGE_SIZE);
        // Neighbours of one kind become one again, as far as they can.
        self.protect(0, ground.npages, WRITE)?;
        let slot = (*self.slot + 1) % SLOTS;
        let to = ground.place(slot, shift % HUGE);
        let _hole = no_holes();
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: nobody touches the area by the CPU meanwhile; the target is reserved for it.
        let moved =
            unsafe { libc::mremap(from as *mut _, size, size, flags, to as *mut libc::c_void) };
        ensure!(moved as usize == to, "mremap: {}", Errno::last());
        ground.base.store(to, SeqCst);
        *self.slot = slot;
        map(Some(from), size, ProtFlags::PROT_NONE)?;
        Ok(())
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.ground.stamp.fetch_add(1, SeqCst);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for slot in self.slots {
            let _ = unmap(slot, self.npages * PAGE_SIZE + 4 * HUGE_SIZE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stress::board::Board;

    #[test]
    fn areas_move_and_keep_what_they_hold() {
        let board = Board::new().unwrap();
        let ground = Ground::new(0, 1, &board.bases[0]).unwrap();
        ground.still().store(3, 4, 5);
        let stamp = ground.stamp();
        let was = ground.addr(3);
        ground.change().protect(8, 8, READ).unwrap();
        assert_eq!(ground.least_access(0, 16), READ);
        assert!(ground.is_reshaped(stamp));
        for shift in [0, 1, 256] {
            ground.change().relocate(shift).unwrap();
            assert_ne!(ground.addr(3), was);
            assert_eq!(ground.still().load(3, 4), 5);
        }
        assert_eq!(ground.least_access(0, 16), WRITE);
        ground.change().renew(2, 2, || Ok(())).unwrap();
        assert_eq!(ground.still().load(3, 4), 0);
        let stamp = ground.stamp();
        drop(ground.still());
        assert!(!ground.is_reshaped(stamp));
    }
}
