// SPDX-License-Identifier: GPL-2.0

//! Kernel memory that simulates the memory of a device.
//!
//! Device-private pages have no data of their own. On a real device, the data is in the device's memory; here it is in
//! a [`Backing`] of 2 MiB. Like device memory, it may be read and written concurrently: no Rust reference to its bytes
//! exists, they are only copied in and out.

use super::{
    bindings,
    user::UserPages,
    HUGE_PAGES,
    HUGE_SIZE, //
};
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    ffi::c_void,
    page::PAGE_SHIFT,
    prelude::*, //
};

/// The data of [`HUGE_PAGES`] device pages.
///
/// # Invariants
///
/// It points to [`HUGE_SIZE`] page-aligned bytes that this value owns and that `kvfree()` frees.
pub struct Backing(NonNull<c_void>);

// SAFETY: This value owns the memory, and any thread may free it by `kvfree()`.
unsafe impl Send for Backing {}
// SAFETY: Only the kernel's copy routines in C access the bytes, as for memory that is shared with a device or with
// user space. A copy that races with another may see old and new bytes mixed.
unsafe impl Sync for Backing {}

impl Backing {
    /// Allocates zeroed memory, charged to the memory cgroup of the caller. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, or if the cgroup is at its limit. Does not invoke the OOM killer.
    pub fn new() -> Result<Self> {
        // SAFETY: It only allocates.
        let memory = unsafe { bindings::rust_dmirror_backing_alloc(HUGE_SIZE) };
        // INVARIANT: It was just allocated, for us.
        Ok(Backing(NonNull::new(memory).ok_or(ENOMEM)?))
    }

    fn pages(&self, first: usize, nr: usize) -> Result<*mut c_void> {
        let end = first.checked_add(nr).ok_or(EINVAL)?;
        if end > HUGE_PAGES {
            return Err(EINVAL);
        }
        self.bytes((first << PAGE_SHIFT)..(end << PAGE_SHIFT))
    }

    fn bytes(&self, range: Range<usize>) -> Result<*mut c_void> {
        if range.start > range.end || range.end > HUGE_SIZE {
            return Err(EINVAL);
        }
        Ok(self.0.as_ptr().wrapping_byte_add(range.start))
    }

    /// Calls `copy` with the address of `nr` pages from page `first` on.
    pub(super) fn copy_out(
        &self,
        first: usize,
        nr: usize,
        copy: impl FnOnce(*const c_void),
    ) -> Result {
        copy(self.pages(first, nr)?);
        Ok(())
    }

    /// Copies `nr` pages of system memory to the pages from `first` on.
    ///
    /// # Safety
    ///
    /// The pages from `pfn` on must be in use and readable during the call.
    pub(super) unsafe fn fill_from_pfns(&self, first: usize, pfn: usize, nr: usize) -> Result {
        let dst = self.pages(first, nr)?;
        // SAFETY: `dst` has room for `nr` pages, which are readable by the requirements of this
        // function.
        unsafe { bindings::rust_dmirror_copy_from_pages(dst, pfn, nr) };
        Ok(())
    }

    /// Copies `nr` pages of `from`, from its page `at` on, to the pages from `first` on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if one of them has fewer pages from there on, or if both are the same memory.
    pub fn fill_from(&self, first: usize, from: &Backing, at: usize, nr: usize) -> Result {
        if self.0 == from.0 {
            return Err(EINVAL);
        }
        let (dst, src) = (self.pages(first, nr)?, from.pages(at, nr)?);
        // SAFETY: Both are `nr` pages, aligned to a page, and owned by different values, so they do
        // not overlap.
        unsafe { bindings::rust_dmirror_copy_memory(dst, src, nr) };
        Ok(())
    }

    /// Fills `nr` pages from page `first` on with zeroes.
    pub fn clear(&self, first: usize, nr: usize) -> Result {
        let dst = self.pages(first, nr)?;
        // SAFETY: `dst` has room for `nr` pages.
        unsafe { bindings::rust_dmirror_clear_memory(dst, nr) };
        Ok(())
    }

