// SPDX-License-Identifier: GPL-2.0

//! The arrays that the core works on.

use core::ops::{
    Deref,
    DerefMut, //
};
use kernel::prelude::*;

/// One entry per page, and as many again. In place for a single page: most CPU faults are of one, and
/// three allocations cost more than such a fault has to.
pub(in crate::layer::mm) enum Entries {
    Two([usize; 2]),
    Many(KVVec<usize>),
}

impl Entries {
    /// Zeroes, for `npages` pages. May sleep.
    pub(super) fn new(npages: usize) -> Result<Self> {
        Ok(match npages {
            0 | 1 => Entries::Two([0; 2]),
            _ => Entries::Many(KVVec::from_elem(0, npages * 2, GFP_KERNEL | __GFP_NOWARN)?),
        })
    }
}

impl Deref for Entries {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        match self {
            Entries::Two(entries) => entries,
            Entries::Many(entries) => entries,
        }
    }
}

impl DerefMut for Entries {
    fn deref_mut(&mut self) -> &mut [usize] {
        match self {
            Entries::Two(entries) => entries,
            Entries::Many(entries) => entries,
        }
    }
}
