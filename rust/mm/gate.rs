// SPDX-License-Identifier: GPL-2.0

//! Points where `fail_function` can make a driver fail. On a kernel without `CONFIG_FUNCTION_ERROR_INJECTION` they
//! never fail.
//!
//! C header: [`include/linux/error-injection.h`](srctree/include/linux/error-injection.h)

#[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
use super::bindings;

/// A point that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// The allocation of a huge destination.
    HugeAlloc,
    /// The allocation of a small destination.
    SmallAlloc,
    /// The copy to a destination.
    Copy,
    /// When it fails, the driver takes an extra reference on the source.
    ExtraRef,
    /// When it fails, the driver holds the source's lock during setup.
    FolioLock,
}

impl Gate {
    /// Returns whether `fail_function` makes this point fail. The injected error does not matter.
    ///
    /// May be called in any context.
    #[cfg(CONFIG_FUNCTION_ERROR_INJECTION)]
    #[inline]
    pub fn fails(self) -> bool {
        // SAFETY: The gates have no requirements.
        let error = unsafe {
            match self {
                Gate::HugeAlloc => bindings::rust_dmirror_gate_huge_alloc(),
                Gate::SmallAlloc => bindings::rust_dmirror_gate_small_alloc(),
                Gate::Copy => bindings::rust_dmirror_gate_copy(),
                Gate::ExtraRef => bindings::rust_dmirror_gate_extra_ref(),
                Gate::FolioLock => bindings::rust_dmirror_gate_folio_lock(),
            }
        };
        error != 0
    }

    /// Returns false.
    #[cfg(not(CONFIG_FUNCTION_ERROR_INJECTION))]
    #[inline]
    pub fn fails(self) -> bool {
        false
    }
}
