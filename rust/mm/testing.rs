// SPDX-License-Identifier: GPL-2.0

//! An address space for KUnit cases: memory that is mapped as a process has it.
//!
//! C header: [`include/kunit/test.h`](srctree/include/kunit/test.h), `kunit_vm_mmap()`

use super::{
    bindings,
    fault::Fault,
    folio::LockedFolio,
    lock::Vma, //
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    mm::MmWithUser,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

/// Maps `len` bytes of private anonymous memory into the address space of the test, which is made if
/// there is none. It goes with the test. Only in a KUnit case; sleeps.
pub fn map_anonymous(len: usize) -> Result<usize> {
    map(len, false)
}

/// As [`map_anonymous`], memory that reclaim may drop: `MAP_DROPPABLE`.
pub fn map_droppable(len: usize) -> Result<usize> {
    map(len, true)
}

fn map(len: usize, is_droppable: bool) -> Result<usize> {
    // SAFETY: It checks by itself that a test is running.
    let address = unsafe { bindings::rust_dmirror_test_mmap(len, is_droppable) };
    match address {
        1.. => Ok(address as usize),
        _ => Err(Error::from_errno(address as i32)),
    }
}

/// Unmaps a range of the address space of the test. C: `vm_munmap()`. Sleeps.
pub fn unmap(address: usize, len: usize) -> Result {
    // SAFETY: It concerns user mappings of the current address space only.
    to_result(unsafe { bindings::rust_dmirror_test_munmap(address, len) })
}

/// Moves pages that per-CPU lists hold onto the LRU; each has a reference there. Sleeps.
///
/// C: `lru_add_drain_all()`. False if the kernel was not built with the patch that exports it.
pub fn drain_lru() -> bool {
    // SAFETY: It looks for what it needs by itself.
    unsafe { bindings::rust_dmirror_test_drain_lru() }
}

/// Eight bytes of a page of system memory, at an offset that is a multiple of eight. Does not sleep.
///
/// `None` if the kernel has no such memory, also because it is a device's. What is read says
/// something only while the page is held by somebody.
pub fn peek(pfn: usize, offset: usize) -> Option<u64> {
    let mut word = 0;
    if offset % 8 != 0 || offset >= PAGE_SIZE {
        return None;
    }
    // SAFETY: It checks by itself that the page is there, and survives if it is not mapped.
    unsafe { bindings::rust_dmirror_test_peek(pfn, offset, &mut word) }.then_some(word)
}

/// Calls `handle` as the core does about a CPU fault at `address`, on an entry for a page of private device
/// memory, the first of `folio`. It need not be mapped there: who faults looks at the entry, and somebody may
/// put another page in its place before the fault is handled. Sleeps as `handle` does.
///
/// # Errors
///
/// `EINVAL` if the folio is of other memory.
pub fn fault<T>(
    vma: Vma<'_>,
    address: usize,
    folio: &LockedFolio,
    handle: impl FnOnce(&Fault<'_>) -> T,
) -> Result<T> {
    if !folio.counts().device_private {
        return Err(EINVAL);
    }
    // An entry for a page table that is not there: nothing is looked up in it.
    let mut pmd: bindings::pmd_t = pin_init::zeroed();
    let mut vmf: bindings::vm_fault = pin_init::zeroed();
    vmf.__bindgen_anon_1.vma = vma.as_ptr();
    vmf.__bindgen_anon_1.address = address;
    vmf.pmd = &mut pmd;
    // SAFETY: A folio's pages have a `struct page`.
    vmf.page = unsafe { bindings::rust_dmirror_pfn_to_page(folio.pfn()) };
    // SAFETY: `mmap_lock` is held by the invariants of `Vma`; `folio` has the lock and a reference, as the
    // core has in the callback, and is device memory.
    Ok(handle(&unsafe { Fault::from_raw(&vmf) }))
}

/// Does some work while a folio has `nr` references more, which must not be negative. Does not sleep by itself.
pub fn with_references<T>(folio: &LockedFolio, nr: i32, work: impl FnOnce() -> T) -> T {
    // SAFETY: The folio is referenced, and what is added is taken away below.
    unsafe { bindings::rust_dmirror_test_folio_ref_add(folio.as_raw(), nr) };
    let done = work();
    // SAFETY: The references were added above.
    unsafe { bindings::rust_dmirror_test_folio_ref_add(folio.as_raw(), -nr) };
    done
}

/// A copy of the address space of the test, as `fork()` makes it; `None` if the kernel was not built
/// with the patch that allows that. Sleeps.
pub fn duplicate_mm() -> Option<ARef<MmWithUser>> {
    // SAFETY: It looks for what it needs by itself.
    let mm = NonNull::new(unsafe { bindings::rust_dmirror_test_dup_mm() })?;
    // SAFETY: The copy has one user, which we take over; `MmWithUser` is a transparent wrapper.
    Some(unsafe { ARef::from_raw(mm.cast()) })
}
