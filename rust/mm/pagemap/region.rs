// SPDX-License-Identifier: GPL-2.0

//! The physical addresses that device memory has.

use crate::layer::mm::{
    bindings,
    HUGE_SIZE, //
};
use kernel::{
    prelude::*,
    str::CStr, //
};

/// The kind of memory that a pagemap has, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Pages in a hole of the physical address space: C `MEMORY_DEVICE_PRIVATE`.
    Private,
    /// Real memory from this physical address on, reserved by the firmware or the command line and
    /// in use by nobody: C `MEMORY_DEVICE_COHERENT`.
    Coherent(u64),
}

/// The physical addresses of a pagemap, requested, and given back on drop.
///
/// Dropped after `memunmap_pages()`, which `PinnedDrop` of [`super::Pagemap`] calls: fields go last.
///
/// # Invariants
///
/// `requested` bytes from `start` on are a resource of ours; the first `size` of them are what was
/// asked for. A hole is found in steps of a memory section, so that it may be larger.
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) size: usize,
    requested: u64,
}

impl Region {
    /// `name` is what it is called in /proc/iomem.
    pub(super) fn new(memory: Memory, size: usize, name: &'static CStr) -> Result<Self> {
        match memory {
            Memory::Private => {
                // SAFETY: The name is a static string.
                let resource = kernel::error::from_err_ptr(unsafe {
                    bindings::rust_dmirror_request_free_region(size, name.as_char_ptr())
                })?;
                if resource.is_null() {
                    return Err(ENOMEM);
                }
                // SAFETY: The region was just made and is not released before drop.
                let (start, end) = unsafe { ((*resource).start, (*resource).end) };
                // INVARIANT: It was just requested, with room for `size` at least.
                Ok(Region {
                    start,
                    size,
                    requested: end - start + 1,
                })
            }
            Memory::Coherent(start) => {
                let end = start.checked_add(size as u64).ok_or(EINVAL)?;
                if start == 0 || start % HUGE_SIZE as u64 != 0 || end > isize::MAX as u64 {
                    return Err(EINVAL);
                }
                // The core does not look whether there is any memory; the CPU would read anything.
                // SAFETY: Only reads the kernel's resources.
                if !unsafe { bindings::rust_dmirror_region_is_reserved(start, size as u64) } {
                    return Err(ENXIO);
                }
                // SAFETY: The name is a static string.
                let is_ours = unsafe {
                    bindings::rust_dmirror_request_region(start, size as u64, name.as_char_ptr())
                };
                if !is_ours {
                    return Err(EBUSY);
                }
                // INVARIANT: It was just requested.
                Ok(Region {
                    start,
                    size,
                    requested: size as u64,
                })
            }
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the region is ours; nothing uses it any more.
        unsafe { bindings::rust_dmirror_release_region(self.start, self.requested) };
    }
}
