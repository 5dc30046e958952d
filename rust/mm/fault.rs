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

/// Why a fault could not be handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// No memory: the kernel may kill somebody, and tries again. C: `VM_FAULT_OOM`.
    OutOfMemory,
    /// Not now: the CPU takes the fault again, if the task was not killed meanwhile. What makes it end is
    /// up to whoever says so. C: 0, as if the page were there.
    Again,
    /// The data cannot be had. C: `VM_FAULT_SIGBUS`.
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

    /// What an error of something that the fault needed means for it. No `From`, so that no `?` decides by
    /// itself who gets a signal.
    pub fn of(error: Error) -> Self {
        match error {
            error if error == ENOMEM => FaultError::OutOfMemory,
            // Page tables changed meanwhile; somebody holds what is needed; or the task was killed, and
            // ends before it takes the fault again.
            error if [EAGAIN, EBUSY, EINTR].contains(&error) => FaultError::Again,
            _ => FaultError::Bus,
        }
    }
}

/// What of a folio changes if somebody else maps, unmaps or splits it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The number of its first page.
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
/// `mmap_lock` is held for reading; `vmf->page` is locked and referenced by the core, and is one of
/// `pgmap`. The folio that it is of may change while the fault is handled: to collect it may split that.
pub struct Fault<'a> {
    vmf: &'a bindings::vm_fault,
    pgmap: *mut bindings::dev_pagemap,
}

impl<'a> Fault<'a> {
    /// # Safety
    ///
    /// `vmf` must be the argument of a `migrate_to_ram` callback that is running.
    pub(super) unsafe fn from_raw(vmf: &'a bindings::vm_fault) -> Self {
        // SAFETY: The page is one of device memory, on which the core holds a reference.
        let pgmap = unsafe { bindings::rust_dmirror_page_pgmap(vmf.page) };
        // INVARIANT: That is how the core calls it.
        Fault { vmf, pgmap }
    }

    /// The VMA, to allocate memory for.
    pub fn beneficiary(&self) -> Beneficiary<'a> {
        self.collectable_vma().beneficiary()
    }

    /// The address space, for when the fault is over.
    pub fn mm(&self) -> ARef<Mm> {
        ARef::from(&**self.collectable_vma().mm())
    }

    /// The VMA, for [`super::migrate::Batch::setup_fault`], which tells the core which folio is locked.
    pub(super) fn collectable_vma(&self) -> Vma<'a> {
        // SAFETY: By the type invariants, the VMA stays, and `mmap_lock` is held.
        unsafe { Vma::from_raw(self.vmf.__bindgen_anon_1.vma) }
    }

    /// The page.
    pub(super) fn page(&self) -> *mut bindings::page {
        self.vmf.page
    }

    /// The pagemap that it is of.
    pub(super) fn pgmap(&self) -> *mut bindings::dev_pagemap {
        self.pgmap
    }

    /// The order of the folio.
    fn order(&self) -> u32 {
        self.shape().order
    }

    /// Which folio the page is of, how large it is, and how often it is mapped.
    pub fn shape(&self) -> Shape {
        // SAFETY: By the type invariants, the core holds a reference on the page, so that its folio can
        // be found and read.
        let raw = unsafe { bindings::rust_dmirror_page_shape(self.page()) };
        Shape {
            pfn: raw.pfn,
            order: raw.order,
            mapcount: raw.mapcount,
        }
    }

    /// Whether a huge entry faulted. A huge folio may also be mapped page by page.
    pub fn is_huge(&self) -> bool {
        self.vmf.pte.is_null() && self.order() == super::HUGE_ORDER
    }

    /// The address of the page that was accessed, in bytes; also if a huge entry faulted.
    pub fn address(&self) -> usize {
        self.vmf.__bindgen_anon_1.address & PAGE_MASK
    }

    /// The addresses that the entry which faulted maps.
    pub fn range(&self) -> Range<usize> {
        let page = self.address();
        if self.is_huge() {
            let start = page & !(HUGE_SIZE - 1);
            start..start + HUGE_SIZE
        } else {
            page..page + PAGE_SIZE
        }
    }

    /// The addresses that can be brought back together, from the page that faulted on, `most` pages at
    /// most: those mapped by entries for single pages of this memory.
    /// Of the page alone, if it is part of a huge folio. At least [`Fault::range`].
    ///
    /// To collect a page of a huge folio that is mapped page by page, the core waits for its lock and
    /// splits it, for a page that nobody may want, and makes others' attempts at it fail meanwhile: none
    /// of these pages is part of such a folio, and none becomes so while `mmap_lock` is held.
    pub fn around<T: Driver>(&self, memory: &Pagemap<T>, most: usize) -> Range<usize> {
        let range = self.range();
        let pfns = memory.pfns();
        if self.order() != 0 {
            return range;
        }
        let huge_end = (range.start | (HUGE_SIZE - 1)).saturating_add(1);
        let end = self.collectable_vma().end().min(huge_end);
        let most = most.min((end - range.start) >> PAGE_SHIFT);
        // SAFETY: By the type invariants, the page table is that of a fault that is being handled, with
        // `mmap_lock` held, and the addresses are all in that table and in the VMA. Page frame numbers
        // that are not among `pfns` are not looked at; those that are have a `struct page`, since the
        // pagemap is registered for as long as it is borrowed.
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
