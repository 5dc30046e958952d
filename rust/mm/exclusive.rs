// SPDX-License-Identifier: GPL-2.0

//! Pages for the exclusive use of a device: atomic operations on system memory.
//!
//! C header: [`include/linux/rmap.h`](srctree/include/linux/rmap.h), `make_device_exclusive()`

use super::{
    bindings,
    folio::LockedFolio,
    hmm::Want,
    lock::{
        check_killed,
        MmapReadLock, //
    },
    mirror::{
        Mirror,
        Room, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    mm::MmWithUser,
    page::PAGE_SIZE,
    prelude::*, //
};

/// How often a mapping may change while it is made exclusive.
const TRIES: u32 = 100;

impl Mirror {
    /// Makes the page at `address` exclusive to this device and puts it into the table.
    ///
    /// It stays so until the CPU touches it, or the device faults it in: for writing, or for anything if that
    /// began before. `mm` must be the mirrored address space. Sleeps; must
    /// not be called with `mmap_lock` held.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a bad address or another `mm`; `EFAULT` and others of `get_user_pages()` if there
    /// is no page that may be written; `EOPNOTSUPP` if it is not anonymous; `EBUSY` if the mapping
    /// did not hold still; `EINTR` if killed.
    pub fn make_exclusive(&self, room: &mut Room, mm: &MmWithUser, address: usize) -> Result {
        if address % PAGE_SIZE != 0 || !core::ptr::eq(mm.as_raw(), self.mm().as_raw()) {
            return Err(EINVAL);
        }
        room.provide_spare()?;
        self.expect_exclusive();
        for _ in 0..TRIES {
            check_killed()?;
            let seq = self.notifier().read_begin();
            let mut raw: *mut bindings::folio = core::ptr::null_mut();
            let page = {
                let _mmap = MmapReadLock::new(mm)?;
                // SAFETY: `mmap_lock` is held.
                from_err_ptr(unsafe {
                    bindings::make_device_exclusive(
                        mm.as_raw(),
                        address,
                        self.owner().as_raw(),
                        &mut raw,
                    )
                })?
            };
            // SAFETY: It succeeded, so the folio is locked and referenced for us.
            let folio = unsafe { LockedFolio::from_raw(NonNull::new(raw).ok_or(EFAULT)?) };
            let first = folio.pfn();
            // SAFETY: Both pages are of one folio, so that one `struct page` array holds them.
            let index = unsafe { page.offset_from(bindings::rust_dmirror_pfn_to_page(first)) };
            let mut locked = self.lock();
            if self.notifier().read_retry(seq) {
                // Splitting a huge mapping or faulting the page in is such a change. The page is
                // exclusive already, and taking that back is a change again: do it before the next
                // try reads its sequence number.
                drop(locked);
                drop(folio);
                let page = address..address + PAGE_SIZE;
                self.fill(room, page, Want::Write, |_, _, _| {})?;
                room.provide_spare()?;
                continue;
            }
            // SAFETY: Nothing changed since the page was made exclusive, and what changes it from
            // now on invalidates first, which waits for the table's lock.
            return unsafe {
                locked.store_exclusive(address, first + index as usize, room.spare())
            };
        }
        Err(EBUSY)
    }
}
