// SPDX-License-Identifier: GPL-2.0

//! `mmap_lock` taken so that a killed process does not wait for it, and what waiting code asks.
//!
//! C header: [`include/linux/mmap_lock.h`](srctree/include/linux/mmap_lock.h)

use super::bindings;
use core::ops::Deref;
use kernel::{
    error::to_result,
    mm::{
        virt::VmaRef,
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::aref::ARef,
    types::NotThreadSafe, //
};

/// `mmap_lock`, held for reading.
///
/// # Invariants
///
/// The lock is held by this value, on the thread that made it.
#[must_use = "dropping it releases the lock"]
pub struct MmapReadLock<'a> {
    mm: &'a MmWithUser,
    // It must be released by the thread that took it.
    _nts: NotThreadSafe,
}

impl<'a> MmapReadLock<'a> {
    /// Waits for the lock. C: `mmap_read_lock_killable()`. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINTR` if a fatal signal came first.
    pub fn new(mm: &'a MmWithUser) -> Result<Self> {
        // SAFETY: The pointer is valid since `mm` is a reference.
        to_result(unsafe { bindings::rust_dmirror_mmap_read_lock_killable(mm.as_raw()) })?;
        // INVARIANT: We just took the lock.
        Ok(MmapReadLock {
            mm,
            _nts: NotThreadSafe,
        })
    }

    /// Takes the lock if it need not wait for it. C: `mmap_read_trylock()`. Does not sleep.
    pub fn try_new(mm: &'a MmWithUser) -> Option<Self> {
        // SAFETY: The pointer is valid since `mm` is a reference.
        let is_taken = unsafe { bindings::mmap_read_trylock(mm.as_raw()) };
        // INVARIANT: We just took the lock. Where we did not, there must be no value, whose drop would release it.
        is_taken.then(|| MmapReadLock {
            mm,
            _nts: NotThreadSafe,
        })
    }

    /// The VMA that contains an address. C: `vma_lookup()`.
    pub fn vma(&self, address: usize) -> Option<Vma<'_>> {
        // SAFETY: By the type invariants, the lock is held.
        let vma = unsafe { bindings::vma_lookup(self.mm.as_raw(), address) };
        if vma.is_null() {
            return None;
        }
        // SAFETY: It is a VMA of this address space, and stays while the lock is held.
        Some(unsafe { Vma::from_raw(vma) })
    }
}

impl Drop for MmapReadLock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, we hold the lock.
        unsafe { bindings::mmap_read_unlock(self.mm.as_raw()) };
    }
}

/// A VMA of an address space whose `mmap_lock` is held.
///
/// More than a [`VmaRef`], for which the VMA's own lock is enough: migration walks page tables, and
/// may look at other VMAs.
///
/// # Invariants
///
/// `mmap_lock` of its address space is held for reading for `'a`.
#[derive(Clone, Copy)]
pub struct Vma<'a>(&'a VmaRef);

impl<'a> Vma<'a> {
    /// # Safety
    ///
    /// It must be a VMA of an address space whose `mmap_lock` is held for reading for `'a`.
    pub(super) unsafe fn from_raw(raw: *const bindings::vm_area_struct) -> Self {
        // INVARIANT: By the requirements of this function.
        // SAFETY: By the requirements of this function.
        Vma(unsafe { VmaRef::from_raw(raw) })
    }

    /// The VMA, to allocate memory for.
    pub fn beneficiary(self) -> Beneficiary<'a> {
        Beneficiary(self.0)
    }
}

impl Deref for Vma<'_> {
    type Target = VmaRef;

    fn deref(&self) -> &VmaRef {
        self.0
    }
}

/// The VMA that new memory is for: its memory policy decides where that comes from.
///
/// It gives access to nothing else. A CPU fault hands out its VMA only as this type. From a [`VmaRef`] one could reach the
/// address space, from there a [`Vma`], and have [`super::migrate::Batch::setup`] collect the folio that the fault has
/// locked; to split it, the core would wait for that lock for ever. Only [`super::migrate::Batch::setup_fault`] collects
/// inside a fault. The types enforce it; a test could only hang.
#[derive(Clone, Copy)]
pub struct Beneficiary<'a>(&'a VmaRef);

impl Beneficiary<'_> {
    pub(super) fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        self.0.as_ptr()
    }
}

/// Whether the current task was killed. C: `fatal_signal_pending()`.
pub fn fatal_signal_pending() -> bool {
    // SAFETY: It may be asked at any time.
    unsafe { bindings::rust_dmirror_fatal_signal_pending() }
}

/// Fails with `EINTR` if the current task was killed.
pub fn check_killed() -> Result {
    if fatal_signal_pending() {
        Err(EINTR)
    } else {
        Ok(())
    }
}

/// A counter of an address space's pages. C: `get_mm_counter_sum()` of `MM_ANONPAGES`.
pub fn anon_rss(mm: &MmWithUser) -> usize {
    // SAFETY: The pointer is valid since `mm` is a reference.
    unsafe { bindings::rust_dmirror_mm_rss(mm.as_raw(), bindings::RSS_ANON as i32) }
}

/// Whether the current thread is the only one that uses an address space, and nobody looks at it from
/// outside, for which the one reference of `mm` is not counted. True for the moment only, but what
/// could come later comes from outside.
pub fn is_alone(mm: &ARef<MmWithUser>) -> bool {
    // SAFETY: The pointer is valid since `mm` is a reference.
    unsafe { bindings::rust_dmirror_mm_is_alone(mm.as_raw()) }
}

/// The end of the addresses that a process may use. C: `mm->task_size`.
pub fn task_size(mm: &Mm) -> usize {
    // SAFETY: The pointer is valid since `mm` is a reference; the field never changes.
    unsafe { bindings::rust_dmirror_task_size(mm.as_raw()) }
}
