// SPDX-License-Identifier: GPL-2.0

//! The physical addresses that device memory has.

use crate::layer::mm::{
    bindings,
    HUGE_SIZE, //
};
use kernel::prelude::*;

/// The kind of memory that a pagemap has, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Pages in a hole of the physical address space: C `MEMORY_DEVICE_PRIVATE`.
    Private,
    /// Real memory from this physical address on, which the kernel must not use otherwise: C
    /// `MEMORY_DEVICE_COHERENT`.
    Coherent(u64),
}

/// The physical addresses of a pagemap, given back on drop if they were asked for.
///
/// Dropped after `memunmap_pages()`, which `PinnedDrop` of [`Pagemap`] calls: fields go last.
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) size: usize,
    requested: bool,
}

impl Region {
    pub(super) fn new(memory: Memory, size: usize) -> Result<Self> {
        match memory {
            Memory::Private => {
                // SAFETY: The name is a static string.
                let resource = kernel::error::from_err_ptr(unsafe {
                    bindings::rust_dmirror_request_free_region(size, c"hmm_dmirror".as_char_ptr())
                })?;
                if resource.is_null() {
                    return Err(ENOMEM);
                }
                // SAFETY: The region was just made and is not released before drop.
                let start = unsafe { (*resource).start };
                Ok(Region {
                    start,
                    size,
                    requested: true,
                })
            }
            Memory::Coherent(start) => {
                let end = start.checked_add(size as u64).ok_or(EINVAL)?;
                if start == 0 || start % HUGE_SIZE as u64 != 0 || end > isize::MAX as u64 {
                    return Err(EINVAL);
                }
                Ok(Region {
                    start,
                    size,
                    requested: false,
                })
            }
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.requested {
            // SAFETY: The region is ours, and nothing uses it any more.
            unsafe { bindings::rust_dmirror_release_region(self.start, self.size as u64) };
        }
    }
}
