// SPDX-License-Identifier: GPL-2.0

//! An address space for KUnit cases, in which memory is mapped as in a process.
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

/// Maps `len` bytes of private anonymous memory into the address space of the test, which is made if there is none
/// and is freed with the test. Only for KUnit cases; sleeps.
pub fn map_anonymous(len: usize) -> Result<usize> {
    map(len, false)
}

/// As [`map_anonymous`], with `MAP_DROPPABLE`: memory that reclaim may drop.
pub fn map_droppable(len: usize) -> Result<usize> {
    map(len, true)
}

fn map(len: usize, is_droppable: bool) -> Result<usize> {
    // SAFETY: The function checks that a test is running.
    let address = unsafe { bindings::rust_dmirror_test_mmap(len, is_droppable) };
    match address {
        1.. => Ok(address as usize),
        _ => Err(Error::from_errno(address as i32)),
    }
}

/// Unmaps a range of the address space of the test. C: `vm_munmap()`. Sleeps.
pub fn unmap(address: usize, len: usize) -> Result {
    // SAFETY: This changes user mappings of the current address space only.
    to_result(unsafe { bindings::rust_dmirror_test_munmap(address, len) })
}

/// Moves pages from the per-CPU lists, which hold a reference on each, to the LRU. Sleeps.
///
/// C: `lru_add_drain_all()`. Returns false if the kernel was built without the patch that exports it.
pub fn drain_lru() -> bool {
    // SAFETY: It looks for what it needs by itself.
    unsafe { bindings::rust_dmirror_test_drain_lru() }
}

/// Reads eight bytes of a page of system memory, at an offset that is a multiple of eight. Does not sleep.
///
/// `None` if there is no system memory at that address. The bytes are meaningful only while a reference is held on the
/// page.
pub fn peek(pfn: usize, offset: usize) -> Option<u64> {
    let mut word = 0;
    if offset % 8 != 0 || offset >= PAGE_SIZE {
        return None;
    }
    // SAFETY: The function checks that there is such a page, and handles the fault if it is not mapped.
    unsafe { bindings::rust_dmirror_test_peek(pfn, offset, &mut word) }.then_some(word)
}

/// Calls `handle` as the core does for a CPU fault at `address` on the first page of `folio`, which must be private
/// device memory. The page need not be mapped there: in a real fault as well, it may be replaced between the read
/// of the entry and the call. Sleeps as `handle` does.
///
/// # Errors
///
/// `EINVAL` if the folio is not private device memory.
pub fn fault<T>(
    vma: Vma<'_>,
    address: usize,
    folio: &LockedFolio,
    handle: impl FnOnce(&Fault<'_>) -> T,
) -> Result<T> {
    if !folio.counts().device_private {
        return Err(EINVAL);
    }
    // An empty PMD, in which no PTE is looked up.
    let mut pmd: bindings::pmd_t = pin_init::zeroed();
    let mut vmf: bindings::vm_fault = pin_init::zeroed();
    vmf.__bindgen_anon_1.vma = vma.as_ptr();
    vmf.__bindgen_anon_1.address = address;
    vmf.pmd = &mut pmd;
    // SAFETY: A folio's pages have a `struct page`.
    vmf.page = unsafe { bindings::rust_dmirror_pfn_to_page(folio.pfn()) };
    // SAFETY: `mmap_lock` is held by the invariants of `Vma`. The folio is device memory, and `folio` owns its lock and
    // a reference, as the core does in the callback.
    Ok(handle(&unsafe { Fault::from_raw(&vmf) }))
}

/// Calls `work` while a folio has `nr` additional references. `nr` must not be negative. Does not sleep by itself.
pub fn with_references<T>(folio: &LockedFolio, nr: i32, work: impl FnOnce() -> T) -> T {
    // SAFETY: The folio is referenced, and the added references are removed below.
    unsafe { bindings::rust_dmirror_test_folio_ref_add(folio.as_raw(), nr) };
    let done = work();
    // SAFETY: The references were added above.
    unsafe { bindings::rust_dmirror_test_folio_ref_add(folio.as_raw(), -nr) };
    done
}

/// Copies the address space of the test as `fork()` does. `None` if the kernel was built without the patch that exports
/// what this needs. Sleeps.
pub fn duplicate_mm() -> Option<ARef<MmWithUser>> {
    // SAFETY: It looks for what it needs by itself.
    let mm = NonNull::new(unsafe { bindings::rust_dmirror_test_dup_mm() })?;
    // SAFETY: The copy has one user, whose reference is ours. `MmWithUser` is a transparent wrapper.
    Some(unsafe { ARef::from_raw(mm.cast()) })
}
