// SPDX-License-Identifier: GPL-2.0

//! The TLB entries of the kernel's own address space.
//!
//! C header: [`include/linux/vmalloc.h`](srctree/include/linux/vmalloc.h)

use super::bindings;
use kernel::prelude::*;

/// Flushes the kernel's TLB entries on all CPUs, so that a copy can be measured as it is after a flush. Sleeps. C:
/// `vm_unmap_aliases()`, with enough to unmap that it flushes all.
///
/// # Errors
///
/// `ENOMEM` if there is no memory to unmap.
pub fn empty() -> Result {
    // SAFETY: The function only requires that it may sleep.
    match unsafe { bindings::rust_dmirror_empty_tlb() } {
        true => Ok(()),
        false => Err(ENOMEM),
    }
}