    /// Copies `nr` pages from page `first` on to user memory, from its page `at` on. Does not fault.
    ///
    /// # Errors
    ///
    /// `EFAULT` if user memory is not present or may not be written; a part may have been copied. `EINVAL` if that is
    /// past the end of either.
    pub fn copy_to_user(&self, first: usize, nr: usize, to: &UserPages, at: usize) -> Result {
        let (src, to) = (self.pages(first, nr)?, to.part(at, nr)?);
        // SAFETY: `src` is readable for this number of bytes. The function checks user memory.
        to_result(unsafe { bindings::rust_dmirror_copy_to_user(to, src, nr << PAGE_SHIFT) })
    }

    /// As [`Backing::copy_to_user`], in the other direction.
    pub fn copy_from_user(&self, first: usize, nr: usize, from: &UserPages, at: usize) -> Result {
        let (dst, from) = (self.pages(first, nr)?, from.part(at, nr)?);
        // SAFETY: `dst` is ours, no reference to it exists, and it is writable for this number of bytes. The function
        // checks user memory.
        to_result(unsafe { bindings::rust_dmirror_copy_from_user(dst, from, nr << PAGE_SHIFT) })
    }

    /// Copies bytes out, from `offset` on. For tests.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is past the end.
    #[cfg(CONFIG_KUNIT = "y")]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        let src = self.bytes(offset..offset.checked_add(to.len()).ok_or(EINVAL)?)?;
        // SAFETY: Both are valid for that many bytes; `to` is borrowed exclusively.
        unsafe { bindings::rust_dmirror_test_copy(to.as_mut_ptr().cast(), src, to.len()) };
        Ok(())
    }

    /// Copies bytes in, from `offset` on. For tests.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is past the end.
    #[cfg(CONFIG_KUNIT = "y")]
    pub fn write(&self, offset: usize, from: &[u8]) -> Result {
        let dst = self.bytes(offset..offset.checked_add(from.len()).ok_or(EINVAL)?)?;
        // SAFETY: Both are valid for that many bytes; `from` is not part of this memory, to which
        // no reference exists.
        unsafe { bindings::rust_dmirror_test_copy(dst, from.as_ptr().cast(), from.len()) };
        Ok(())
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the memory is ours, and nothing else can reach it now.
        unsafe { bindings::kvfree(self.0.as_ptr()) };
    }
}

#[kunit_tests(rust_dmirror_backing)]
mod tests {
    use super::*;
    use kernel::page::PAGE_SIZE;

    #[test]
    fn bytes_come_back() -> Result {
        let backing = Backing::new()?;
        let mut byte = [1u8; 3];
        backing.read(HUGE_SIZE - 3, &mut byte)?;
        assert_eq!(byte, [0, 0, 0]);
        backing.write(HUGE_SIZE - 3, &[7, 8, 9])?;
        backing.read(HUGE_SIZE - 3, &mut byte)?;
        assert_eq!(byte, [7, 8, 9]);
        backing.clear(HUGE_PAGES - 1, 1)?;
        backing.read(HUGE_SIZE - 3, &mut byte)?;
        assert_eq!(byte, [0, 0, 0]);
        Ok(())
    }

    #[test]
    fn pages_are_copied() -> Result {
        let (from, to) = (Backing::new()?, Backing::new()?);
        from.write(PAGE_SIZE, &[7, 8])?;
        to.fill_from(2, &from, 1, 1)?;
        let mut bytes = [1u8; 3];
        to.read(2 * PAGE_SIZE, &mut bytes)?;
        assert_eq!(bytes, [7, 8, 0]);
        assert_eq!(to.fill_from(0, &to, 1, 1), Err(EINVAL));
        assert_eq!(to.fill_from(1, &from, 0, HUGE_PAGES), Err(EINVAL));
        assert_eq!(to.fill_from(0, &from, 1, HUGE_PAGES), Err(EINVAL));
        Ok(())
    }

    #[test]
    fn the_end_is_the_end() -> Result {
        let backing = Backing::new()?;
        assert_eq!(backing.read(HUGE_SIZE, &mut [0u8; 1]), Err(EINVAL));
        assert_eq!(backing.write(HUGE_SIZE - 1, &[0, 0]), Err(EINVAL));
        assert_eq!(backing.write(usize::MAX, &[0, 0]), Err(EINVAL));
        assert_eq!(backing.clear(HUGE_PAGES, 1), Err(EINVAL));
        assert_eq!(backing.clear(1, HUGE_PAGES), Err(EINVAL));
        assert_eq!(backing.clear(usize::MAX, 2), Err(EINVAL));
        Ok(())
    }
}
