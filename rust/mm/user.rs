// SPDX-License-Identifier: GPL-2.0

//! User memory that is copied to or from with a device page table locked.
//!
//! With the table locked, no page fault may be handled, since that may invalidate, which waits for the lock. A copy
//! fails where a page is not present. The caller then drops the lock, faults the pages in and retries. This avoids
//! an intermediate buffer.
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

/// A range of the calling process's memory. Its size is a number of pages; its address need not be aligned.
///
/// # Invariants
///
/// `nr` pages from `address` on do not wrap. The value is used only by the task that made it, and in the same address
/// space: it cannot be sent to another task, and a task keeps its address space until it returns to user space.
#[derive(Clone, Copy)]
pub struct UserPages {
    address: usize,
    nr: usize,
    // In another task, the address would belong to another address space.
    _nts: NotThreadSafe,
}

assert_not_impl!(UserPages: Send);
assert_not_impl!(UserPages: Sync);

impl UserPages {
    /// Makes a range of `nr` pages from `address` on. Does not check what is mapped there.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the range does not fit in an address space; `EINVAL` if its size in bytes overflows.
    pub fn new(address: u64, nr: usize) -> Result<Self> {
        let address = usize::try_from(address).map_err(|_| EFAULT)?;
        let bytes = nr.checked_mul(PAGE_SIZE).ok_or(EINVAL)?;
        address.checked_add(bytes).ok_or(EFAULT)?;
        // INVARIANT: The range does not wrap, as was just checked. The current task makes the value.
        Ok(UserPages {
            address,
            nr,
            _nts: NotThreadSafe,
        })
    }

    /// Returns the address of `nr` pages from page `at` on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are fewer.
    pub(super) fn part(&self, at: usize, nr: usize) -> Result<usize> {
        match at.checked_add(nr) {
            Some(end) if end <= self.nr => Ok(self.address + (at << PAGE_SHIFT)),
            _ => Err(EINVAL),
        }
    }

    /// Faults `nr` pages in for writing, from page `at` on, without changing their contents. C:
    /// `fault_in_safe_writeable()`. Sleeps; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if one may not be written.
    pub fn fault_in_writeable(&self, at: usize, nr: usize) -> Result {
        let address = self.part(at, nr)? as *const u8;
        // SAFETY: Any address and size may be asked for.
        match unsafe { bindings::fault_in_safe_writeable(address.cast(), nr << PAGE_SHIFT) } {
            0 => Ok(()),
            _ => Err(EFAULT),
        }
    }

    /// Faults `nr` pages in for reading, from page `at` on. C: `fault_in_readable()`. Sleeps; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if one may not be read.
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
