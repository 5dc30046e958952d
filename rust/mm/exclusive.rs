// SPDX-License-Identifier: GPL-2.0

//! Exclusive access of a device to pages of system memory, as needed for atomic operations.
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

/// How often the mapping may change while a page is made exclusive, before this gives up; chosen.
const TRIES: u32 = 100;

impl Mirror {
    /// Makes the page at `address` exclusive to this device and puts it into the table.
    ///
    /// It stays exclusive until a CPU accesses it, or until the device faults it in for writing. A read fault of the
    /// device ends it too, if it began before this call.
    ///
    /// `mm` must be the mirrored address space. Sleeps; must not be called with `mmap_lock` held.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a bad address or another `mm`; `EFAULT` and other errors of `get_user_pages()` if there is no
    /// writable page; `EOPNOTSUPP` if the page is not anonymous; `EBUSY` if the mapping changed each time; `EINTR` if
    /// killed.
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
            // SAFETY: The call succeeded, so it has locked the folio and taken a reference for us.
            let folio = unsafe { LockedFolio::from_raw(NonNull::new(raw).ok_or(EFAULT)?) };
            let first = folio.pfn();
            // SAFETY: Both pages belong to one folio, so they are in one array of `struct page`.
            let index = unsafe { page.offset_from(bindings::rust_dmirror_pfn_to_page(first)) };
            let mut locked = self.lock();
            if self.notifier().read_retry(seq) {
                // The call itself may have changed the mapping, by a fault or by splitting a huge mapping. The page is
                // exclusive now, and the next try has to undo that, which is another change: undo it before the next
                // try reads its sequence number.
                drop(locked);
                drop(folio);
                let page = address..address + PAGE_SIZE;
                self.fill(room, page, Want::Write, |_, _, _| {})?;
                room.provide_spare()?;
                continue;
            }
            // SAFETY: The mapping has not changed since the page was made exclusive. Any change from now on
            // invalidates first, which waits for the table's lock.
            return unsafe {
                locked.store_exclusive(address, first + index as usize, room.spare())
            };
        }
        Err(EBUSY)
    }
}
