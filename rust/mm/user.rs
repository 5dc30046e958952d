// SPDX-License-Identifier: GPL-2.0

//! Memory of the calling process that is copied to or from while a lock is held.
//!
//! Under the lock of a device's page table no fault may be taken, since a fault may invalidate, which
//! waits for that lock. So a copy there gives up where a page is not at hand; then, without the lock,
//! the pages are faulted in, and the copy is tried again. That saves a buffer in between.
//!
//! C headers: [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h),
//! [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::{
    bindings,
    bounds::assert_not_impl, //
};
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    types::NotThreadSafe, //
};

/// Whole pages' worth of memory of the calling process, at any address, which need not be aligned.
///
/// # Invariants
///
/// `nr` pages from `address` on do not wrap. The address means something to the task that made this value
/// only, and is used by no other: the value cannot leave the task, which keeps its address space until it
/// goes back to user space, as an `execve()` does.
#[derive(Clone, Copy)]
pub struct UserPages {
    address: usize,
    nr: usize,
    // In another task, it would be an address in another address space.
    _nts: NotThreadSafe,
}

assert_not_impl!(UserPages: Send);
assert_not_impl!(UserPages: Sync);

impl UserPages {
    /// `nr` pages' worth of memory at `address`. Nothing is known of what is there.
    ///
    /// # Errors
    ///
    /// `EFAULT` for what can be no address; `EINVAL` if it is more than there can be.
    pub fn new(address: u64, nr: usize) -> Result<Self> {
        let address = usize::try_from(address).map_err(|_| EFAULT)?;
        let bytes = nr.checked_mul(PAGE_SIZE).ok_or(EINVAL)?;
        address.checked_add(bytes).ok_or(EFAULT)?;
        // INVARIANT: It was just checked, and the current task makes it.
        Ok(UserPages {
            address,
            nr,
            _nts: NotThreadSafe,
        })
    }

    /// The address of `nr` pages from page `at` on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are not as many.
    pub(super) fn part(&self, at: usize, nr: usize) -> Result<usize> {
        match at.checked_add(nr) {
            Some(end) if end <= self.nr => Ok(self.address + (at << PAGE_SHIFT)),
            _ => Err(EINVAL),
        }
    }

    /// Has `nr` pages from page `at` on mapped so that they can be written; what is in them stays.
    /// C: `fault_in_safe_writeable()`. Sleeps; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if that cannot be.
    pub fn fault_in_writeable(&self, at: usize, nr: usize) -> Result {
        let address = self.part(at, nr)? as *const u8;
        // SAFETY: Any address and size may be asked for.
        match unsafe { bindings::fault_in_safe_writeable(address.cast(), nr << PAGE_SHIFT) } {
            0 => Ok(()),
            _ => Err(EFAULT),
        }
    }

    /// Has `nr` pages from page `at` on mapped so that they can be read. C: `fault_in_readable()`.
    /// Sleeps; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if that cannot be.
    pub fn fault_in_readable(&self, at: usize, nr: usize) -> Result {
        let address = self.part(at, nr)? as *const u8;
        // SAFETY: Any address and size may be asked for.
        match unsafe { bindings::fault_in_readable(address.cast(), nr << PAGE_SHIFT) } {
            0 => Ok(()),
            _ => Err(EFAULT),
        }
    }
}

#[kunit_tests(rust_dmirror_user)]
mod tests {
    use super::*;

    #[test]
    fn memory_does_not_wrap() {
        let last = usize::MAX - PAGE_SIZE;
        let error = |address: usize, nr| UserPages::new(address as u64, nr).err();
        assert_eq!(error(last, 1), None);
        assert_eq!(error(last, 2), Some(EFAULT));
        assert_eq!(error(0, usize::MAX), Some(EINVAL));
    }

    #[test]
    fn a_part_is_inside() -> Result {
        let pages = UserPages::new(PAGE_SIZE as u64, 3)?;
        assert_eq!(pages.part(1, 2), Ok(2 * PAGE_SIZE));
        assert_eq!(pages.part(1, 3), Err(EINVAL));
        assert_eq!(pages.part(usize::MAX, 2), Err(EINVAL));
        Ok(())
    }
}
