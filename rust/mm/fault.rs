// SPDX-License-Identifier: GPL-2.0

//! A CPU fault on private device memory.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h), `struct vm_fault`

use super::{
    bindings,
    folio::Counts,
    HUGE_SIZE, //
};
use core::ops::Range;
use kernel::{
    mm::virt::VmaRef,
    page::{
        PAGE_MASK,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// Why a fault could not be handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// No memory: the kernel may kill somebody, and tries again. C: `VM_FAULT_OOM`.
    OutOfMemory,
    /// The data is lost. C: `VM_FAULT_SIGBUS`.
    Bus,
}

impl FaultError {
    pub(super) fn as_raw(self) -> bindings::vm_fault_t {
        match self {
            FaultError::OutOfMemory => bindings::FAULT_OOM,
            FaultError::Bus => bindings::FAULT_SIGBUS,
        }
    }
}

impl From<Error> for FaultError {
    fn from(error: Error) -> Self {
        if error == ENOMEM {
            FaultError::OutOfMemory
        } else {
            FaultError::Bus
        }
    }
}

/// A CPU fault on a page of private device memory, in progress.
///
/// # Invariants
///
/// `mmap_lock` is held for reading; `vmf->page` is locked and referenced by the core.
pub struct Fault<'a>(&'a bindings::vm_fault);

impl<'a> Fault<'a> {
    /// # Safety
    ///
    /// `vmf` must be the argument of a `migrate_to_ram` callback that is running.
    pub(super) unsafe fn from_raw(vmf: &'a bindings::vm_fault) -> Self {
        // INVARIANT: That is how the core calls it.
        Fault(vmf)
    }

    /// The VMA.
    pub fn vma(&self) -> &'a VmaRef {
        // SAFETY: By the type invariants, the VMA stays, and `mmap_lock` is held.
        unsafe { VmaRef::from_raw(self.0.__bindgen_anon_1.vma) }
    }

    /// The page.
    pub(super) fn page(&self) -> *mut bindings::page {
        self.0.page
    }

    pub(super) fn pfn(&self) -> usize {
        let counts = self.counts();
        // SAFETY: Both pages are of one folio, so that one `struct page` array holds them.
        let index = unsafe {
            self.page()
                .offset_from(bindings::rust_dmirror_pfn_to_page(counts.pfn))
        };
        counts.pfn + index as usize
    }

    /// The counts of the folio.
    pub fn counts(&self) -> Counts {
        // SAFETY: By the type invariants, the core holds a reference on the page, so that its
        // folio can be found and read. The lock keeps it from being split.
        unsafe {
            let folio = bindings::rust_dmirror_page_folio(self.page());
            Counts::read(folio)
        }
    }

    /// Whether a huge entry faulted. A huge folio may also be mapped page by page.
    pub fn is_huge(&self) -> bool {
        self.0.pte.is_null() && self.counts().order == super::HUGE_ORDER
    }

    /// The addresses that the entry which faulted maps.
    pub fn range(&self) -> Range<usize> {
        let address = self.0.__bindgen_anon_1.address;
        if self.is_huge() {
            let start = address & !(HUGE_SIZE - 1);
            start..start + HUGE_SIZE
        } else {
            let start = address & PAGE_MASK;
            start..start + PAGE_SIZE
        }
    }
}
