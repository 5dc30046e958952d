// SPDX-License-Identifier: GPL-2.0

//! Address translations that CPUs remember.
//!
//! C header: [`include/linux/vmalloc.h`](srctree/include/linux/vmalloc.h)

use super::bindings;
use kernel::prelude::*;

/// Has all CPUs forget how the kernel's memory is mapped: for measuring what follows as it is after a page
/// was unmapped somewhere. Sleeps. C: `vm_unmap_aliases()`, when there is much to be unmapped.
///
/// # Errors
///
/// `ENOMEM` if there is no memory for that.
pub fn empty() -> Result {
    // SAFETY: The function has no requirements but that it may sleep.
    match unsafe { bindings::rust_dmirror_empty_tlb() } {
        true => Ok(()),
        false => Err(ENOMEM),
    }
}
