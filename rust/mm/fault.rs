// SPDX-License-Identifier: GPL-2.0

//! A CPU fault on private device memory.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h), `struct vm_fault`

use super::{
    bindings,
    lock::{
        Beneficiary,
        Vma, //
    },
    pagemap::{
        Driver,
        Pagemap, //
    },
    HUGE_SIZE, //
};
use core::ops::Range;
use kernel::{
    mm::Mm,
    page::{
        PAGE_MASK,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::aref::ARef, //
};

/// The result of a CPU fault that could not be handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// Out of memory: the core may invoke the OOM killer, and the CPU faults again. C: `VM_FAULT_OOM`.
    OutOfMemory,
    /// Retry: the CPU faults again, unless the task was killed. The driver has to limit the retries. C: 0, as if the
    /// page was back.
    Again,
    /// Failure: the data cannot be brought back. C: `VM_FAULT_SIGBUS`.
    Bus,
}

impl FaultError {
    pub(super) fn as_raw(self) -> bindings::vm_fault_t {
        match self {
            FaultError::OutOfMemory => bindings::FAULT_OOM,
            FaultError::Again => 0,
            FaultError::Bus => bindings::FAULT_SIGBUS,
        }
    }

    /// Returns the result of a fault that failed with `error`. There is no `From`, so that no `?` decides silently who
    /// gets a signal.
    pub fn of(error: Error) -> Self {
        match error {
            error if error == ENOMEM => FaultError::OutOfMemory,
            // The page tables changed, a folio or lock was in use, or the task was killed and ends before it faults
            // again.
            error if [EAGAIN, EBUSY, EINTR].contains(&error) => FaultError::Again,
            _ => FaultError::Bus,
        }
    }
}

/// The properties of a folio that change when it is mapped, unmapped or split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The page frame number of its first page.
    pub pfn: usize,
    /// Its order.
    pub order: u32,
    /// C: `folio_mapcount()`.
    pub mapcount: i32,
}

/// A CPU fault on a page of private device memory, in progress.
///
/// # Invariants
///
/// `mmap_lock` is held for reading. The core has locked `vmf->page` and holds a reference on it, and the page
/// belongs to `pgmap`. The page may come to belong to another folio while the fault is handled, as collecting may
/// split its folio.
pub struct Fault<'a> {
    vmf: &'a bindings::vm_fault,
    pgmap: *mut bindings::dev_pagemap,
}

impl<'a> Fault<'a> {
    /// # Safety
    ///
    /// `vmf` must be the argument of a `migrate_to_ram` callback that is running.
    pub(super) unsafe fn from_raw(vmf: &'a bindings::vm_fault) -> Self {
        // SAFETY: It is a page of device memory, on which the core holds a reference.
        let pgmap = unsafe { bindings::rust_dmirror_page_pgmap(vmf.page) };
        // INVARIANT: The core calls `migrate_to_ram` with these locks and this reference.
        Fault { vmf, pgmap }
    }

    /// Returns the VMA, as something to allocate memory for only.
    pub fn beneficiary(&self) -> Beneficiary<'a> {
        self.collectable_vma().beneficiary()
    }

    /// Returns a reference to the address space, which may be kept after the fault.
    pub fn mm(&self) -> ARef<Mm> {
        ARef::from(&**self.collectable_vma().mm())
    }

    /// Returns the VMA for [`super::migrate::Batch::setup_fault`], which tells the core which folio is locked.
    pub(super) fn collectable_vma(&self) -> Vma<'a> {
        // SAFETY: By the type invariants, the VMA stays, and `mmap_lock` is held.
        unsafe { Vma::from_raw(self.vmf.__bindgen_anon_1.vma) }
    }

    /// Returns the page that faulted.
    pub(super) fn page(&self) -> *mut bindings::page {
        self.vmf.page
    }

    /// Returns its pagemap.
    pub(super) fn pgmap(&self) -> *mut bindings::dev_pagemap {
        self.pgmap
    }

    /// Returns the order of its folio.
    fn order(&self) -> u32 {
        self.shape().order
    }

    /// Returns the shape of its folio.
    pub fn shape(&self) -> Shape {
        // SAFETY: By the type invariants, the core holds a reference on the page, so its folio can be read.
        let raw = unsafe { bindings::rust_dmirror_page_shape(self.page()) };
        Shape {
            pfn: raw.pfn,
            order: raw.order,
            mapcount: raw.mapcount,
        }
    }

    /// Returns whether a huge entry faulted. A huge folio may also be mapped by PTEs.
    pub fn is_huge(&self) -> bool {
        self.vmf.pte.is_null() && self.order() == super::HUGE_ORDER
    }

    /// Returns the address of the page that was accessed, in bytes; also if a huge entry faulted.
    pub fn address(&self) -> usize {
        self.vmf.__bindgen_anon_1.address & PAGE_MASK
    }

    /// Returns the addresses that are mapped by the entry that faulted.
    pub fn range(&self) -> Range<usize> {
        let page = self.address();
        if self.is_huge() {
            let start = page & !(HUGE_SIZE - 1);
            start..start + HUGE_SIZE
        } else {
            page..page + PAGE_SIZE
        }
    }

    /// Returns the range to migrate back together: from the page that faulted on, up to `most` pages that are mapped by
    /// entries for small folios of this memory. At least [`Fault::range`], and no more if the page that faulted belongs
    /// to a huge folio.
    ///
    /// Pages of huge folios that are mapped by PTEs are left out. To collect one, the core would wait for the folio
    /// lock and split the folio, perhaps for nothing, and other migrations of it would fail meanwhile. A page that is
    /// not part of such a folio does not become part of one while `mmap_lock` is held.
    pub fn around<T: Driver>(&self, memory: &Pagemap<T>, most: usize) -> Range<usize> {
        let range = self.range();
        let pfns = memory.pfns();
        if self.order() != 0 {
            return range;
        }
        let huge_end = (range.start | (HUGE_SIZE - 1)).saturating_add(1);
        let end = self.collectable_vma().end().min(huge_end);
        let most = most.min((end - range.start) >> PAGE_SHIFT);
        // SAFETY: By the type invariants, the fault is being handled with `mmap_lock` held. All addresses are in its
        // page table and in the VMA. Only pages among `pfns` are read, which have a `struct page`, since the pagemap
        // stays registered while it is borrowed.
        let nr = unsafe {
            bindings::rust_dmirror_fault_run(self.vmf, pfns.start, pfns.end.saturating_sub(1), most)
        };
        range.start..range.start + (nr.max(1) << PAGE_SHIFT)
    }
}

#[kunit_tests(rust_dmirror_fault)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_lost_is_a_signal() {
        assert_eq!(FaultError::of(ENOMEM), FaultError::OutOfMemory);
        for error in [EAGAIN, EBUSY, EINTR] {
            assert_eq!(FaultError::of(error), FaultError::Again);
        }
        for error in [EINVAL, EFAULT, EIO, EPERM, ENOENT] {
            assert_eq!(FaultError::of(error), FaultError::Bus);
        }
    }

    #[test]
    fn the_core_hears_of_it() {
        assert_eq!(FaultError::OutOfMemory.as_raw(), bindings::FAULT_OOM);
        assert_eq!(FaultError::Again.as_raw(), 0);
        assert_eq!(FaultError::Bus.as_raw(), bindings::FAULT_SIGBUS);
    }
}
