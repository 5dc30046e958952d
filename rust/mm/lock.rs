// SPDX-License-Identifier: GPL-2.0

//! `mmap_lock`, taken killably, VMAs under it, and the state of a task or an address space.
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
/// This value holds the lock, which the current thread has taken.
#[must_use = "dropping it releases the lock"]
pub struct MmapReadLock<'a> {
    mm: &'a MmWithUser,
    // It must be released by the thread that took it.
    _nts: NotThreadSafe,
}

impl<'a> MmapReadLock<'a> {
    /// Takes the lock. C: `mmap_read_lock_killable()`. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is killed while it waits.
    pub fn new(mm: &'a MmWithUser) -> Result<Self> {
        // SAFETY: The pointer is valid since `mm` is a reference.
        to_result(unsafe { bindings::rust_dmirror_mmap_read_lock_killable(mm.as_raw()) })?;
        // INVARIANT: We just took the lock.
        Ok(MmapReadLock {
            mm,
            _nts: NotThreadSafe,
        })
    }

    /// Takes the lock if that is possible without waiting. C: `mmap_read_trylock()`. Does not sleep.
    pub fn try_new(mm: &'a MmWithUser) -> Option<Self> {
        // SAFETY: The pointer is valid since `mm` is a reference.
        let is_taken = unsafe { bindings::mmap_read_trylock(mm.as_raw()) };
        // INVARIANT: We just took the lock. If not, no value is made, whose drop would release it.
        is_taken.then(|| MmapReadLock {
            mm,
            _nts: NotThreadSafe,
        })
    }

    /// Returns the VMA that contains an address. C: `vma_lookup()`.
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
/// Stronger than a [`VmaRef`], for which the VMA's own lock is enough: migration walks page tables, and may read other
/// VMAs.
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

    /// Returns the VMA, as something to allocate memory for only.
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

/// The VMA that new memory is allocated for. Its memory policy decides which node the memory comes from.
///
/// It gives access to nothing else, and a CPU fault hands out its VMA only as this type. A [`VmaRef`] leads to the
/// address space and from there to a [`Vma`]. With that, [`super::migrate::Batch::setup`] could collect the folio that
/// the fault has locked, and to split it, the core would wait for that lock for ever. In a fault, only
/// [`super::migrate::Batch::setup_fault`] may collect. The types enforce this; a test could only hang.
#[derive(Clone, Copy)]
pub struct Beneficiary<'a>(&'a VmaRef);

impl Beneficiary<'_> {
    pub(super) fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        self.0.as_ptr()
    }
}

/// Returns whether the current task was killed. C: `fatal_signal_pending()`.
pub fn fatal_signal_pending() -> bool {
    // SAFETY: The function has no requirements.
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

/// Returns the number of anonymous pages of an address space. C: `get_mm_counter_sum()` of `MM_ANONPAGES`.
pub fn anon_rss(mm: &MmWithUser) -> usize {
    // SAFETY: The pointer is valid since `mm` is a reference.
    unsafe { bindings::rust_dmirror_mm_rss(mm.as_raw(), bindings::RSS_ANON as i32) }
}

/// Returns whether the current thread is the only user of an address space, beside the reference `mm`. Other tasks,
/// such as a reader of /proc, can become users at any time; a second thread of the process cannot.
pub fn is_alone(mm: &ARef<MmWithUser>) -> bool {
    // SAFETY: The pointer is valid since `mm` is a reference.
    unsafe { bindings::rust_dmirror_mm_is_alone(mm.as_raw()) }
}

/// Returns the end of the address range of a process. C: `mm->task_size`.
pub fn task_size(mm: &Mm) -> usize {
    // SAFETY: The pointer is valid since `mm` is a reference. The field never changes.
    unsafe { bindings::rust_dmirror_task_size(mm.as_raw()) }
}
